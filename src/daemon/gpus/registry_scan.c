/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/registry_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/*
 * After we have released a GPU for an unbind, the unbind continues in the kernel. If nothing reports its end, a scan
 * does.
 */
#define UNSETTLED_POLL_USEC (1 * USEC_PER_SEC)

/* A scan runs on a thread, because reading the driver's /proc files can sleep while the system suspends. */
struct scan {
        struct worker_job job;
        struct registry *registry;
        uint64_t started_usec;
        struct gpu_info *infos;
        size_t n_infos;
        int result;
};

struct entry *registry_find_entry(const struct registry *registry, const struct pci_address *address) {
        for (size_t i = 0; i < registry->n_entries; i++)
                if (pci_address_compare(&registry->entries[i]->gpu.info.address, address) == 0)
                        return registry->entries[i];
        return NULL;
}

static bool is_other_minor(int minor, const struct gpu_info *info) {
        return minor != GPU_MINOR_UNKNOWN && info->minor != GPU_MINOR_UNKNOWN && minor != info->minor;
}

/*
 * Whether what is held belongs to a GPU that was removed and replaced between two scans. An open reads the minor
 * itself, so if one is in progress, or began after the scan, the hold is more recent than the scan.
 */
static bool is_outdated(const struct entry *entry, const struct gpu_info *info, uint64_t seen_usec) {
        const struct gpu *gpu = &entry->gpu;
        int minor = gpu->hold.minor != GPU_MINOR_UNKNOWN ? gpu->hold.minor : gpu->info.minor;

        if (gpu->state == GPU_OPENING || seen_usec < entry->opened_usec)
                return false;
        return is_other_minor(minor, info) || is_other_gpu(gpu->info.uuid, info->uuid);
}

/* A scan that began before the GPU was initialised does not know its UUID. */
static void take_info(struct gpu *gpu, const struct gpu_info *info) {
        struct gpu_info before = gpu->info;

        gpu->info = *info;
        if (info->uuid[0] == '\0')
                (void)text_copy(gpu->info.uuid, sizeof(gpu->info.uuid), before.uuid);
}

static void update_entry(struct entry *entry, const struct gpu_info *info, int index, uint64_t seen_usec) {
        bool outdated = is_outdated(entry, info, seen_usec);
        enum presence before = entry->presence;

        entry->presence = PRESENCE_LISTED;
        if (is_other_minor(entry->gpu.info.minor, info)) /* it was unbound, and bound again */
                entry->unbinding = false;
        outdated |= before == PRESENCE_GONE;  /* it came back before it was forgotten */
        if (info->minor != GPU_MINOR_UNKNOWN) /* otherwise it is there, but could not be read just now */
                take_info(&entry->gpu, info);
        if (entry->index < 0)
                entry->index = index;
        if (before != PRESENCE_LISTED)
                entry_apply_policy(entry);
        if (outdated)
                entry_spoil(entry);
        else
                entry_update_want(entry);
}

void entry_lose(struct entry *entry) {
        char text[PCI_ADDRESS_SIZE];

        if (entry->presence == PRESENCE_GONE)
                return;
        entry->presence = PRESENCE_GONE;
        entry->unbinding = false;
        log_write(LOG_NOTICE, "device %s - gone.", entry_address(entry, text));
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
}

/* The scan does not list it. It is gone, unless it came back and was opened during the scan. */
static void miss_entry(struct entry *entry, uint64_t seen_usec) {
        bool in_use = entry->gpu.state == GPU_OPENING || entry->gpu.state == GPU_HELD;

        if (in_use && seen_usec < entry->opened_usec && entry->presence != PRESENCE_GONE)
                entry->presence = PRESENCE_DOUBTFUL;
        else
                entry_lose(entry);
}

static bool has_seen(const struct scan *scan, const struct entry *entry) {
        for (size_t i = 0; i < scan->n_infos; i++)
                if (pci_address_compare(&scan->infos[i].address, &entry->gpu.info.address) == 0)
                        return true;
        return false;
}

static void merge(struct registry *registry, const struct scan *scan) {
        int n_counted = 0;

        for (size_t i = 0; i < scan->n_infos; i++) {
                struct entry *entry = registry_find_entry(registry, &scan->infos[i].address);
                int index = scan->infos[i].excluded ? -1 : n_counted++;
                int r = 0;

                if (entry)
                        update_entry(entry, &scan->infos[i], index, scan->started_usec);
                else
                        r = registry_add_entry(registry, &scan->infos[i], index);
                if (r < 0) {
                        (void)log_errno(LOG_ERR, r, "cannot register a GPU");
                        registry->scan_owed = true;
                }
        }
        for (size_t i = 0; i < registry->n_entries; i++)
                if (!has_seen(scan, registry->entries[i]))
                        miss_entry(registry->entries[i], scan->started_usec);
}

