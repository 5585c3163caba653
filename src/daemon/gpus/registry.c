/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/registry_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"

/* A job of one GPU on a worker thread. */
struct gpu_flight {
        struct worker_job job;
        struct gpu_task task;
        struct entry *entry;
};

/* ---- one GPU ---- */

const char *entry_address(const struct entry *entry, char buffer[static PCI_ADDRESS_SIZE]) {
        return pci_address_format(&entry->gpu.info.address, buffer);
}

static void entry_changed(struct entry *entry, enum gpu_state before) {
        if (entry->gpu.state != before)
                entry->gpu.since_realtime_usec = clock_realtime_usec();
        entry->registry->changed = true;
}

bool entry_is_enabled(const struct entry *entry) {
        return entry->last_set == SET_NOTHING ? entry->policy.persistence : entry->last_set == SET_ON;
}

/*
 * Whether a GPU is wanted, by rising precedence:
 *
 *      the policy         the configuration file, else the command line (daemon/process/settings.h); a GPU that was
 *                         adopted and is not listed yet stays as it was
 *      the last Set       of a client; valid until the daemon ends, or reads a configuration that has changed for
 *                         this GPU: then that is the more recent decision
 *      a lease            not wanted while it lasts
 *      an unbind          not wanted after the driver's notice
 *      gone, replaced     what is held is useless: it is closed first
 *      the daemon stops   not wanted
 *
 * Apart from this, they are independent: a Set during a lease takes effect when the lease ends.
 */
void entry_update_want(struct entry *entry) {
        const struct registry *registry = entry->registry;
        enum gpu_state before = entry->gpu.state;

        gpu_want(&entry->gpu, entry_is_enabled(entry) && !entry->leased && !entry->unbinding && !entry->stale &&
                                      entry->presence != PRESENCE_GONE && !registry->stopping);
        entry_changed(entry, before);
}

void entry_spoil(struct entry *entry) {
        const struct gpu *gpu = &entry->gpu;
        bool nothing_held = gpu->state == GPU_RELEASED || gpu->state == GPU_FAILED;

        if (nothing_held && gpu->job == GPU_JOB_NONE && !gpu->adopting)
                gpu_retry_now(&entry->gpu);
        else
                entry->stale = true;
        entry_update_want(entry);
}

void entry_set(struct entry *entry, enum last_set last_set) {
        entry->last_set = last_set;
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
}

bool registry_gpu_is_leased(const struct gpu *gpu) {
        return container_of(gpu, struct entry, gpu)->leased;
}

struct registry_policy registry_gpu_policy(const struct gpu *gpu) {
        return container_of(gpu, struct entry, gpu)->policy;
}

/* ---- jobs ---- */

/*
 * What is logged at the end of each job. The texts for open and close are those of NVIDIA's daemon, because programs
 * search for them.
 */
static const struct {
        int level; /* of the success message */
        const char *success;
        int failure_level;
        const char *failure;
} outcomes[] = {
        [GPU_JOB_OPEN] = {LOG_NOTICE, "persistence mode enabled.", LOG_ERR, "failed to open."},
        [GPU_JOB_ADOPT] = {LOG_NOTICE, "persistence mode kept over a restart.", LOG_WARNING,
                           "cannot be taken over from the previous process."},
        [GPU_JOB_CLOSE] = {LOG_NOTICE, "persistence mode disabled.", LOG_ERR, "failed to close."},
        [GPU_JOB_UVM_ENABLE] = {LOG_NOTICE, "UVM persistence mode enabled.", LOG_WARNING,
                                "UVM persistence mode not enabled."},
        [GPU_JOB_UVM_DISABLE] = {LOG_NOTICE, "UVM persistence mode disabled.", LOG_WARNING,
                                 "UVM persistence mode not disabled."},
        [GPU_JOB_NUMA_ONLINE] = {LOG_DEBUG, "NUMA memory is online, or there is none.", LOG_ERR,
                                 "NUMA memory not onlined."},
        [GPU_JOB_NUMA_OFFLINE] = {LOG_DEBUG, "NUMA memory is offline, or there is none.", LOG_ERR,
                                  "NUMA memory not offlined."},
};

static void log_outcome(const struct entry *entry, enum gpu_job job, int result, const struct gpu_failure *failure) {
        char text[PCI_ADDRESS_SIZE];
        const char *address = entry_address(entry, text);

        if (result < 0)
                log_write(outcomes[job].failure_level, "device %s - %s %s", address, outcomes[job].failure,
                          failure->text);
        else
                log_write(outcomes[job].level, "device %s - %s", address, outcomes[job].success);
}

