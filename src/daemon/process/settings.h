#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What is in force: the command line and the configuration file, merged. The file is the administrator's, for this
 * node, and has the last word:
 *
 *      setting             the file, if it says so      else the command line      else
 *
 *      persistence         last rule that matches       --[no-]persistence-mode    on
 *      UVM persistence     last rule that matches       --uvm-persistence-mode     off
 *      admin group         admin-group                  --admin-group              none
 *      containers          allow-containers, or         --allow-containers         no
 *      stuck timeout       stuck-timeout                --stuck-timeout            45 s
 *      keeper timeout      keeper-timeout               --keeper-timeout           60 s
 *      sessions            max-sessions, if fewer                                  by RLIMIT_NOFILE
 *      sessions of a user  max-sessions-per-user                                   a quarter of these
 *
 * What else decides whether a GPU is held: entry_update_want() in gpus/registry.c.
 */

#include <limits.h>

#include "config/config.h"
#include "daemon/gpus/registry.h"
#include "daemon/process/options.h"
#include "daemon/serve/server.h"

struct settings {
        const struct options *options;
        struct config config;
};

/* The path of the file: the one that was named, or the usual one. Returns 0 or -ENAMETOOLONG. */
int settings_path(const struct options *options, char path[static PATH_MAX]);

/* Reads the file, if there is one. Returns 0, or negative errno after logging why; then the settings stay as they are.
 */
int settings_read(struct settings *settings, const struct options *options);

/* Says on standard output or error whether the file is right. Returns an exit status. */
int settings_check(const struct options *options);

/* What is wanted of a GPU; index as in struct registry_config. */
struct registry_policy settings_of_gpu(const struct settings *settings, const struct gpu_info *info, int index);

/* Who may change things. Returns 0, or negative errno after logging that there is no such group as --admin-group names;
 * the policy is then without it. */
int settings_peer_policy(const struct settings *settings, struct peer_policy *ret_policy);

/* With the policy in force. */
struct server_limits settings_limits(const struct settings *settings, const struct peer_policy *policy);

uint64_t settings_stuck_usec(const struct settings *settings);
unsigned settings_keeper_sec(const struct settings *settings);
