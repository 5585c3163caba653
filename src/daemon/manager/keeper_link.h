#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's side of its keeper (keeper.h): finds it, inherits what a daemon before us has left with it, gives it a
 * copy of every GPU descriptor as soon as there is one, and has it drop the copy before we close ours, so that the last
 * close is ours.
 *
 *      DOWN ---- connected ----> GREETING ---- HELLO, all copies sent ----> UP
 *        ^                          |                                       |
 *        +--------------------------+--------- the keeper is gone ----------+
 *
 * A keeper that ends is found again, or forked again, within a second. Until then the GPUs are held as ever, but a
 * daemon that is killed just then tears them down.
 */

#include <event2/event.h>

#include "base/locations.h"
#include "gpu/backend.h"

struct keeper_link;
struct worker;

/* Whose keeper. */
enum keeper_choice {
        KEEPER_AUTO,   /* the one at /run/holdfast/keeper, or else one that we fork */
        KEEPER_SOCKET, /* only the one at /run/holdfast/keeper */
        KEEPER_NONE,
};

struct keeper_link_config {
        struct event_base *loop;
        struct worker *worker;
        enum keeper_choice choice;
        const struct locations *locations;
        const char *directory; /* the runtime directory, where a forked keeper's socket is */
        bool sandbox;          /* a forked keeper filters its system calls */
        bool keep_socket;      /* a forked keeper leaves our socket alone if we are killed */
        char *title;           /* a forked keeper's command line, from its first argument on: "--keeper" is put there */
        size_t title_size;     /* 0: there is no argument */
        unsigned wait_sec;     /* how long the keeper waits for the next daemon */
        /* A descriptor that a daemon before us has left. Returns whether it is of use: then fd is the callee's. */
        bool (*on_have)(const char *name, int fd, void *userdata);
        void *userdata;
};

/* Returns 0 or -ENOMEM. keeper_link_keeper() works from now on, and keeps nothing until the link is up. */
int keeper_link_new(struct keeper_link **ret_link);
void keeper_link_free(struct keeper_link *link);

/* For the backend; callable from any thread. */
struct gpu_keeper *keeper_link_keeper(struct keeper_link *link);

/*
 * Finds a keeper, forks one if there is none and the choice allows it, and inherits what it has (on_have). Waits for
 * it for some seconds at most; what does not succeed is logged, and tried again from the loop. To be called in the
 * loop's thread before any other thread runs and any GPU is open.
 */
void keeper_link_start(struct keeper_link *link, const struct keeper_link_config *config);

/* Keepers that run have their descriptors closed: for a backend that cannot go on with them. As keeper_link_start(). */
void keeper_link_reset_others(const struct keeper_link_config *config);

/* Whether everything that we hold is with a keeper, for the next daemon. */
bool keeper_link_is_up(struct keeper_link *link);

/* How long the keeper waits for the next daemon, from now on. */
void keeper_link_set_wait(struct keeper_link *link, unsigned wait_sec);

/* The process ends; from now on the keeper waits for the next daemon, even if a thread of ours stays in the driver. */
void keeper_link_end(struct keeper_link *link);

/* We end and have released everything: removes the socket of a keeper that was forked, for it ends as well. */
void keeper_link_remove_socket(struct keeper_link *link);

/*
 * We end while the driver has not let go of something: the keeper is not to keep it, nor what is opened from now on.
 * Waits a moment for the keeper: the last close of a descriptor whose open hangs must be ours, for we end by a signal
 * and do not wait for it (stop_leave()), and a thread of the keeper's would. Only in the loop's thread.
 */
void keeper_link_drop_all(struct keeper_link *link);