/* A retry that fails for the same reason is not logged again; the status shows the number of failures. */
static bool is_repetition(const struct entry *entry, int result) {
        const struct gpu *gpu = &entry->gpu;

        if (gpu->job == GPU_JOB_UVM_ENABLE)
                return gpu->uvm_failures_in_row > 0 && gpu->uvm_failure.error == result;
        return gpu->job == GPU_JOB_OPEN && gpu->failures_in_row > 0 && entry->failed_result == result;
}

void entry_apply_policy(struct entry *entry) {
        const struct registry *registry = entry->registry;
        bool was_enabled = entry_is_enabled(entry);

        entry->policy = registry->config.policy(&entry->gpu.info, entry->index, registry->config.userdata);
        entry->gpu.uvm_wanted = entry->policy.uvm;
        if (entry_is_enabled(entry) == was_enabled)
                return;
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
}

/*
 * The driver reports the UUID of a GPU only after it has initialised it. Rules that name the UUID apply from then on.
 */
static void learn_uuid(struct entry *entry) {
        struct gpu *gpu = &entry->gpu;

        if (gpu->hold.uuid[0] == '\0' || text_equal(gpu->hold.uuid, gpu->info.uuid))
                return;
        (void)text_copy(gpu->info.uuid, sizeof(gpu->info.uuid), gpu->hold.uuid);
        entry_apply_policy(entry);
}

static void end_job(struct entry *entry, int result, const struct gpu_hold *hold, const struct gpu_failure *failure) {
        struct gpu *gpu = &entry->gpu;
        enum gpu_state before = gpu->state;
        enum gpu_job job = gpu->job;

        if (result >= 0 || !is_repetition(entry, result))
                log_outcome(entry, job, result, failure);
        if (job == GPU_JOB_NUMA_ONLINE || job == GPU_JOB_NUMA_OFFLINE)
                entry->numa_result = result;
        if (job == GPU_JOB_OPEN)
                entry->failed_result = result;
        gpu_end(gpu, result, hold, failure, clock_monotonic_usec());
        learn_uuid(entry);
        if (gpu->state == GPU_RELEASED && entry->stale) {
                entry->stale = false;
                entry_update_want(entry);
        }
        /* The GPU was bound again since the scan, or was adopted before the scan. Another scan shows whether it still
         * has the minor of this hold. */
        if ((job == GPU_JOB_OPEN || job == GPU_JOB_ADOPT) && result >= 0 && gpu->hold.minor != gpu->info.minor)
                registry_rescan(entry->registry);
        entry_changed(entry, before);
}

static void flight_run(struct worker_job *job) {
        gpu_task_run(&container_of(job, struct gpu_flight, job)->task);
}

static void flight_done(struct worker_job *job) {
        CLEANUP(free_ptr) struct gpu_flight *flight = container_of(job, struct gpu_flight, job);
        struct registry *registry = flight->entry->registry;

        end_job(flight->entry, flight->task.result, &flight->task.hold, &flight->task.failure);
        registry_sweep(registry);
        registry_advance(registry);
}

static int launch(struct entry *entry, enum gpu_job job) {
        const struct registry_config *config = &entry->registry->config;
        struct gpu_flight *flight = calloc(1, sizeof(*flight));
        int r;

        if (!flight)
                return -ENOMEM;
        *flight = (struct gpu_flight){
                .job = {.run = flight_run, .done = flight_done},
                .task = {.ops = config->ops,
                         .context = config->context,
                         .job = job,
                         .info = entry->gpu.info,
                         .hold = entry->gpu.hold},
                .entry = entry,
        };
        r = worker_start(config->worker, &flight->job);
        if (r < 0)
                free(flight);
        return r;
}

void entry_start_job(struct entry *entry, enum gpu_job job) {
        enum gpu_state before = entry->gpu.state;
        struct gpu_failure failure = {0};
        int r;

        gpu_begin(&entry->gpu, job, clock_monotonic_usec());
        if (job == GPU_JOB_OPEN || job == GPU_JOB_ADOPT)
                entry->opened_usec = entry->gpu.job_since_usec;
        entry_changed(entry, before);
        r = launch(entry, job);
        if (r < 0) { /* a failure like any other, retried after a pause */
                (void)gpu_failure_set(&failure, r, 0, "cannot start a thread");
                end_job(entry, r, &entry->gpu.hold, &failure);
                if (job == GPU_JOB_ADOPT) /* the descriptors are still open */
                        gpu_adopt(&entry->gpu, &entry->gpu.hold, clock_monotonic_usec() + gpu_retry_pause_usec(r, 1));
        }
}

