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

struct notices;
struct worker;

struct notices_config {
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

int notices_new(struct notices **ret_notices, const struct notices_config *config);
/* Only when no job runs (the worker is at rest). */
void notices_free(struct notices *notices);

/* Hands in a descriptor of the kernel log, which is taken over also when this fails. Returns 0 or negative errno. */
int notices_take_log(struct notices *notices, int log_fd);

/* Whether the subscription is wanted now. Follows in the background. */
void notices_want(struct notices *notices, bool wanted);

/* What is wanted is so: an unbind that begins now will be told, or that cannot be had. */
bool notices_is_settled(const struct notices *notices);

/* Descriptors of the driver's are open, or may be. */
bool notices_is_open(const struct notices *notices);
