#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The stop: releases the GPUs, or leaves them with the keeper for the next daemon.
 *
 *      TERM, INT    release everything
 *      USR1         leave what we hold with the keeper; wait for it if it is being restarted; without a keeper,
 *                   release everything in an orderly way
 *
 * The stop has a time limit, because service managers and init scripts do not wait longer. If a driver call takes
 * longer, the process ends and the kernel completes the call.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "daemon/gpus/registry.h"
#include "daemon/life/progress.h"
#include "daemon/manager/keeper_link.h"

struct stop_config {
        struct event_base *loop;
        struct registry *registry;
        struct keeper_link *keeper;
        struct progress *progress;
        bool may_keep; /* a keeper may be used, and the backend can adopt what it keeps */
        /* The limit has passed. If all ends in time, the registry calls its on_stopped instead. */
        void (*on_limit)(void *userdata);
        void *userdata;
};

struct stop {
        struct stop_config config;
        struct event *limit;
        struct event *hand_over;
        uint64_t hand_over_until_usec; /* after USR1: until when to wait for a keeper; 0: no USR1 yet */
        bool stopping;
        bool keeps_gpus; /* they stay with the keeper */
};

/* Returns 0 or -ENOMEM (logged). */
int stop_init(struct stop *stop, const struct stop_config *config);
void stop_done(struct stop *stop);

/* Once a stop has begun, both do nothing. */
void stop_release(struct stop *stop); /* also ends the wait for a keeper */
void stop_hand_over(struct stop *stop);

/* Ends the process while a thread of it is in the driver. */
void stop_leave(const struct registry *registry, int status) __attribute__((noreturn));
