#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Groups by name or number. In the sandbox no service for names can be asked (sssd, systemd-userdbd), and a reload asks
 * for the group that it has: so what was found once is remembered, until the process ends.
 */

#include <sys/types.h>

/* Returns 0, or -ENOENT when the system does not know the group. */
int group_find(const char *name, gid_t *ret_gid);