/* ---- advancing ---- */

static void report_stuck(struct entry *entry, uint64_t now_usec) {
        uint64_t limit_usec = entry->registry->config.stuck_usec;
        char text[PCI_ADDRESS_SIZE];

        if (!gpu_check_stuck(&entry->gpu, now_usec, limit_usec))
                return;
        entry->registry->changed = true;
        log_write(LOG_ERR,
                  "device %s - the driver has not answered for %u s and the daemon waits for it in the background; the "
                  "kernel log may have the reason",
                  entry_address(entry, text), (unsigned)(limit_usec / USEC_PER_SEC));
}

/* Subscribing takes a millisecond. If it takes longer than this limit, the GPUs are opened without waiting for it. */
#define HEARING_LIMIT_USEC (2 * USEC_PER_SEC)

/*
 * Whether we would notice an unbind that begins now, or the driver has refused the subscription. GPUs are opened only
 * then, or after the limit: an unbind that we missed would wait for us for ever.
 */
static bool is_hearing(struct registry *registry) {
        bool hearing = unbinds_is_settled(registry->unbinds);

        if (hearing)
                registry->deaf_usec = 0;
        return hearing;
}

/*
 * Whether the job is an open that has to wait for the subscription, and until when (*ret_wake_usec). After the limit
 * has passed once, later opens do not wait; this ends when the subscription succeeds or is refused.
 */
static bool must_wait(struct entry *entry, enum gpu_job job, uint64_t now_usec, uint64_t *ret_wake_usec) {
        bool opens = job == GPU_JOB_OPEN || job == GPU_JOB_ADOPT;
        struct registry *registry = entry->registry;
        bool waits = opens && !is_hearing(registry);

        if (waits && registry->deaf_usec == 0)
                registry->deaf_usec = now_usec;
        waits = waits && now_usec < registry->deaf_usec + HEARING_LIMIT_USEC;
        if (waits)
                *ret_wake_usec = registry->deaf_usec + HEARING_LIMIT_USEC;
        if (waits && !entry->waiting)
                registry->changed = true; /* counts.using grows, so the subscription is wanted */
        entry->waiting = waits;
        return waits;
}

/*
 * Serves the requests of the GPU, and starts its next job. Returns true if the job could not be started. Then call it
 * again: it answers a request that has failed with the job, and sets *ret_wake_usec to the end of the pause after the
 * failure.
 */
static bool try_next(struct entry *entry, uint64_t now_usec, uint64_t *ret_wake_usec) {
        enum gpu_job job;

        entry_serve(entry);
        job = gpu_next(&entry->gpu, now_usec, ret_wake_usec);
        if (must_wait(entry, job, now_usec, ret_wake_usec) || job == GPU_JOB_NONE)
                return false;
        entry_start_job(entry, job);
        return entry->gpu.job == GPU_JOB_NONE;
}

/* Does what is due for one GPU. Returns when to call it again if nothing happens before. */
static uint64_t advance_entry(struct entry *entry, uint64_t now_usec) {
        const struct registry *registry = entry->registry;
        uint64_t wake_usec = UINT64_MAX;

        report_stuck(entry, now_usec);
        if (registry->stopping && registry->keep_gpus) {
                entry_serve(entry);
                return UINT64_MAX;
        }
        while (try_next(entry, now_usec, &wake_usec))
                ;
        if (entry->gpu.job != GPU_JOB_NONE && !entry->gpu.stuck)
                wake_usec = entry->gpu.job_since_usec + registry->config.stuck_usec;
        return wake_usec < entry_request_due(entry) ? wake_usec : entry_request_due(entry);
}

static void arm_timer(struct registry *registry, uint64_t wake_usec, uint64_t now_usec) {
        uint64_t pause_usec = wake_usec > now_usec ? wake_usec - now_usec : 0;
        struct timeval pause = clock_timeval(pause_usec);

        if (wake_usec == UINT64_MAX)
                (void)event_del(registry->timer);
        else
                (void)event_add(registry->timer, &pause);
}

static bool all_attempted(const struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                if (gpu->adopting || (gpu->wanted && !gpu->attempted))
                        return false;
        }
        return registry->scanned;
}

