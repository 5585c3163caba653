/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/registry_private.h"

#include "base/clock.h"
#include "base/log.h"

/*
 * Ending a subscription takes a millisecond. If it takes longer than this, the lease is answered without waiting for
 * it.
 */
#define QUIET_LIMIT_USEC (1 * USEC_PER_SEC)

static bool covers(const struct registry_lease *lease, const struct pci_address *address) {
        if (lease->all)
                return true;
        for (size_t i = 0; i < lease->n_addresses; i++)
                if (pci_address_compare(&lease->addresses[i], address) == 0)
                        return true;
        return false;
}

bool registry_lease_covers(const struct registry *registry, const struct pci_address *address) {
        const struct registry_lease *lease;

        LIST_FOREACH(lease, &registry->leases, link)
                if (covers(lease, address))
                        return true;
        return false;
}

size_t registry_lease_count(const struct registry *registry) {
        size_t count = 0;
        const struct registry_lease *lease;

        LIST_FOREACH(lease, &registry->leases, link)
                count++;
        return count;
}

/* The leases have changed: decides again for each GPU whether it is wanted. */
static void update_entries(struct registry *registry) {
        for (size_t i = 0; i < registry->n_entries; i++) {
                struct entry *entry = registry->entries[i];
                bool leased = registry_lease_covers(registry, &entry->gpu.info.address);
                char text[PCI_ADDRESS_SIZE];

                if (leased == entry->leased)
                        continue;
                entry->leased = leased;
                log_write(LOG_NOTICE, "device %s - %s.", entry_address(entry, text), leased ? "leased" : "lease ended");
                gpu_retry_now(&entry->gpu);
                entry_update_want(entry);
        }
        registry_advance(registry);
}

void registry_lease_begin(struct registry *registry, struct registry_lease *lease) {
        lease->told = false;
        lease->quiet_due_usec = 0;
        LIST_INSERT_HEAD(&registry->leases, lease, link);
        update_entries(registry);
}

void registry_lease_end(struct registry *registry, struct registry_lease *lease) {
        LIST_REMOVE(lease, link);
        update_entries(registry);
}

enum lease_stage {
        RELEASING,
        RELEASED,
        CANNOT,
};

/* Whether no GPU pins the kernel module. Only then does it help to wait for other things that pin it. */
static bool is_driver_free(const struct registry *registry) {
        struct registry_counts counts = registry_count(registry);

        return counts.using == 0 && counts.busy == 0;
}

/*
 * Whether the lease need not wait for a question or the subscription to unbind notices, which pin the kernel module,
 * too.
 */
static bool is_quiet(const struct registry *registry, struct registry_lease *lease, uint64_t now_usec) {
        if (!is_driver_free(registry) || (!registry->asking && !unbinds_is_open(registry->unbinds)))
                return true;
        if (lease->quiet_due_usec == 0)
                lease->quiet_due_usec = now_usec + QUIET_LIMIT_USEC;
        return now_usec >= lease->quiet_due_usec;
}

static enum lease_stage lease_progress(const struct registry *registry, struct registry_lease *lease,
                                       uint64_t now_usec) {
        enum lease_stage progress = RELEASED;

        for (size_t i = 0; i < registry->n_entries; i++) {
                const struct gpu *gpu = &registry->entries[i]->gpu;

                if (!covers(lease, &gpu->info.address) || gpu_is_closed(gpu))
                        continue;
                if (gpu->stuck || (gpu->state == GPU_HELD && gpu->failure.error != 0))
                        return CANNOT;
                progress = RELEASING;
        }
        return progress == RELEASED && !is_quiet(registry, lease, now_usec) ? RELEASING : progress;
}

uint64_t registry_tell_leases(struct registry *registry, uint64_t now_usec) {
        uint64_t wake_usec = UINT64_MAX;
        struct registry_lease *lease;

        LIST_FOREACH(lease, &registry->leases, link) {
                enum lease_stage progress = lease->told ? RELEASING : lease_progress(registry, lease, now_usec);

                if (progress != RELEASING) {
                        lease->told = true;
                        lease->answered(lease, progress == RELEASED ? REGISTRY_DONE : REGISTRY_FAILED);
                } else if (!lease->told && lease->quiet_due_usec != 0 && lease->quiet_due_usec < wake_usec) {
                        wake_usec = lease->quiet_due_usec;
                }
        }
        return wake_usec;
}
