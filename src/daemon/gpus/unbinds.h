#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How we hear that a GPU is about to be unbound: by the driver's notices (gpu/rm.h), with every call into the driver on
 * a worker thread, or from the kernel log (kernel_messages.h) where the driver posts none. The subscription lasts only
 * while a GPU is held, opened or unbound: its descriptors pin the kernel module, which must be free to go when all GPUs
 * are released.
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
        /* The driver waits for the users of this GPU, as the kernel log says. Any GPU's, held or not. */
        void (*on_log_unbind)(const struct pci_address *address, void *userdata);
        /* The subscription has begun or ended, or could not be had: the questions below have other answers. */
        void (*on_change)(void *userdata);
        void *userdata;
};

int unbinds_new(struct unbinds **ret_unbinds, const struct unbinds_config *config);
/* Only when no job runs (the worker is at rest). */
void unbinds_free(struct unbinds *unbinds);

/* Hands in a descriptor of the kernel log, and owns it, also on failure. Returns 0 or negative errno. */
int unbinds_take_log(struct unbinds *unbinds, int log_fd);

/* Whether the subscription is wanted now. Follows in the background. */
void unbinds_want(struct unbinds *unbinds, bool wanted);

/* What is wanted is so: an unbind that begins now will be told, or that cannot be had. */
bool unbinds_is_settled(const struct unbinds *unbinds);

/* Descriptors of the driver's are open, or may be. */
bool unbinds_is_open(const struct unbinds *unbinds);