/*
 * Whether every GPU that must be released is released. A question or a scan may still run: nobody needs its result, and
 * it may hang with a GPU that hangs.
 */
static bool all_stopped(const struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                if (gpu->job != GPU_JOB_NONE || (!registry->keep_gpus && !gpu_is_closed(gpu)))
                        return false;
        }
        return true;
}

/* Subscribes to unbind notices while an unbind would have to wait for us, or one is in progress. */
static void follow_unbinds(struct registry *registry) {
        struct registry_counts counts = registry_count(registry);

        unbinds_want(registry->unbinds, counts.using > 0 || counts.unbinding > 0);
}

static void tell(struct registry *registry) {
        const struct registry_config *config = &registry->config;

        if (!registry->ready && !registry->stopping && all_attempted(registry)) {
                registry->ready = true;
                registry->changed = true;
                config->on_ready(config->userdata);
        }
        if (take_bool(&registry->changed)) {
                follow_unbinds(registry);
                config->on_change(config->userdata);
        }
        if (registry->stopping && !registry->stopped && all_stopped(registry)) {
                registry->stopped = true;
                config->on_stopped(config->userdata);
        }
}

/*
 * Every event advances all GPUs: there are few, and the steps are cheap. The callbacks called here must not change the
 * registry (registry.h).
 */
void registry_advance(struct registry *registry) {
        uint64_t now_usec = clock_monotonic_usec();
        uint64_t nearest_usec = registry_serve_unlisted(registry, now_usec);
        uint64_t wake_usec;

        for (size_t i = 0; i < registry->n_entries; i++) {
                wake_usec = advance_entry(registry->entries[i], now_usec);
                if (wake_usec < nearest_usec)
                        nearest_usec = wake_usec;
        }
        registry_ask(registry);
        wake_usec = registry_tell_leases(registry, now_usec);
        arm_timer(registry, wake_usec < nearest_usec ? wake_usec : nearest_usec, now_usec);
        tell(registry);
}

static void on_unbinds_event(const struct rm_event *event, void *userdata) {
        registry_note_event(userdata, event);
}

static void on_log_unbind(const struct pci_address *address, void *userdata) {
        registry_note_unbind(userdata, address);
}

static void on_unbinds_change(void *userdata) {
        (void)is_hearing(userdata);
        registry_advance(userdata);
}

int registry_take_log(struct registry *registry, int log_fd) {
        return unbinds_take_log(registry->unbinds, log_fd);
}

static void on_timer(evutil_socket_t fd, short what, void *userdata) {
        registry_advance(userdata);
}

static void on_scan_timer(evutil_socket_t fd, short what, void *userdata) {
        registry_rescan(userdata);
}

/* ---- the set of GPUs ---- */

/* The descriptors of this GPU from a previous process; NULL: none. */
static struct inheritance *find_inheritance(const struct registry *registry, const struct pci_address *address) {
        struct inheritance *inheritance = LIST_FIRST(&registry->inheritances);

        while (inheritance && pci_address_compare(&inheritance->address, address) != 0)
                inheritance = LIST_NEXT(inheritance, link);
        return inheritance;
}

static void inherit(struct registry *registry, struct gpu *gpu) {
        CLEANUP(free_ptr) struct inheritance *inheritance = find_inheritance(registry, &gpu->info.address);

        if (!inheritance)
                return;
        LIST_REMOVE(inheritance, link);
        gpu_adopt(gpu, &inheritance->hold, 0);
}

static int insert(struct registry *registry, struct entry *entry) {
        struct entry **entries;
        size_t at = registry->n_entries;

        entries = array_grown((void *)registry->entries, registry->n_entries, sizeof(struct entry *));
        if (!entries)
                return -ENOMEM;
        registry->entries = entries;
        for (; at > 0 && pci_address_compare(&entries[at - 1]->gpu.info.address, &entry->gpu.info.address) > 0; at--)
                entries[at] = entries[at - 1];
        entries[at] = entry;
        registry->n_entries++;
        return 0;
}

/* ---- the last Set of GPUs that left ---- */

static void forget(struct remembered_set *set) {
        LIST_REMOVE(set, link);
        free(set);
}

