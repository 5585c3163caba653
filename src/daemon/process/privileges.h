#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The user and the capabilities that the daemon runs with. Names are resolved before anything is created, so that a
 * misspelt user has no effects. Privileges are dropped after everything that needs root is done. A test then verifies
 * that they cannot be regained.
 *
 *      as another user    that user's ids and groups; no capability, not even in the bounding set
 *      as root            no supplementary groups; only capabilities of a table, each for a reason
 *
 * If the daemon is started as an ordinary user (in a container, or by User= in a unit), there is nothing to drop. That
 * is not an error.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct privileges {
        char user[64];   /* take the supplementary groups of this user; empty: keep none */
        bool user_given; /* --user was given, even if it had no effect */
        uid_t uid;       /* (uid_t)-1: unchanged */
        gid_t gid;       /* (gid_t)-1: unchanged */
        /* For a daemon that stays root. privileges_resolve() sets these to false and "". */
        bool onlines_numa;              /* brings GPU memory on- and offline (gpu/numa.h) */
        bool opens_others;              /* uses files of other users (daemon/process/override.h) */
        char override_reason[PATH_MAX]; /* the reason for opens_others, for the log */
};

/*
 * user and group are names or ids; each may be NULL. Without group, the user's primary group is used. in_unit: a unit
 * has started us, so messages mention it. Returns 0, or after logging the reason: -ENOENT if the system does not know
 * one of them, -EPERM if we may not become it, -EIO if the capabilities cannot be read.
 */
int privileges_resolve(struct privileges *ret_privileges, const char *user, const char *group, bool in_unit);

/* Finds a group by name or number; messages name the option. Returns 0, or -ENOENT (logged). */
int privileges_find_group(const char *option, const char *name, gid_t *ret_gid);

/* Whether the daemon will run as root. */
bool privileges_stay_root(const struct privileges *privileges);

/*
 * Drops privileges, and checks that they cannot be regained. Call it while the process has one thread, since each
 * thread has its own capabilities. Returns 0, or negative errno (logged): the process must then end. If the daemon
 * stays root, logs that and the reason.
 */
int privileges_drop(const struct privileges *privileges);
