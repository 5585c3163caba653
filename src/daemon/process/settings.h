#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The settings in effect: command line and configuration file, merged. The file overrides the command line, because an
 * administrator writes it for this node:
 *
 *      setting             the file, if set there       else the command line      else
 *
 *      persistence         last rule that matches       --[no-]persistence-mode    on
 *      UVM persistence     last rule that matches       --uvm-persistence-mode     off
 *      admin group         admin-group                  --admin-group              none
 *      containers          yes if allow-containers = yes or --allow-containers     no
 *      stuck timeout       stuck-timeout                --stuck-timeout            45 s
 *      keeper timeout      keeper-timeout               --keeper-timeout           60 s
 *      sessions            max-sessions, if fewer                                  by RLIMIT_NOFILE
 *      sessions of a user  max-sessions-per-user                                   a quarter of these
 *
 * See entry_update_want() in gpus/registry.c for what else decides whether a GPU is held.
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

/* The path of the file: that of --config, or the default. Returns 0 or -ENAMETOOLONG. */
int settings_path(const struct options *options, char path[static PATH_MAX]);

/* Reads the file, if there is one. Returns 0, or negative errno (logged); then the settings are unchanged. */
int settings_read(struct settings *settings, const struct options *options);

/* Checks the file, and prints the result to standard output, or an error to standard error. Returns an exit status. */
int settings_check(const struct options *options);

/* The policy for a GPU; index as in struct registry_config. */
struct registry_policy settings_of_gpu(const struct settings *settings, const struct gpu_info *info, int index);

/*
 * Who may change which GPUs are held. Returns 0, or negative errno (logged) if the group of --admin-group does not
 * exist; the policy then has no admin group.
 */
int settings_peer_policy(const struct settings *settings, struct peer_policy *ret_policy);

/* The limits of the server. policy: from settings_peer_policy(). */
struct server_limits settings_limits(const struct settings *settings, const struct peer_policy *policy);

uint64_t settings_stuck_usec(const struct settings *settings);
unsigned settings_keeper_sec(const struct settings *settings);
