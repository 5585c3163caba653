#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Who the daemon runs as. Resolved before anything is made (a misspelt user must cost nothing), dropped for good after
 * everything that needs root is done, and verified by trying to get it back.
 */

#include <stdbool.h>
#include <sys/types.h>

struct privileges {
        char user[64]; /* whose supplementary groups we take; empty: none are kept but gid */
        uid_t uid;     /* (uid_t)-1: stays as it is */
        gid_t gid;     /* (gid_t)-1: likewise */
};

/*
 * user alone means its primary group; group overrides it; numbers are taken as ids. Either may be NULL. Returns 0, or
 * -ENOENT after logging which of them the system does not know.
 */
int privileges_resolve(struct privileges *ret_privileges, const char *user, const char *group);

/* Returns 0, or negative errno (logged): the process must then end. */
int privileges_drop(const struct privileges *privileges);
