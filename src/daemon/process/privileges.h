#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Who the daemon runs as. Resolved before anything is made (a misspelt user must cost nothing), dropped for good after
 * everything that needs root is done, and verified by trying to get it back.
 *
 *      as another user    its groups, its ids, no capability at all, not even in the bounding set
 *      as root            no supplementary groups, and of the capabilities those in a table, each with its reason
 *
 * A start as an ordinary user (a container, User= in a unit) has nothing to drop, which is no error.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct privileges {
        char user[64];   /* whose supplementary groups we take; empty: none are kept but gid */
        bool user_given; /* --user was, whatever came of it */
        uid_t uid;       /* (uid_t)-1: stays as it is */
        gid_t gid;       /* (gid_t)-1: likewise */
        /* Of a daemon that stays root; false and empty from resolve. */
        bool onlines_numa;              /* brings GPU memory on- and offline (gpu/numa.h) */
        bool opens_others;              /* needs what belongs to others (daemon/process/override.h) */
        char override_reason[PATH_MAX]; /* why, for the log */
};

/*
 * user alone means its primary group; group overrides it; numbers are taken as ids. Either may be NULL. in_unit:
 * a unit has started us, which messages speak of. Returns 0, or after logging why, -ENOENT when the system does not
 * know one of them, -EPERM when we may not become it.
 */
int privileges_resolve(struct privileges *ret_privileges, const char *user, const char *group, bool in_unit);

/* A group by name or number, for the option of that name. Returns 0, or -ENOENT after logging. */
int privileges_find_group(const char *option, const char *name, gid_t *ret_gid);

/* Whether the daemon is root and stays it. */
bool privileges_stay_root(const struct privileges *privileges);

/*
 * Drops, and tries to get back. To be called while the process has one thread: capabilities are a thread's own. Returns
 * 0, or negative errno (logged): the process must then end. Logs it when the daemon stays root, and why.
 */
int privileges_drop(const struct privileges *privileges);