/*
 * Adopts what a previous daemon held, without waiting for the driver's list, which may never come while a GPU hangs. If
 * the list then lacks such a GPU, it is released like any other that is gone.
 */
void registry_take_inheritances(struct registry *registry) {
        while (!LIST_EMPTY(&registry->inheritances)) {
                const struct gpu_info info = {
                        .address = LIST_FIRST(&registry->inheritances)->address,
                        .minor = GPU_MINOR_UNKNOWN,
                };
                int r = registry_add_entry(registry, &info, -1);

                if (r < 0) { /* the next scan tries again */
                        (void)log_errno(LOG_ERR, r, "cannot take a GPU over");
                        registry->scan_owed = true;
                        return;
                }
        }
}

static void tell_empty(struct registry *registry) {
        bool empty = registry->n_entries == 0;

        if (empty && !registry->empty_told)
                log_write(LOG_WARNING, "no NVIDIA GPU found; waiting for the driver and GPUs to appear");
        registry->empty_told = empty;
}

static void scan_free(struct scan **scan) {
        free((*scan)->infos);
        free(*scan);
}

static void scan_run(struct worker_job *job) {
        struct scan *scan = container_of(job, struct scan, job);
        const struct registry_config *config = &scan->registry->config;

        scan->result = config->ops->list(config->context, &scan->infos, &scan->n_infos);
}

/*
 * A failure of the first scan may be temporary: it is better to be ready a second later than to be ready without GPUs.
 */
static bool is_first_failure(const struct registry *registry, int result) {
        return result < 0 && !registry->scanned && registry->scan_result == 0;
}

static void scan_done(struct worker_job *job) {
        CLEANUP(scan_free) struct scan *scan = container_of(job, struct scan, job);
        struct registry *registry = scan->registry;

        registry->scanning = false;
        if (is_first_failure(registry, scan->result)) {
                registry->scan_owed = true;
        } else {
                registry->changed |= !registry->scanned;
                registry->scanned = true;
        }
        if (scan->result < 0 && scan->result != registry->scan_result)
                (void)log_errno(LOG_WARNING, scan->result, "cannot list the GPUs; looking again every %u s",
                                (unsigned)(registry->config.poll_usec / USEC_PER_SEC));
        registry->scan_result = scan->result;
        registry->seen_usec = scan->started_usec;
        if (scan->result >= 0) {
                registry_take_inheritances(registry); /* if there was no memory for it before */
                merge(registry, scan);
        }
        registry_sweep(registry);
        if (registry->scanned)
                tell_empty(registry);
        if (take_bool(&registry->scan_again))
                registry_rescan(registry);
        registry_arm_scan(registry);
        registry_advance(registry);
}

void registry_rescan(struct registry *registry) {
        struct scan *scan;

        if (registry->stopping)
                return;
        if (registry->scanning) {
                registry->scan_again = true;
                return;
        }
        registry->scan_owed = true;
        scan = calloc(1, sizeof(*scan));
        if (!scan) {
                registry_arm_scan(registry);
                return;
        }
        *scan = (struct scan){
                .job = {.run = scan_run, .done = scan_done},
                .registry = registry,
                .started_usec = clock_monotonic_usec(),
        };
        if (worker_start(registry->config.worker, &scan->job) < 0) {
                free(scan);
                registry_arm_scan(registry);
                return;
        }
        registry->scanning = true;
        registry->scan_owed = false;
}

static bool is_unsettled(const struct entry *entry) {
        return entry->unbinding || entry->presence == PRESENCE_GONE || entry->presence == PRESENCE_DOUBTFUL;
}

/*
 * Sets the time of the next scan that is not caused by an event. There is none if there are GPUs, changes are reported,
 * no GPU is unsettled, and the last scan was complete.
 */
void registry_arm_scan(struct registry *registry) {
        bool needed = registry->n_entries == 0 || registry->polling || registry->scan_result < 0;
        uint64_t pause_usec = needed ? registry->config.poll_usec : 0;
        struct timeval pause;

        if (registry->scan_owed)
                pause_usec = UNSETTLED_POLL_USEC;
        for (size_t i = 0; i < registry->n_entries; i++)
                if (is_unsettled(registry->entries[i]))
                        pause_usec = UNSETTLED_POLL_USEC;
        pause = clock_timeval(pause_usec);
        if (pause_usec == 0 || registry->stopping)
                (void)event_del(registry->scan_timer);
        else
                (void)event_add(registry->scan_timer, &pause);
}

void registry_set_polling(struct registry *registry, bool needed) {
        registry->polling = needed;
        registry_arm_scan(registry);
}
