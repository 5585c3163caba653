#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Questions to the driver's resource manager (RM) over /dev/nvidiactl: who is being bound or unbound, and whether a GPU
 * has the legacy persistence flag or is drained. None needs a privilege or initialises a GPU.
 *
 * Every call here but rm_events_fd() may sleep on RM's one lock for as long as a GPU initialises: for seconds, or for
 * ever when one hangs. They are for worker threads, never for the event loop.
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
        uint32_t gpu_id; /* nv_gpu_id(); not the PCI domain beyond 16 bits, nor the function */
        bool bind;       /* bound; otherwise: being unbound, which waits for us to let go of it */
};

/* Positive results of rm_events_read(). */
enum { RM_EVENTS_MORE = 1 };

/*
 * Subscribes. The two descriptors pin the kernel module, so keep the subscription only as long as there is a GPU to
 * hold. Returns 0 or negative errno: -ENOENT, -ENXIO, -ENODEV when there is no driver (yet); -EOPNOTSUPP when this
 * driver is from before 575.51.02 and posts no such notice, which no retry changes.
 */
int rm_events_open(struct rm_events **ret_events, const struct locations *locations, struct gpu_failure *ret_failure);

/* Unsubscribes; NULL is nothing. The descriptor must not be watched any more. */
void rm_events_free(struct rm_events *events);

/*
 * Becomes readable (POLLIN) when there is something to read. The driver forgets that it said so as soon as it was
 * asked, even by epoll_ctl(): so watch it once, for good (EV_PERSIST), and read once after that without being asked; a
 * wake-up during a read means that another read is due. That it is forgotten also means that a descriptor which is
 * being read from does not keep the loop busy.
 */
int rm_events_fd(const struct rm_events *events);

/*
 * Fetches up to max notices, oldest first. Returns 0 when the queue is empty now; RM_EVENTS_MORE when it may not be:
 * call again; or negative errno, after which nothing more is to be expected (the driver is going): free it, open again
 * later. *ret_n is written unless it fails.
 */
int rm_events_read(struct rm_events *events, struct rm_event *ret_events, size_t max, size_t *ret_n,
                   struct gpu_failure *ret_failure);

/* Whether a notice is about the GPU at that address. */
bool rm_event_is_for(const struct rm_event *event, const struct pci_address *address);

/* ---- the legacy flag ---- */

/*
 * Whether the kernel's own, deprecated persistence flag is on. Only for a GPU whose node this process has open: -EACCES
 * otherwise (-ENODEV while nobody has it initialised). Leaves nothing behind.
 */
int rm_query_legacy(const struct locations *locations, const struct pci_address *address, bool *ret_enabled,
                    struct gpu_failure *ret_failure);

/* ---- drain state ---- */

/* Whether the GPU accepts no new users (nvidia-smi drain -m 1). It need not be initialised. */
int rm_query_drain(const struct locations *locations, const struct pci_address *address, bool *ret_drained,
                   struct gpu_failure *ret_failure);
