/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/registry_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* The list may never come while a GPU hangs. */
#define LIST_LIMIT_USEC (2 * USEC_PER_SEC)

/* How far the request at the head of a GPU's queue has come. */
enum stage {
        STAGE_NEW,
        STAGE_MODE,     /* waits for the GPU to be held or released */
        STAGE_NUMA,     /* waits for the NUMA job */
        STAGE_ROLLBACK, /* NUMA failed: waits for the old mode */
};

static void answer(struct entry *entry, enum registry_answer answer) {
        struct registry_request *request = entry->request;

        entry->request = request->next;
        request->answered(request, answer);
}

static bool mode_is(const struct entry *entry, bool enabled) {
        return entry_is_enabled(entry) == enabled && entry->gpu.state == (enabled ? GPU_HELD : GPU_RELEASED) &&
               entry->gpu.wanted == enabled;
}

/*
 * The last attempt failed and the next is not due yet, something stronger than a Set forbids it, or the configuration
 * was read again meanwhile and says otherwise.
 */
static bool mode_failed(const struct entry *entry, bool enabled) {
        if (entry->gpu.job != GPU_JOB_NONE)
                return false;
        if (entry_is_enabled(entry) != enabled || (enabled && !entry->gpu.wanted && !entry->stale))
                return true;
        return entry->gpu.failure.error != 0 && entry->gpu.retry_usec != 0;
}

static void start_numa(struct entry *entry, bool online) {
        entry->request->stage = STAGE_NUMA;
        entry_start_job(entry, online ? GPU_JOB_NUMA_ONLINE : GPU_JOB_NUMA_OFFLINE);
}

static enum last_set set_of(bool enable) {
        return enable ? SET_ON : SET_OFF;
}

static void roll_back(struct entry *entry) {
        entry_set(entry, set_of(!entry->request->enable));
        entry->request->stage = STAGE_ROLLBACK;
}

/*
 * A reset by NVML: SetPersistenceModeOnly(disabled), and no Set afterwards, since Get had said disabled. Within a
 * lease, as our runbooks have it, that is so already, and says nothing of the time after it.
 */
static bool is_reset(const struct entry *entry, const struct registry_request *request) {
        return request->kind == REGISTRY_SET_MODE_ONLY && !request->enable && entry->leased;
}

static void serve_new(struct entry *entry) {
        struct registry_request *request = entry->request;
        char text[PCI_ADDRESS_SIZE];

        if (request->kind == REGISTRY_SET_NUMA) {
                if (entry->gpu.job == GPU_JOB_NONE)
                        start_numa(entry, request->enable);
        } else if (is_reset(entry, request)) {
                if (entry->gpu.state == GPU_RELEASED)
                        answer(entry, REGISTRY_DONE);
        } else if (mode_is(entry, request->enable)) {
                log_write(LOG_NOTICE, "device %s - already in requested persistence mode.", entry_address(entry, text));
                entry->last_set = set_of(request->enable);
                answer(entry, REGISTRY_DONE);
        } else {
                entry_set(entry, set_of(request->enable));
                request->stage = STAGE_MODE;
        }
}

static void serve_mode(struct entry *entry) {
        struct registry_request *request = entry->request;

        if (mode_is(entry, request->enable)) {
                if (entry->gpu.job != GPU_JOB_NONE) /* UVM persistence is being changed; NUMA comes after it */
                        return;
                if (request->kind == REGISTRY_SET_MODE && !entry->gpu.info.lacks_numa)
                        start_numa(entry, request->enable);
                else
                        answer(entry, REGISTRY_DONE);
        } else if (!mode_failed(entry, request->enable)) {
                return;
        } else if (request->kind == REGISTRY_SET_MODE && entry->gpu.failure.numa) {
                roll_back(entry);
        } else {
                answer(entry, REGISTRY_FAILED);
        }
}