/* If calloc() fails, the GPU comes back as configured. */
static void remember(struct registry *registry, const struct entry *entry) {
        struct remembered_set *set;

        if (entry->last_set == SET_NOTHING)
                return;
        set = calloc(1, sizeof(*set));
        if (!set)
                return;
        *set = (struct remembered_set){
                .info = entry->gpu.info,
                .index = entry->index,
                .configured = entry->policy.persistence,
                .last_set = entry->last_set,
        };
        LIST_INSERT_HEAD(&registry->remembered, set, link);
}

bool is_other_gpu(const char *first, const char *second) {
        return first[0] != '\0' && second[0] != '\0' && !text_equal(first, second);
}

/* The last Set of a client, if the GPU was here before. */
static enum last_set recall(struct registry *registry, const struct gpu_info *info) {
        enum last_set last_set = SET_NOTHING;
        struct remembered_set *set;

        LIST_FOREACH(set, &registry->remembered, link)
                if (pci_address_compare(&set->info.address, &info->address) == 0) {
                        if (!is_other_gpu(set->info.uuid, info->uuid))
                                last_set = set->last_set;
                        forget(set);
                        break;
                }
        return last_set;
}

/* A changed configuration overrides the last Set of absent GPUs, too. */
static void forget_what_is_configured_otherwise(struct registry *registry) {
        const struct registry_config *config = &registry->config;
        struct remembered_set *next;

        for (struct remembered_set *set = LIST_FIRST(&registry->remembered); set; set = next) {
                struct registry_policy policy = config->policy(&set->info, set->index, config->userdata);

                next = LIST_NEXT(set, link);
                if (policy.persistence != set->configured)
                        forget(set);
        }
}

int registry_add_entry(struct registry *registry, const struct gpu_info *info, int index) {
        CLEANUP(free_ptr) struct entry *entry = calloc(1, sizeof(*entry));
        char text[PCI_ADDRESS_SIZE];
        int r;

        if (!entry)
                return -ENOMEM;
        gpu_init(&entry->gpu, info);
        entry->registry = registry;
        entry->index = index;
        STAILQ_INIT(&entry->requests);
        r = insert(registry, entry);
        if (r < 0)
                return r;
        entry->policy = registry->config.policy(info, index, registry->config.userdata);
        entry->gpu.uvm_wanted = entry->policy.uvm;
        entry->leased = registry_lease_covers(registry, &info->address);
        inherit(registry, &entry->gpu);
        if (entry->gpu.adopting && info->minor == GPU_MINOR_UNKNOWN) {
                entry->presence = PRESENCE_ASSUMED;
                entry->policy.persistence = true;
                entry->policy.uvm = entry->gpu.uvm_wanted = entry->gpu.hold.uvm_fd >= 0;
        }
        log_write(LOG_DEBUG, "device %s - registered", entry_address(entry, text));
        entry_set(entry, recall(registry, info));
        (void)take_ptr(entry);
        return 0;
}

void registry_sweep(struct registry *registry) {
        size_t kept = 0;

        for (size_t i = 0; i < registry->n_entries; i++) {
                struct entry *entry = registry->entries[i];

                if (entry->presence == PRESENCE_GONE && gpu_is_closed(&entry->gpu) && STAILQ_EMPTY(&entry->requests)) {
                        remember(registry, entry);
                        free(entry);
                        registry->changed = true;
                } else {
                        registry->entries[kept++] = entry;
                }
        }
        registry->n_entries = kept;
}

void registry_set_stuck_limit(struct registry *registry, uint64_t stuck_usec) {
        registry->config.stuck_usec = stuck_usec;
}

void registry_apply_policy(struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                struct entry *entry = registry->entries[i];
                bool configured = entry->policy.persistence;

                entry_apply_policy(entry);
                if (entry->policy.persistence != configured)
                        entry_set(entry, SET_NOTHING);
        }
        forget_what_is_configured_otherwise(registry);
        registry->changed = true;
        registry_advance(registry);
}

/* ---- life ---- */

int registry_new(struct registry **ret_registry, const struct registry_config *config) {
        struct registry *registry = calloc(1, sizeof(*registry));
        const struct unbinds_config unbinds = {
                .loop = config->loop,
                .worker = config->worker,
                .ops = config->ops,
                .context = config->context,
                .on_event = on_unbinds_event,
                .on_log_unbind = on_log_unbind,
                .on_change = on_unbinds_change,
                .userdata = registry,
        };

        if (!registry)
                return -ENOMEM;
        registry->config = *config;
        registry->polling = true;
        STAILQ_INIT(&registry->unlisted);
        registry->timer = event_new(config->loop, -1, 0, on_timer, registry);
        registry->scan_timer = event_new(config->loop, -1, 0, on_scan_timer, registry);
        if (!registry->timer || !registry->scan_timer || unbinds_new(&registry->unbinds, &unbinds) < 0) {
                registry_free(registry);
                return -ENOMEM;
        }
        *ret_registry = registry;
        return 0;
}

