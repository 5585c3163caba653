#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The configuration file (holdfast.conf(5)): rules for GPUs, limits, and permissions.
 *
 *      [daemon]
 *      admin-group = gpu-admins     ; members may Set, like root
 *      allow-containers = no        ; whether root in another PID namespace may Set
 *      keeper-timeout = 60          ; seconds that the keeper waits for the next daemon
 *      stuck-timeout = 45           ; seconds
 *      max-sessions = 512
 *      max-sessions-per-user = 128
 *
 *      [gpu *]                      ; or an index, a PCI address, a UUID; the last matching line counts
 *      persistence = on
 *      uvm-persistence = off
 *      settings-policy = at-open    ; or enforce
 *      power-limit = 500            ; and the other settings of config/setting.h
 *
 * The daemon and the program that applies settings read it. Each checks the whole file, and uses its own part. It is
 * read again on SIGHUP; if it has an error, nothing changes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/setting.h"
#include "gpu/inventory.h"

enum {
        CONFIG_RULES_MAX = 128,
        CONFIG_NUMBER_MAX = 1000000, /* of a key of [daemon], and of the same option */
};

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
        CONFIG_AT_OPEN, /* settings are applied after the GPU was opened */
        CONFIG_ENFORCE, /* also when they differ while no client has the GPU open */
};

/* One line of a [gpu ...] section. */
struct config_rule {
        enum config_selector selector;
        unsigned index;             /* CONFIG_INDEX */
        struct pci_address address; /* CONFIG_ADDRESS */
        char uuid[GPU_UUID_SIZE];   /* CONFIG_UUID: a UUID or its beginning */
        enum config_switch persistence;
        enum config_switch uvm;
        enum config_policy policy;
        enum setting setting;       /* with value.is_set */
        struct setting_value value; /* of that setting */
};

struct config {
        bool has_admin_group;
        gid_t admin_gid; /* with has_admin_group */
        bool allow_containers;
        unsigned stuck_sec;        /* 0: not set */
        unsigned keeper_sec;       /* 0: not set */
        unsigned sessions;         /* 0: not set */
        unsigned sessions_per_uid; /* 0: not set */
        size_t n_rules;
        struct config_rule rules[CONFIG_RULES_MAX];
};

enum { CONFIG_ERROR_SIZE = 512 };

void config_init(struct config *config);

/*
 * Reads the file into *ret_config, which is unchanged on failure. Returns 0, or negative errno with a sentence in
 * error; -ENOENT: there is no such file; -EINVAL: it is invalid, and the sentence names file and line.
 */
int config_read(struct config *ret_config, const char *path, char error[static CONFIG_ERROR_SIZE]);

enum { CONFIG_NO_INDEX = -1 };

/* The value of the last rule that matches the GPU and sets it; CONFIG_UNSET: none. The index may be CONFIG_NO_INDEX. */
enum config_switch config_persistence(const struct config *config, const struct gpu_info *info, int index);
enum config_switch config_uvm(const struct config *config, const struct gpu_info *info, int index);

/* The settings that the rules require for a GPU. */
struct config_settings {
        enum config_policy policy; /* never CONFIG_POLICY_UNSET */
        size_t n;                  /* number of values that are set */
        struct setting_value values[N_SETTINGS];
};

struct config_settings config_settings(const struct config *config, const struct gpu_info *info, int index);