static void serve_numa(struct entry *entry) {
        struct registry_request *request = entry->request;

        if (entry->gpu.job != GPU_JOB_NONE)
                return;
        if (entry->numa_result >= 0) {
                answer(entry, REGISTRY_DONE);
        } else if (request->kind == REGISTRY_SET_NUMA) {
                answer(entry, REGISTRY_NUMA_FAILED);
        } else {
                roll_back(entry);
        }
}

static void serve_rollback(struct entry *entry) {
        if (mode_is(entry, !entry->request->enable) || mode_failed(entry, !entry->request->enable))
                answer(entry, REGISTRY_NUMA_FAILED);
}

/*
 * An unbind that waited for us goes on as soon as we have let go: a Set that was releasing the GPU has done what it was
 * asked for, whatever became of the GPU then.
 */
static void serve_gone(struct entry *entry) {
        const struct registry_request *request = entry->request;
        bool releasing = request->kind != REGISTRY_SET_NUMA && !request->enable && request->stage != STAGE_NEW;

        if (!releasing)
                answer(entry, REGISTRY_NO_GPU);
        else if (entry->gpu.state == GPU_RELEASED)
                answer(entry, REGISTRY_DONE);
}

uint64_t entry_request_due(const struct entry *entry) {
        return entry->request ? entry->request->since_usec + REGISTRY_REQUEST_LIMIT_SEC * USEC_PER_SEC : UINT64_MAX;
}

/* Takes the request at the head as far as it gets now. */
static void serve_head(struct entry *entry) {
        static void (*const serve[])(struct entry * entry) = {
                [STAGE_NEW] = serve_new,
                [STAGE_MODE] = serve_mode,
                [STAGE_NUMA] = serve_numa,
                [STAGE_ROLLBACK] = serve_rollback,
        };

        if (entry->registry->stopping || entry->gpu.stuck || clock_monotonic_usec() >= entry_request_due(entry))
                answer(entry, REGISTRY_FAILED);
        else if (entry->presence == PRESENCE_GONE)
                serve_gone(entry);
        else
                serve[entry->request->stage](entry);
}

void entry_serve(struct entry *entry) {
        while (entry->request) {
                const struct registry_request *head = entry->request;
                int stage = head->stage;

                serve_head(entry);
                if (entry->request == head && head->stage == stage)
                        return;
        }
}

static void append(struct registry_request **tail, struct registry_request *request) {
        request->next = NULL;
        while (*tail)
                tail = &(*tail)->next;
        *tail = request;
}

void registry_request(struct registry *registry, const struct gpu *gpu, struct registry_request *request) {
        struct entry *entry = container_of(gpu, struct entry, gpu);

        request->stage = STAGE_NEW;
        request->since_usec = clock_monotonic_usec();
        append(&entry->request, request);
        registry_advance(registry);
}

/* ---- of GPUs that are not known ---- */

void registry_request_unlisted(struct registry *registry, const struct pci_address *address,
                               struct registry_request *request) {
        request->stage = STAGE_NEW;
        request->address = *address;
        request->since_usec = clock_monotonic_usec();
        append(&registry->unlisted, request);
        registry_rescan(registry);
        registry_advance(registry);
}

/* Returns whether it is still to wait for a list that was read after it came. */
static bool serve_unlisted(struct registry *registry, struct registry_request *request, uint64_t now_usec) {
        const struct gpu *gpu = registry_find(registry, &request->address);

        if (gpu)
                append(&container_of(gpu, struct entry, gpu)->request, request);
        else if (registry->stopping)
                request->answered(request, REGISTRY_FAILED);
        else if (registry->seen_usec >= request->since_usec || now_usec >= request->since_usec + LIST_LIMIT_USEC)
                request->answered(request, REGISTRY_NO_GPU);
        else
                return true;
        return false;
}

uint64_t registry_serve_unlisted(struct registry *registry, uint64_t now_usec) {
        struct registry_request **next = &registry->unlisted;

        while (*next) {
                struct registry_request *request = *next, *after = request->next;

                if (serve_unlisted(registry, request, now_usec))
                        next = &request->next;
                else
                        *next = after;
        }
        return registry->unlisted ? registry->unlisted->since_usec + LIST_LIMIT_USEC : UINT64_MAX;
}
