#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Users and groups by name or number. In the sandbox no service for names can be asked (sssd, systemd-userdbd), and a
 * reload asks for the group that it has: so a group that was found once is remembered, until the process ends.
 */

#include <pwd.h>
#include <sys/types.h>

/* Returns NULL when the system does not know the user. Good until the next question about a user. */
const struct passwd *account_find_user(const char *name);

/* Returns 0, or -ENOENT when the system does not know the group. */
int account_find_group(const char *name, gid_t *ret_gid);
