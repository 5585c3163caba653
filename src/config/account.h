#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds users and groups by name or number. Services for names (sssd, systemd-userdbd) cannot be reached from the
 * sandbox, but a reload looks up the admin group again. So the last two groups that were found are remembered.
 */

#include <pwd.h>
#include <sys/types.h>

/* Returns NULL if the system does not know the user. The result is valid until the next call. */
const struct passwd *account_find_user(const char *name);

/* Returns 0, or -ENOENT if the system does not know the group. */
int account_find_group(const char *name, gid_t *ret_gid);
