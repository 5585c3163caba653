/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/registry_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* The limit for waiting for the driver's list, which may never come while a GPU hangs. */
#define LIST_LIMIT_USEC (2 * USEC_PER_SEC)

/* How far the request at the head of a GPU's queue has come. */
enum stage {
        STAGE_NEW,
        STAGE_MODE,     /* waits until the GPU is held or released */
        STAGE_NUMA,     /* waits for the NUMA job */
        STAGE_ROLLBACK, /* NUMA failed: waits until the old mode is restored */
};

/* The request that is being served, or NULL. */
static struct registry_request *head(const struct entry *entry) {
        return STAILQ_FIRST(&entry->requests);
}

static void answer(struct entry *entry, enum registry_answer answer) {
        struct registry_request *request = head(entry);

        STAILQ_REMOVE_HEAD(&entry->requests, link);
        request->answered(request, answer);
}

/* A mode is not reached while descriptors of a previous process wait to be adopted. */
static bool mode_is(const struct entry *entry, bool enabled) {
        const struct gpu *gpu = &entry->gpu;

        return entry_is_enabled(entry) == enabled && gpu->state == (enabled ? GPU_HELD : GPU_RELEASED) &&
               gpu->wanted == enabled && !gpu->adopting;
}

/*
 * The last attempt failed and the next is not due yet, something overrides the Set, or the configuration was read again
 * meanwhile and has changed for this GPU.
 */
static bool mode_failed(const struct entry *entry, bool enabled) {
        if (entry->gpu.job != GPU_JOB_NONE)
                return false;
        if (entry_is_enabled(entry) != enabled || (enabled && !entry->gpu.wanted && !entry->stale))
                return true;
        return entry->gpu.failure.error != 0 && entry->gpu.retry_usec != 0;
}

static void start_numa(struct entry *entry, bool online) {
        head(entry)->stage = STAGE_NUMA;
        entry_start_job(entry, online ? GPU_JOB_NUMA_ONLINE : GPU_JOB_NUMA_OFFLINE);
}

static enum last_set set_of(bool enable) {
        return enable ? SET_ON : SET_OFF;
}

static void roll_back(struct entry *entry) {
        entry_set(entry, set_of(!head(entry)->enable));
        head(entry)->stage = STAGE_ROLLBACK;
}

/*
 * Whether this Set comes from a reset during a lease. NVML sends SetPersistenceModeOnly(disabled) before a reset, and
 * enables persistence afterwards only if Get reported it as enabled. During a lease Get reports disabled, so this Set
 * must not count after the lease.
 */
static bool is_reset(const struct entry *entry, const struct registry_request *request) {
        return request->kind == REGISTRY_SET_MODE_ONLY && !request->enable && entry->leased;
}

static void serve_new(struct entry *entry) {
        struct registry_request *request = head(entry);
        char text[PCI_ADDRESS_SIZE];

        if (request->kind == REGISTRY_SET_NUMA) {
                if (entry->gpu.job == GPU_JOB_NONE)
                        start_numa(entry, request->enable);
        } else if (is_reset(entry, request)) {
                if (gpu_is_closed(&entry->gpu))
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
        struct registry_request *request = head(entry);

        if (mode_is(entry, request->enable)) {
                if (entry->gpu.job != GPU_JOB_NONE) /* UVM persistence is being changed; NUMA is next */
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
        struct registry_request *request = head(entry);

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
        if (mode_is(entry, !head(entry)->enable) || mode_failed(entry, !head(entry)->enable))
                answer(entry, REGISTRY_NUMA_FAILED);
}

/*
 * When we release a GPU, an unbind that waited for us continues at once and the GPU may be gone. A Set that was
 * releasing it has succeeded then.
 */
static void serve_gone(struct entry *entry) {
        const struct registry_request *request = head(entry);
        bool releasing = request->kind != REGISTRY_SET_NUMA && !request->enable && request->stage != STAGE_NEW;

        if (!releasing)
                answer(entry, REGISTRY_NO_GPU);
        else if (gpu_is_closed(&entry->gpu))
                answer(entry, REGISTRY_DONE);
}

uint64_t entry_request_due(const struct entry *entry) {
        const struct registry_request *request = head(entry);

        return request ? request->since_usec + REGISTRY_REQUEST_LIMIT_SEC * USEC_PER_SEC : UINT64_MAX;
}

/* Serves the first request as far as possible now. */
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
                serve[head(entry)->stage](entry);
}

void entry_serve(struct entry *entry) {
        const struct registry_request *request;

        while ((request = head(entry))) {
                int stage = request->stage;

                serve_head(entry);
                if (head(entry) == request && request->stage == stage)
                        return;
        }
}

static void join_queue(const struct gpu *gpu, struct registry_request *request) {
        STAILQ_INSERT_TAIL(&container_of(gpu, struct entry, gpu)->requests, request, link);
}

void registry_request(struct registry *registry, const struct pci_address *address, struct registry_request *request) {
        const struct gpu *gpu = registry_find(registry, address);

        request->stage = STAGE_NEW;
        request->address = *address;
        request->since_usec = clock_monotonic_usec();
        if (gpu) {
                join_queue(gpu, request);
        } else {
                STAILQ_INSERT_TAIL(&registry->unlisted, request, link);
                registry_rescan(registry);
        }
        registry_advance(registry);
}

/* ---- requests for unknown GPUs ---- */

/* A request waits for a scan that began after it arrived. Then it joins the queue of its GPU, or is answered. */
static void serve_unlisted(struct registry *registry, struct registry_request *request, uint64_t now_usec) {
        const struct gpu *gpu = registry_find(registry, &request->address);
        bool waited = registry->seen_usec >= request->since_usec || now_usec >= request->since_usec + LIST_LIMIT_USEC;

        if (!gpu && !registry->stopping && !waited)
                return;
        STAILQ_REMOVE(&registry->unlisted, request, registry_request, link);
        if (gpu)
                join_queue(gpu, request);
        else
                request->answered(request, registry->stopping ? REGISTRY_FAILED : REGISTRY_NO_GPU);
}

uint64_t registry_serve_unlisted(struct registry *registry, uint64_t now_usec) {
        struct registry_request *next;

        for (struct registry_request *request = STAILQ_FIRST(&registry->unlisted); request; request = next) {
                next = STAILQ_NEXT(request, link);
                serve_unlisted(registry, request, now_usec);
        }
        next = STAILQ_FIRST(&registry->unlisted);
        return next ? next->since_usec + LIST_LIMIT_USEC : UINT64_MAX;
}
