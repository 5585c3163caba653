#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The way to the end: GPUs are released, or left with the keeper for the next daemon.
 *
 *      TERM, INT    release everything
 *      USR1         leave what we hold with the keeper; one that is just being restarted is waited for, and where there
 *                   is none the GPUs are better released in order
 *
 * A driver that keeps us longer than anybody waits does not keep the process: the kernel goes on with what is in it.
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
        bool may_keep; /* there may be a keeper that could keep what we hold */
        /* The limit has passed; without it the registry's on_stopped tells. */
        void (*on_limit)(void *userdata);
        void *userdata;
};

struct stop {
        struct stop_config config;
        struct event *limit;
        struct event *hand_over;
        uint64_t hand_over_until_usec; /* USR1 has come: until when a keeper is waited for; 0: it has not */
        bool stopping;
        bool keeps_gpus; /* with the keeper */
};

/* Returns 0 or -ENOMEM (logged). */
int stop_init(struct stop *stop, const struct stop_config *config);
void stop_done(struct stop *stop);

/* Once begun, a stop goes on as it has begun: both do nothing more then. */
void stop_release(struct stop *stop); /* also while a keeper is waited for */
void stop_hand_over(struct stop *stop);

/* Ends the process while a thread of it is in the driver. */
void stop_leave(const struct registry *registry, int status) __attribute__((noreturn));
