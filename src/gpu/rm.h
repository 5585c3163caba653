#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Questions to the driver's resource manager (RM) over /dev/nvidiactl: which GPUs are being bound or unbound, and
 * whether a GPU has the legacy persistence flag or is drained. None of them needs a privilege or initialises a GPU.
 *
 * Every call except rm_events_fd() and rm_event_is_for() may wait for RM's global lock while a GPU initialises: for
 * seconds, or for ever if one hangs. Call them on worker threads, never in the event loop.
 *
 *      /dev/nvidiactl (1) -- root client -- event object of the bind/unbind notifier
 *             ^                                       | names
 *             | fetch, until the queue is empty       v
 *      worker <-- loop <-- readable -- /dev/nvidiactl (2), the event descriptor
 *
 * Sources: src/nvidia/src/kernel/rmapi/event_api.c and client_resource.c, kernel-open/nvidia/nv.c (nvidia_poll), tag
 * 595.45.04.
 */

#include <stddef.h>

#include "base/locations.h"
#include "gpu/failure.h"
#include "gpu/pci.h"

/* ---- bind and unbind ---- */

struct rm_events;

struct rm_event {
        uint32_t gpu_id; /* nv_gpu_id(); without the PCI function, and only 16 bits of the domain */
        bool bind;       /* true: it was bound; false: it is being unbound, and that waits for us to close it */
};

/* Positive results of rm_events_read(). */
enum { RM_EVENTS_MORE = 1 };

/*
 * Subscribes. The two descriptors pin the kernel module, so keep the subscription only while there is a GPU to hold.
 * Returns 0 or negative errno: -ENOENT, -ENXIO, -ENODEV if there is no driver (yet); -EOPNOTSUPP if the driver is older
 * than 575.51.02 and posts no such notices, so a retry is useless.
 */
int rm_events_open(struct rm_events **ret_events, const struct locations *locations, struct gpu_failure *ret_failure);

/* Unsubscribes; NULL is allowed. The descriptor must not be watched any more. */
void rm_events_free(struct rm_events *events);

/*
 * Becomes readable (POLLIN) when there is something to read. Every poll, even by epoll_ctl(), clears the readable
 * state, so the descriptor does not keep the loop busy during a read. Add the event once, with EV_PERSIST, then read
 * once immediately, because adding it may have cleared a wake-up. If it becomes readable during a read, read again
 * afterwards.
 */
int rm_events_fd(const struct rm_events *events);

/*
 * Fetches up to max notices, oldest first. Returns 0 if the queue is now empty; RM_EVENTS_MORE if it may not be: call
 * again; or negative errno if the subscription has ended (the driver is being unloaded): free it, and open another one
 * later. *ret_n is set unless it fails.
 */
int rm_events_read(struct rm_events *events, struct rm_event *ret_events, size_t max, size_t *ret_n,
                   struct gpu_failure *ret_failure);

/* Whether a notice is about the GPU at that address. */
bool rm_event_is_for(const struct rm_event *event, const struct pci_address *address);

/* ---- the legacy flag ---- */

/*
 * Reads whether the driver's own, deprecated persistence flag is on. This process must have the GPU's node open:
 * otherwise -EACCES, or -ENODEV while the GPU is not initialised. Changes nothing in the driver.
 */
int rm_query_legacy(const struct locations *locations, const struct pci_address *address, bool *ret_enabled,
                    struct gpu_failure *ret_failure);

/* ---- drain state ---- */

/*
 * Reads whether the GPU is drained (nvidia-smi drain -m 1): then it accepts no new users. It need not be initialised.
 */
int rm_query_drain(const struct locations *locations, const struct pci_address *address, bool *ret_drained,
                   struct gpu_failure *ret_failure);
