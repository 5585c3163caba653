/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/registry_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* An unbind that we have let go for goes on in the kernel; how it ends is seen by looking, where nobody tells. */
#define UNBINDING_POLL_USEC (1 * USEC_PER_SEC)

/* Listing reads the driver's /proc files, which can sleep while the system suspends: on a thread, like everything else.
 */
struct scan {
        struct worker_job job;
        struct registry *registry;
        struct gpu_info *infos;
        size_t n_infos;
        int result;
};

static struct entry *find_entry(const struct registry *registry, const struct pci_address *address) {
        for (size_t i = 0; i < registry->n_entries; i++)
                if (pci_address_compare(&registry->entries[i]->gpu.info.address, address) == 0)
                        return registry->entries[i];
        return NULL;
}

/* Another minor or another UUID at this address: the GPU was taken out and put back while we did not look. */
static bool is_replaced(const struct gpu *gpu, const struct gpu_info *info) {
        return gpu->info.minor != info->minor ||
               (gpu->info.uuid[0] != '\0' && info->uuid[0] != '\0' && !text_equal(gpu->info.uuid, info->uuid));
}

static void update_entry(struct entry *entry, const struct gpu_info *info) {
        entry->seen = true;
        if (entry->gone) { /* back before it was forgotten */
                entry->gone = false;
                entry->stale = true;
        }
        if (is_replaced(&entry->gpu, info))
                entry->stale = true;
        entry->gpu.info = *info;
        entry_update_want(entry);
}

static void lose_entry(struct entry *entry) {
        char text[PCI_ADDRESS_SIZE];

        if (entry->seen || entry->gone)
                return;
        entry->gone = true;
        log_write(LOG_NOTICE, "device %s - gone.", entry_address(entry, text));
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
}

static void merge(struct registry *registry, const struct gpu_info *infos, size_t n_infos) {
        for (size_t i = 0; i < registry->n_entries; i++)
                registry->entries[i]->seen = false;
        for (size_t i = 0; i < n_infos; i++) {
                struct entry *entry = find_entry(registry, &infos[i].address);
                int r = 0;

                if (entry)
                        update_entry(entry, &infos[i]);
                else
                        r = registry_add_entry(registry, &infos[i]);
                if (r < 0)
                        (void)log_errno(LOG_ERR, r, "cannot register a GPU");
        }
        for (size_t i = 0; i < registry->n_entries; i++)
                lose_entry(registry->entries[i]);
}

/*
 * Descriptors of GPUs that are not there (any more): each becomes a GPU that is gone, so that it is let go of as every
 * other is, on a worker thread.
 */
static void drop_inheritances(struct registry *registry) {
        while (registry->inheritances) {
                const struct gpu_info info = {
                        .address = registry->inheritances->address,
                        .minor = GPU_MINOR_UNKNOWN,
                };
                int r = registry_add_entry(registry, &info);

                if (r < 0) { /* the next scan tries again */
                        (void)log_errno(LOG_ERR, r, "cannot let go of a GPU that is gone");
                        return;
                }
                find_entry(registry, &info.address)->seen = false;
                lose_entry(find_entry(registry, &info.address));
        }
}

static void tell_empty(struct registry *registry) {
        bool empty = registry->n_entries == 0;

        if (empty && !registry->empty_told)
                log_write(LOG_WARNING, "no NVIDIA GPU found; waiting for the driver and GPUs to appear");
        registry->empty_told = empty;
}

static void scan_run(struct worker_job *job) {
        struct scan *scan = container_of(job, struct scan, job);
        const struct registry_config *config = &scan->registry->config;

        scan->result = config->ops->list(config->context, &scan->infos, &scan->n_infos);
}

static void scan_done(struct worker_job *job) {
        CLEANUP(free_ptr) struct scan *scan = container_of(job, struct scan, job);
        CLEANUP(free_ptr) struct gpu_info *infos = scan->infos;
        struct registry *registry = scan->registry;

        registry->scanning = false;
        registry->serial += !registry->scanned;
        registry->scanned = true;
        if (scan->result < 0)
                (void)log_errno(LOG_WARNING, scan->result, "cannot list the GPUs; looking again later");
        else
                merge(registry, infos, scan->n_infos);
        if (scan->result >= 0)
                drop_inheritances(registry);
        registry_sweep(registry);
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
        scan = calloc(1, sizeof(*scan));
        if (!scan) {
                registry_arm_scan(registry);
                return;
        }
        *scan = (struct scan){.job = {.run = scan_run, .done = scan_done}, .registry = registry};
        if (worker_start(registry->config.worker, &scan->job) < 0) {
                free(scan);
                registry_arm_scan(registry);
                return;
        }
        registry->scanning = true;
}

/* When to look again by ourselves: never while there are GPUs, somebody tells of changes, and none is being unbound. */
void registry_arm_scan(struct registry *registry) {
        uint64_t pause_usec = registry->n_entries == 0 || registry->polling ? registry->config.poll_usec : 0;
        struct timeval pause;

        for (size_t i = 0; i < registry->n_entries; i++)
                if (registry->entries[i]->unbinding || registry->entries[i]->gone)
                        pause_usec = UNBINDING_POLL_USEC;
        pause = (struct timeval){
                .tv_sec = (time_t)(pause_usec / USEC_PER_SEC),
                .tv_usec = (suseconds_t)(pause_usec % USEC_PER_SEC),
        };
        if (pause_usec == 0 || registry->stopping)
                (void)event_del(registry->scan_timer);
        else
                (void)event_add(registry->scan_timer, &pause);
}

void registry_set_polling(struct registry *registry, bool needed) {
        registry->polling = needed;
        registry_arm_scan(registry);
}

void registry_note_removed(struct registry *registry, const struct pci_address *address) {
        struct entry *entry = find_entry(registry, address);

        if (entry && entry->gpu.state != GPU_RELEASED) {
                entry->stale = true;
                entry_update_want(entry);
                registry_advance(registry);
        }
        registry_rescan(registry);
}

static void begin_unbind(struct entry *entry) {
        char text[PCI_ADDRESS_SIZE];

        if (entry->unbinding)
                return;
        entry->unbinding = true;
        log_write(LOG_NOTICE, "device %s - the driver is about to let go of it; releasing it.",
                  entry_address(entry, text));
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
        registry_arm_scan(entry->registry);
}

static void end_unbind(struct entry *entry) {
        if (!take_bool(&entry->unbinding))
                return;
        gpu_retry_now(&entry->gpu);
        entry_update_want(entry);
}

void registry_note_event(struct registry *registry, const struct rm_event *event) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                struct entry *entry = registry->entries[i];

                if (!rm_event_is_for(event, &entry->gpu.info.address))
                        continue;
                if (event->bind)
                        end_unbind(entry);
                else
                        begin_unbind(entry);
        }
        if (event->bind)
                registry_rescan(registry);
        registry_advance(registry);
}
