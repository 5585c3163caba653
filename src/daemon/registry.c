/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/registry.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/worker.h"

struct entry {
        struct gpu gpu;
        struct registry *registry;
        bool enabled;                     /* persistence, as configured or last set by an RPC */
        struct registry_request *request; /* the one being served, and those behind it */
        int numa_result;                  /* of the last NUMA job */
};

struct registry {
        struct registry_config config;
        struct entry **entries; /* by ascending address */
        size_t n_entries;
        struct event *timer; /* the end of the nearest pause or limit */
        uint64_t serial;
        uint64_t told_serial; /* the last that on_change was called for */
        bool advancing;       /* advance() is running; an answer that asks for more sets `again` */
        bool again;
        bool ready;
        bool stopping;
        bool stopped;
};

/* A job of one GPU on its way through a worker thread. */
struct flight {
        struct worker_job job;
        struct gpu_task task;
        struct entry *entry;
};

/* How far the request at the head of an entry's queue has come. */
enum stage {
        STAGE_NEW,
        STAGE_MODE,     /* waits for the GPU to be held or released */
        STAGE_NUMA,     /* waits for the NUMA job */
        STAGE_ROLLBACK, /* NUMA failed: waits for the old mode */
};

static void advance(struct registry *registry);

/* ---- jobs
 * -------------------------------------------------------------------------------------------------------------- */

static const char *address_of(const struct gpu *gpu, char buffer[static PCI_ADDRESS_SIZE]) {
        return pci_address_format(&gpu->info.address, buffer);
}

/* One line per event of a GPU's life. "registered", "persistence mode enabled." and so on are grepped for in the field.
 */
static void log_outcome(const struct gpu *gpu, enum gpu_job job, int result, const struct gpu_failure *failure) {
        char text[PCI_ADDRESS_SIZE];
        const char *address = address_of(gpu, text);

        switch (job) {
        case GPU_JOB_OPEN:
                if (result < 0)
                        log_write(LOG_ERR, "device %s - failed to open. %s", address, failure->text);
                else
                        log_write(LOG_NOTICE, "device %s - persistence mode enabled.", address);
                break;
        case GPU_JOB_CLOSE:
                if (result < 0)
                        log_write(LOG_ERR, "device %s - failed to close. %s", address, failure->text);
                else
                        log_write(LOG_NOTICE, "device %s - persistence mode disabled.", address);
                break;
        case GPU_JOB_UVM_ENABLE:
        case GPU_JOB_UVM_DISABLE:
                if (result < 0)
                        log_write(LOG_WARNING, "device %s - UVM persistence mode not changed. %s", address,
                                  failure->text);
                else
                        log_write(LOG_NOTICE, "device %s - UVM persistence mode %s.", address,
                                  job == GPU_JOB_UVM_ENABLE ? "enabled" : "disabled");
                break;
        case GPU_JOB_NUMA_ONLINE:
        case GPU_JOB_NUMA_OFFLINE:
                if (result < 0)
                        log_write(LOG_ERR, "device %s - failed to bring its memory %s. %s", address,
                                  job == GPU_JOB_NUMA_ONLINE ? "online" : "offline", failure->text);
                break;
        case GPU_JOB_NONE:
                break;
        }
}

static void changed(struct entry *entry, enum gpu_state before) {
        struct registry *registry = entry->registry;

        if (entry->gpu.state != before)
                entry->gpu.since_realtime_usec = clock_realtime_usec();
        registry->serial++;
}

static void end_job(struct entry *entry, int result, const struct gpu_hold *hold, const struct gpu_failure *failure) {
        enum gpu_state before = entry->gpu.state;
        enum gpu_job job = entry->gpu.job;
        bool repeated = result < 0 && entry->gpu.failure.error == result && entry->gpu.failures_in_row > 0;

        if (job == GPU_JOB_NUMA_ONLINE || job == GPU_JOB_NUMA_OFFLINE)
                entry->numa_result = result;
        if (job == GPU_JOB_UVM_ENABLE)
                repeated = result < 0 && entry->gpu.uvm_failure.error == result;
        if (!repeated) /* a retry that fails as before is no news; the status tells how often it was tried */
                log_outcome(&entry->gpu, job, result, failure);
        gpu_end(&entry->gpu, result, hold, failure, clock_monotonic_usec());
        changed(entry, before);
}

