#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The subscription to the driver's bind and unbind notices (gpu/rm.h), with every call into the driver on a worker
 * thread. It lasts only while a GPU is held, opened or unbound: its descriptors pin the kernel module, which must be
 * free to go when all GPUs are released.
 */

#include <event2/event.h>

#include "gpu/rm.h"

struct notices;
struct worker;

struct notices_callbacks {
        void (*on_event)(const struct rm_event *event, void *userdata);
        /* The subscription has begun or ended, or could not be had: the two questions below have other answers. */
        void (*on_change)(void *userdata);
        void *userdata;
};

int notices_new(struct notices **ret_notices, struct event_base *loop, struct worker *worker, const char *root,
                const struct notices_callbacks *callbacks);
/* Only when no job runs (the worker is at rest). */
void notices_free(struct notices *notices);

/* Whether the subscription is wanted now. Follows in the background. */
void notices_want(struct notices *notices, bool wanted);

/* What is wanted is so: an unbind that begins now will be told, or that cannot be had. */
bool notices_is_settled(const struct notices *notices);

/* The driver was asked, and will not announce unbinds. */
bool notices_are_refused(const struct notices *notices);

/* Descriptors of the driver's are open, or may be. */
bool notices_is_open(const struct notices *notices);
