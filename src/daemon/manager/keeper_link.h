#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's connection to its keeper (keeper.h). It finds the keeper, takes over the descriptors that the previous
 * daemon left there, and sends it a copy of every GPU descriptor as soon as that is opened. Before the daemon closes a
 * descriptor, the keeper drops its copy, so that the last close is the daemon's.
 *
 *      DOWN ---- connected ----> GREETING ---- HELLO, all copies sent ----> UP
 *        ^                          |                                       |
 *        +--------------------------+--------- the keeper is gone ----------+
 *
 * If the keeper ends, the link finds or forks another one within a second. Until then the GPUs stay held, but are torn
 * down if the daemon is killed.
 */

#include <event2/event.h>

#include "base/locations.h"
#include "gpu/backend.h"

struct keeper_link;
struct worker;

/* Which keeper to use. */
enum keeper_choice {
        KEEPER_AUTO,   /* the one at /run/holdfast/keeper; if there is none, the daemon forks one */
        KEEPER_SOCKET, /* only the one at /run/holdfast/keeper */
        KEEPER_NONE,
};

struct keeper_link_config {
        struct event_base *loop;
        struct worker *worker;
        enum keeper_choice choice;
        const struct locations *locations;
        const char *directory; /* the runtime directory, for the socket of a forked keeper */
        bool sandbox;          /* a forked keeper filters its system calls */
        bool keep_socket;      /* a forked keeper does not remove the daemon's socket if the daemon is killed */
        char *title;           /* argv memory from the first argument on; a forked keeper writes "--keeper" there */
        size_t title_size;     /* 0: there are no arguments */
        unsigned wait_sec;     /* how long the keeper waits for the next daemon */
        /* Called for each descriptor that a previous daemon left. Returns true if it takes ownership of fd. */
        bool (*on_have)(const char *name, int fd, void *userdata);
        void *userdata;
};

/*
 * Returns 0 or negative errno. keeper_link_keeper() can be used from now on, but sends nothing before the link is up.
 */
int keeper_link_new(struct keeper_link **ret_link);
void keeper_link_free(struct keeper_link *link);

/* For the backend. Its functions may be called on any thread. */
struct gpu_keeper *keeper_link_keeper(struct keeper_link *link);

/*
 * Finds a keeper, forks one if there is none and the choice allows it, and takes over what it has (on_have). Waits a
 * few seconds at most. A failure is logged, and the loop tries again. Call this on the loop's thread, before any other
 * thread runs and before any GPU is open.
 */
void keeper_link_start(struct keeper_link *link, const struct keeper_link_config *config);

/*
 * Makes running keepers close their descriptors, for a backend that cannot adopt them. Call this where
 * keeper_link_start() would be called.
 */
void keeper_link_reset_others(const struct keeper_link_config *config);

/* Whether a keeper has copies of everything that we hold. */
bool keeper_link_is_up(struct keeper_link *link);

/* Changes how long the keeper waits for the next daemon. */
void keeper_link_set_wait(struct keeper_link *link, unsigned wait_sec);

/*
 * The process ends. Closes the connection, so that the keeper waits for the next daemon, even if a thread of ours stays
 * in the driver.
 */
void keeper_link_end(struct keeper_link *link);

/*
 * Removes the socket of a forked keeper. Call this when the daemon ends and has released everything, since the keeper
 * then ends as well.
 */
void keeper_link_remove_socket(struct keeper_link *link);

/*
 * Makes the keeper drop everything, and sends it nothing that is opened from now on. Call this on the loop's thread,
 * when the daemon ends while a job is still in the driver. Waits a moment for the keeper, so that the last close of a
 * descriptor is ours. While the open of a descriptor hangs, the last close(2) of that descriptor waits for the open.
 * The keeper's close would wait; ours does not, because a signal ends this process (stop_leave()).
 */
void keeper_link_drop_all(struct keeper_link *link);