static void flight_run(struct worker_job *job) {
        gpu_task_run(&container_of(job, struct flight, job)->task);
}

static void flight_done(struct worker_job *job) {
        CLEANUP(free_ptr) struct flight *flight = container_of(job, struct flight, job);
        struct entry *entry = flight->entry;

        end_job(entry, flight->task.result, &flight->task.hold, &flight->task.failure);
        advance(entry->registry);
}

static void start_job(struct entry *entry, enum gpu_job job) {
        struct registry *registry = entry->registry;
        struct flight *flight = calloc(1, sizeof(*flight));
        enum gpu_state before = entry->gpu.state;
        int r = -ENOMEM;

        gpu_begin(&entry->gpu, job, clock_monotonic_usec());
        changed(entry, before);
        if (flight) {
                *flight = (struct flight){
                        .job = {.run = flight_run, .done = flight_done},
                        .task = {.ops = registry->config.ops,
                                 .context = registry->config.context,
                                 .job = job,
                                 .info = entry->gpu.info,
                                 .hold = entry->gpu.hold},
                        .entry = entry,
                };
                r = worker_start(registry->config.worker, &flight->job);
        }
        if (r < 0) { /* no thread to be had: a failure like any other, retried after a pause */
                struct gpu_failure failure = {0};

                free(flight);
                (void)gpu_failure_set(&failure, r, 0, "cannot start a thread");
                end_job(entry, r, &entry->gpu.hold, &failure);
        }
}

/* ---- requests
 * ---------------------------------------------------------------------------------------------------------- */

static void answer(struct entry *entry, enum nvpd_status status) {
        struct registry_request *request = entry->request;

        entry->request = request->next;
        request->answered(request, status);
}

static void want(struct entry *entry, bool enabled) {
        enum gpu_state before = entry->gpu.state;

        entry->enabled = enabled;
        gpu_want(&entry->gpu, enabled && !entry->registry->stopping);
        gpu_retry_now(&entry->gpu);
        changed(entry, before);
}

static bool mode_is(const struct entry *entry, bool enabled) {
        return entry->enabled == enabled && entry->gpu.state == (enabled ? GPU_HELD : GPU_RELEASED) &&
               entry->gpu.wanted == enabled;
}

/* The last attempt failed and the next is not due yet. */
static bool mode_failed(const struct entry *entry) {
        return entry->gpu.job == GPU_JOB_NONE && entry->gpu.failure.error != 0 && entry->gpu.retry_usec != 0;
}

static void start_numa(struct entry *entry, bool online) {
        entry->request->stage = STAGE_NUMA;
        start_job(entry, online ? GPU_JOB_NUMA_ONLINE : GPU_JOB_NUMA_OFFLINE);
}

static void serve_new(struct entry *entry) {
        struct registry_request *request = entry->request;
        char text[PCI_ADDRESS_SIZE];

        if (entry->gpu.job != GPU_JOB_NONE && request->kind == REGISTRY_SET_NUMA)
                return;
        if (request->kind == REGISTRY_SET_NUMA) {
                start_numa(entry, request->enable);
                return;
        }
        if (mode_is(entry, request->enable)) {
                log_write(LOG_NOTICE, "device %s - already in requested persistence mode.",
                          address_of(&entry->gpu, text));
                answer(entry, NVPD_SUCCESS);
                return;
        }
        want(entry, request->enable);
        request->stage = STAGE_MODE;
}

static void serve_mode(struct entry *entry) {
        struct registry_request *request = entry->request;

        if (mode_is(entry, request->enable)) {
                if (entry->gpu.job != GPU_JOB_NONE) /* UVM persistence is being changed; NUMA comes after it */
                        return;
                if (request->kind == REGISTRY_SET_MODE)
                        start_numa(entry, request->enable);
                else
                        answer(entry, NVPD_SUCCESS);
        } else if (mode_failed(entry)) {
                answer(entry, NVPD_DRIVER);
        }
}

static void serve_numa(struct entry *entry) {
        struct registry_request *request = entry->request;

        if (entry->gpu.job != GPU_JOB_NONE)
                return;
        if (entry->numa_result >= 0) {
                answer(entry, NVPD_SUCCESS);
        } else if (request->kind == REGISTRY_SET_NUMA) {
                answer(entry, NVPD_NUMA_FAILURE);
        } else {
                want(entry, !request->enable);
                request->stage = STAGE_ROLLBACK;
        }
}