static void free_inheritances(struct registry *registry) {
        while (!LIST_EMPTY(&registry->inheritances)) {
                struct inheritance *inheritance = LIST_FIRST(&registry->inheritances);

                LIST_REMOVE(inheritance, link);
                free(inheritance); /* its descriptors are closed when the process ends */
        }
}

void registry_free(struct registry *registry) {
        if (!registry)
                return;
        for (size_t i = 0; i < registry->n_entries; i++)
                free(registry->entries[i]);
        free((void *)registry->entries);
        free_inheritances(registry);
        while (!LIST_EMPTY(&registry->remembered))
                forget(LIST_FIRST(&registry->remembered));
        unbinds_free(registry->unbinds);
        if (registry->timer)
                event_free(registry->timer);
        if (registry->scan_timer)
                event_free(registry->scan_timer);
        free(registry);
}

static struct inheritance *get_inheritance(struct registry *registry, const struct pci_address *address) {
        struct inheritance *inheritance = find_inheritance(registry, address);

        if (inheritance)
                return inheritance;
        inheritance = calloc(1, sizeof(*inheritance));
        if (!inheritance)
                return NULL;
        *inheritance = (struct inheritance){.address = *address, .hold = GPU_HOLD_NONE};
        LIST_INSERT_HEAD(&registry->inheritances, inheritance, link);
        return inheritance;
}

/*
 * Two descriptors have the same name if the keeper missed our request to drop the first. If that stayed open, it would
 * hold the GPU for ever.
 */
static void replace_fd(int *fd, int new_fd) {
        (void)fd_close(*fd);
        *fd = new_fd;
}

int registry_adopt(struct registry *registry, const struct pci_address *address, const struct gpu_hold *hold) {
        struct inheritance *inheritance = get_inheritance(registry, address);

        if (!inheritance)
                return -ENOMEM;
        if (hold->device_fd >= 0)
                replace_fd(&inheritance->hold.device_fd, hold->device_fd);
        if (hold->uvm_fd >= 0)
                replace_fd(&inheritance->hold.uvm_fd, hold->uvm_fd);
        return 0;
}

void registry_start(struct registry *registry) {
        registry_take_inheritances(registry);
        registry_advance(registry);
        registry_rescan(registry);
}

void registry_stop(struct registry *registry, bool keep_gpus) {
        registry->stopping = true;
        registry->keep_gpus = keep_gpus;
        (void)event_del(registry->scan_timer);
        for (size_t i = 0; i < registry->n_entries; i++) {
                gpu_retry_now(&registry->entries[i]->gpu);
                if (!keep_gpus)
                        entry_update_want(registry->entries[i]);
        }
        registry_advance(registry);
}

/* ---- reading ---- */

void registry_refresh(struct registry *registry) {
        uint64_t now_usec = clock_monotonic_usec();

        for (size_t i = 0; i < registry->n_entries; i++)
                gpu_refresh(&registry->entries[i]->gpu, now_usec);
        registry_advance(registry);
}

struct registry_counts registry_count(const struct registry *registry) {
        struct registry_counts counts = {.gpus = registry->n_entries};

        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                counts.wanted += gpu->wanted;
                counts.held += gpu->state == GPU_HELD;
                counts.failed += gpu->state == GPU_FAILED;
                counts.busy += gpu->job != GPU_JOB_NONE;
                counts.using += gpu->state == GPU_HELD || gpu->state == GPU_OPENING || registry->entries[i]->waiting;
                counts.unbinding += registry->entries[i]->unbinding;
        }
        return counts;
}

bool registry_is_listed(const struct registry *registry) {
        return registry->scanned;
}

bool registry_is_ready(const struct registry *registry) {
        return registry->ready;
}

const struct gpu *registry_gpu(const struct registry *registry, size_t index) {
        return index < registry->n_entries ? &registry->entries[index]->gpu : NULL;
}

const struct gpu *registry_find(const struct registry *registry, const struct pci_address *address) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;
                const struct pci_address *its = &gpu->info.address;

                if (its->domain == address->domain && its->bus == address->bus && its->slot == address->slot)
                        return gpu;
        }
        return NULL;
}
