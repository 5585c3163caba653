#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reports GPUs that are about to be unbound. The source is the driver's notices (gpu/rm.h), with every call into the
 * driver on a worker thread; or the kernel log (kernel_messages.h), if the driver posts no notices. The subscription to
 * notices lasts only while a GPU is held, being opened or being unbound: its descriptors pin the kernel module, which
 * must be unloadable when all GPUs are released.
 */

#include <event2/event.h>

#include "gpu/backend.h"

struct unbinds;
struct worker;

struct unbinds_config {
        struct event_base *loop;
        struct worker *worker;
        const struct gpu_ops *ops;
        void *context; /* of ops */
        void (*on_event)(const struct rm_event *event, void *userdata);
        /* The kernel log says that the driver waits for the users of this GPU. Called for any GPU, held or not. */
        void (*on_log_unbind)(const struct pci_address *address, void *userdata);
        /* The subscription began, ended or failed: the functions below may return something else than before. */
        void (*on_change)(void *userdata);
        void *userdata;
};

int unbinds_new(struct unbinds **ret_unbinds, const struct unbinds_config *config);
/* NULL is allowed. Call it only when no job runs (the worker is idle). */
void unbinds_free(struct unbinds *unbinds);

/* Takes ownership of a descriptor of the kernel log, also on failure. Returns 0 or negative errno. */
int unbinds_take_log(struct unbinds *unbinds, int log_fd);

/* Sets whether the subscription is wanted. It begins or ends in the background. */
void unbinds_want(struct unbinds *unbinds, bool wanted);

/* True once subscribed (the next unbind will be reported), or once the driver has refused the subscription. */
bool unbinds_is_settled(const struct unbinds *unbinds);

/* Whether descriptors of the subscription are open, or may be. */
bool unbinds_is_open(const struct unbinds *unbinds);
