#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The configuration file (holdfast.conf(5)): what is wanted of which GPU, limits, and who may change things.
 *
 *      [daemon]
 *      admin-group = gpu-admins     ; may Set, besides root
 *      allow-containers = no        ; whether root of another PID namespace may
 *      keeper-timeout = 60          ; seconds that the keeper waits for the next daemon
 *      stuck-timeout = 45           ; seconds
 *      max-sessions = 512
 *      max-sessions-per-user = 128
 *
 *      [gpu *]                      ; or an index, a PCI address, a UUID: what is said last counts
 *      persistence = on
 *      uvm-persistence = off
 *      settings-policy = at-open    ; or enforce
 *      power-limit = 500            ; and the other settings of config/setting.h
 *
 * The daemon reads it, and what applies settings; each checks all of it, and uses its own part. Read again on SIGHUP; a
 * file with an error changes nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/setting.h"
#include "gpu/inventory.h"

enum { CONFIG_RULES_MAX = 128 };

enum config_switch {
        CONFIG_UNSET,
        CONFIG_ON,
        CONFIG_OFF,
};

enum config_selector {
        CONFIG_ALL,
        CONFIG_INDEX,
        CONFIG_ADDRESS,
        CONFIG_UUID,
};

enum config_policy {
        CONFIG_POLICY_UNSET,
        CONFIG_AT_OPEN, /* settings are applied when the GPU was opened anew */
        CONFIG_ENFORCE, /* and again when they differ while no client has the GPU open */
};

/* One line. */
struct config_rule {
        enum config_selector selector;
        unsigned index;             /* CONFIG_INDEX */
        struct pci_address address; /* CONFIG_ADDRESS */
        char uuid[GPU_UUID_SIZE];   /* CONFIG_UUID: the beginning of one */
        enum config_switch persistence;
        enum config_switch uvm;
        enum config_policy policy;
        enum setting setting;       /* with value.is_set */
        struct setting_value value; /* of that */
};

struct config {
        bool has_admin_group;
        gid_t admin_gid; /* with has_admin_group */
        bool allow_containers;
        unsigned stuck_sec;        /* 0: not said */
        unsigned keeper_sec;       /* 0: not said */
        unsigned sessions;         /* 0: not said */
        unsigned sessions_per_uid; /* 0: not said */
        size_t n_rules;
        struct config_rule rules[CONFIG_RULES_MAX];
};

enum { CONFIG_ERROR_SIZE = 512 };

void config_init(struct config *config);

/*
 * Reads the file into *ret_config, which keeps its content on failure. Returns 0; -ENOENT; other negative errno, with a
 * sentence in error that names the file and the line (-EINVAL).
 */
int config_read(struct config *ret_config, const char *path, char error[static CONFIG_ERROR_SIZE]);

enum { CONFIG_NO_INDEX = -1 };

/* What the rules say of this GPU: the last that matches and says something. The index may be CONFIG_NO_INDEX. */
enum config_switch config_persistence(const struct config *config, const struct gpu_info *info, int index);
enum config_switch config_uvm(const struct config *config, const struct gpu_info *info, int index);

/* What the rules want of this GPU's settings. */
struct config_settings {
        enum config_policy policy; /* never CONFIG_POLICY_UNSET */
        size_t n;                  /* of the values that are set */
        struct setting_value values[N_SETTINGS];
};

struct config_settings config_settings(const struct config *config, const struct gpu_info *info, int index);