static void serve_rollback(struct entry *entry) {
        if (mode_is(entry, !entry->request->enable) || mode_failed(entry))
                answer(entry, NVPD_NUMA_FAILURE);
}

/* Takes the request at the head as far as it gets now. */
static void serve_step(struct entry *entry) {
        switch ((enum stage)entry->request->stage) {
        case STAGE_NEW:
                serve_new(entry);
                break;
        case STAGE_MODE:
                serve_mode(entry);
                break;
        case STAGE_NUMA:
                serve_numa(entry);
                break;
        case STAGE_ROLLBACK:
                serve_rollback(entry);
                break;
        }
}

static void serve(struct entry *entry) {
        while (entry->request) {
                const struct registry_request *before = entry->request;
                int stage = before->stage;

                if (entry->registry->stopping || entry->gpu.stuck)
                        answer(entry, NVPD_DRIVER);
                else
                        serve_step(entry);
                if (entry->request == before && before->stage == stage)
                        return;
        }
}

/* ---- driving
 * ----------------------------------------------------------------------------------------------------------- */

static void report_stuck(struct entry *entry, uint64_t now_usec) {
        char text[PCI_ADDRESS_SIZE];

        if (!gpu_check_stuck(&entry->gpu, now_usec, entry->registry->config.stuck_usec))
                return;
        entry->registry->serial++;
        log_write(LOG_ERR,
                  "device %s - the driver has not answered for %u s and is waited for in the background; "
                  "the kernel log may say why",
                  address_of(&entry->gpu, text), (unsigned)(entry->registry->config.stuck_usec / USEC_PER_SEC));
}

/* Does what is due for one GPU. Returns when to look again if nothing happens before. */
static uint64_t advance_entry(struct entry *entry, uint64_t now_usec) {
        uint64_t wake_usec;
        enum gpu_job job;

        report_stuck(entry, now_usec);
        serve(entry);
        job = gpu_next(&entry->gpu, now_usec, &wake_usec);
        if (job != GPU_JOB_NONE)
                start_job(entry, job);
        if (entry->gpu.job != GPU_JOB_NONE && !entry->gpu.stuck)
                return entry->gpu.job_since_usec + entry->registry->config.stuck_usec;
        return wake_usec;
}

static void arm_timer(struct registry *registry, uint64_t wake_usec, uint64_t now_usec) {
        uint64_t pause_usec = wake_usec > now_usec ? wake_usec - now_usec : 0;
        struct timeval pause = {
                .tv_sec = (time_t)(pause_usec / USEC_PER_SEC),
                .tv_usec = (suseconds_t)(pause_usec % USEC_PER_SEC),
        };

        if (wake_usec == UINT64_MAX)
                (void)event_del(registry->timer);
        else
                (void)event_add(registry->timer, &pause);
}

static bool all_attempted(const struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                if (gpu->wanted && !gpu->attempted)
                        return false;
        }
        return true;
}

static bool all_released(const struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                if (gpu->state != GPU_RELEASED || gpu->job != GPU_JOB_NONE)
                        return false;
        }
        return true;
}

static void tell(struct registry *registry) {
        const struct registry_config *config = &registry->config;

        if (!registry->ready && !registry->stopping && all_attempted(registry)) {
                registry->ready = true;
                registry->serial++;
                config->on_ready(config->userdata);
        }
        if (registry->serial != registry->told_serial && config->on_change)
                config->on_change(config->userdata);
        registry->told_serial = registry->serial;
        if (registry->stopping && !registry->stopped && all_released(registry)) {
                registry->stopped = true;
                config->on_stopped(config->userdata);
        }
}

static void advance_once(struct registry *registry) {
        uint64_t now_usec = clock_monotonic_usec();
        uint64_t nearest_usec = UINT64_MAX;

        for (size_t i = 0; i < registry->n_entries; i++) {
                uint64_t wake_usec = advance_entry(registry->entries[i], now_usec);

                if (wake_usec < nearest_usec)
                        nearest_usec = wake_usec;
        }
        arm_timer(registry, nearest_usec, now_usec);
}

