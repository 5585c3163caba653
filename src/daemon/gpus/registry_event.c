/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reacts to reports that a GPU was removed, is about to be unbound, or was bound. */

#include "base/log.h"
#include "daemon/gpus/registry_private.h"

void registry_note_removed(struct registry *registry, const struct pci_address *address) {
        struct entry *entry = registry_find_entry(registry, address);

        if (entry) { /* if it is already back, the scan below finds it; what we hold belongs to the removed one */
                entry_lose(entry);
                registry_advance(registry);
                registry_sweep(registry);
        }
        registry_rescan(registry);
}

static void begin_unbind(struct entry *entry) {
        char text[PCI_ADDRESS_SIZE];

        if (entry->unbinding)
                return;
        entry->unbinding = true;
        log_write(LOG_NOTICE, "device %s - the driver is about to unbind it; releasing it.",
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

/* A record of the kernel log may be read after its unbind has ended and the GPU was bound again. */
static bool is_over(const struct registry *registry, const struct pci_address *address) {
        const struct registry_config *config = &registry->config;

        return config->ops->is_bound && config->ops->is_bound(config->context, address) > 0;
}

void registry_note_unbind(struct registry *registry, const struct pci_address *address) {
        struct entry *entry = registry_find_entry(registry, address);

        if (!entry || (entry->gpu.state != GPU_HELD && entry->gpu.state != GPU_OPENING))
                return;
        if (is_over(registry, address))
                return;
        begin_unbind(entry);
        registry_advance(registry);
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