/*
 * Takes every GPU as far as it gets now: after every event, however small. There are few GPUs and the steps are cheap.
 * A request that is answered may bring the client's next one: that one finds `advancing` set and is served in another
 * turn.
 */
static void advance(struct registry *registry) {
        registry->again = true;
        if (registry->advancing)
                return;
        registry->advancing = true;
        while (registry->again) {
                registry->again = false;
                advance_once(registry);
        }
        registry->advancing = false;
        tell(registry);
}

static void on_timer(evutil_socket_t fd, short what, void *userdata) {
        advance(userdata);
}

/* ---- life
 * -------------------------------------------------------------------------------------------------------------- */

int registry_new(struct registry **ret_registry, const struct registry_config *config) {
        struct registry *registry = calloc(1, sizeof(*registry));

        if (!registry)
                return -ENOMEM;
        registry->config = *config;
        registry->timer = event_new(config->loop, -1, 0, on_timer, registry);
        if (!registry->timer) {
                free(registry);
                return -ENOMEM;
        }
        *ret_registry = registry;
        return 0;
}

void registry_free(struct registry *registry) {
        if (!registry)
                return;
        for (size_t i = 0; i < registry->n_entries; i++)
                free(registry->entries[i]);
        event_free(registry->timer);
        free((void *)registry->entries);
        free(registry);
}

static int add_entry(struct registry *registry, const struct gpu_info *info) {
        struct entry *entry = calloc(1, sizeof(*entry));
        char text[PCI_ADDRESS_SIZE];

        if (!entry)
                return -ENOMEM;
        gpu_init(&entry->gpu, info);
        entry->gpu.uvm_wanted = registry->config.uvm;
        entry->registry = registry;
        registry->entries[registry->n_entries++] = entry;
        log_write(LOG_DEBUG, "device %s - registered", address_of(&entry->gpu, text));
        want(entry, registry->config.persistence);
        return 0;
}

int registry_start(struct registry *registry) {
        CLEANUP(free_ptr) struct gpu_info *infos = NULL;
        size_t n = 0;
        int r;

        r = registry->config.ops->list(registry->config.context, &infos, &n);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot list the GPUs");
        registry->entries = calloc(n + 1, sizeof(struct entry *));
        if (!registry->entries)
                return log_errno(LOG_ERR, -ENOMEM, "cannot register %zu GPUs", n);
        for (size_t i = 0; i < n; i++) {
                r = add_entry(registry, &infos[i]);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "cannot register %zu GPUs", n);
        }
        if (n == 0)
                log_write(LOG_WARNING, "no NVIDIA GPU found; is the NVIDIA driver loaded?");
        advance(registry);
        return 0;
}

void registry_stop(struct registry *registry) {
        registry->stopping = true;
        for (size_t i = 0; i < registry->n_entries; i++)
                want(registry->entries[i], false);
        advance(registry);
}

/* ---- questions
 * --------------------------------------------------------------------------------------------------------- */

struct registry_counts registry_count(const struct registry *registry) {
        struct registry_counts counts = {.gpus = registry->n_entries};

        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                counts.wanted += gpu->wanted;
                counts.held += gpu->state == GPU_HELD;
                counts.failed += gpu->state == GPU_FAILED;
                counts.busy += gpu->job != GPU_JOB_NONE;
        }
        return counts;
}

bool registry_is_ready(const struct registry *registry) {
        return registry->ready;
}

uint64_t registry_serial(const struct registry *registry) {
        return registry->serial;
}

const struct gpu *registry_gpu(const struct registry *registry, size_t index) {
        return index < registry->n_entries ? &registry->entries[index]->gpu : NULL;
}

const struct gpu *registry_find(const struct registry *registry, const struct nvpd_device *device) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct pci_address *address = &registry->entries[i]->gpu.info.address;

                if ((uint32_t)device->domain == address->domain && device->bus == address->bus &&
                    device->slot == address->slot)
                        return &registry->entries[i]->gpu;
        }
        return NULL;
}

void registry_request(struct registry *registry, const struct gpu *gpu, struct registry_request *request) {
        struct entry *entry = container_of(gpu, struct entry, gpu);
        struct registry_request **tail = &entry->request;

        request->stage = STAGE_NEW;
        request->next = NULL;
        while (*tail)
                tail = &(*tail)->next;
        *tail = request;
        advance(registry);
}
