/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "config/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <ini.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "config/account.h"

/* The state while a file is read. */
struct reading {
        struct config config;
        FILE *file;
        int error;      /* of reading the file; negative errno */
        int line;       /* the current line of inih */
        int wrong_line; /* the first line that we have rejected */
        char why[256];  /* what is wrong with it; empty: no line was rejected */
};

/* fgets() that also counts lines, because inih does not pass the line number to its handler. */
static char *read_line(char *buffer, int size, void *userdata) {
        struct reading *reading = userdata;
        char *line = fgets(buffer, size, reading->file);

        reading->line++;
        if (!line && ferror(reading->file))
                reading->error = -errno;
        return line;
}

/* Stores what is wrong with the line. Returns 0, which means an error to inih. */
static int __attribute__((format(printf, 2, 3))) wrong(struct reading *reading, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(reading->why, sizeof(reading->why), format, arguments);
        va_end(arguments);
        reading->wrong_line = reading->line;
        return 0;
}

static bool parse_switch(const char *value, bool *ret_on) {
        static const char *const on[] = {"on", "yes", "true", "1", "enabled"};
        static const char *const off[] = {"off", "no", "false", "0", "disabled"};

        for (size_t i = 0; i < ARRAY_SIZE(on); i++) {
                *ret_on = text_equal_nocase(value, on[i]);
                if (*ret_on || text_equal_nocase(value, off[i]))
                        return true;
        }
        return false;
}

/* ---- [daemon] ---- */

static int set_admin_group(struct reading *reading, const char *value) {
        if (account_find_group(value, &reading->config.admin_gid) < 0)
                return wrong(reading, "there is no group '%s' on this system", value);
        reading->config.has_admin_group = true;
        return 1;
}

static int set_allow_containers(struct reading *reading, const char *value) {
        return parse_switch(value, &reading->config.allow_containers) ||
               wrong(reading, "'%s' is neither yes nor no", value);
}

static int set_number(struct reading *reading, const char *value, unsigned *ret_number) {
        uint64_t number;

        if (text_parse_u64(value, 10, CONFIG_NUMBER_MAX, &number) < 0 || number == 0)
                return wrong(reading, "'%s' is not a number from 1 to %d", value, CONFIG_NUMBER_MAX);
        *ret_number = (unsigned)number;
        return 1;
}

static int set_stuck_timeout(struct reading *reading, const char *value) {
        return set_number(reading, value, &reading->config.stuck_sec);
}

static int set_keeper_timeout(struct reading *reading, const char *value) {
        return set_number(reading, value, &reading->config.keeper_sec);
}

static int set_max_sessions(struct reading *reading, const char *value) {
        return set_number(reading, value, &reading->config.sessions);
}

static int set_max_sessions_per_user(struct reading *reading, const char *value) {
        return set_number(reading, value, &reading->config.sessions_per_uid);
}

static const struct {
        const char *name;
        int (*set)(struct reading *reading, const char *value);
} daemon_keys[] = {
        {"admin-group", set_admin_group},
        {"allow-containers", set_allow_containers},
        {"keeper-timeout", set_keeper_timeout},
        {"max-sessions", set_max_sessions},
        {"max-sessions-per-user", set_max_sessions_per_user},
        {"stuck-timeout", set_stuck_timeout},
};

static int read_daemon_key(struct reading *reading, const char *name, const char *value) {
        for (size_t i = 0; i < ARRAY_SIZE(daemon_keys); i++)
                if (text_equal(daemon_keys[i].name, name))
                        return daemon_keys[i].set(reading, value);
        return wrong(reading,
                     "unknown key '%s' in [daemon]; there are admin-group, allow-containers, keeper-timeout, "
                     "max-sessions, max-sessions-per-user, stuck-timeout",
                     name);
}

/* ---- [gpu ...] ---- */

static bool parse_selector(const char *text, struct config_rule *ret_rule) {
        uint64_t index;

        *ret_rule = (struct config_rule){.selector = CONFIG_ALL};
        if (text_equal(text, "*") || text_equal_nocase(text, "all"))
                return true;
        if (text_parse_u64(text, 10, INT32_MAX, &index) == 0) {
                ret_rule->selector = CONFIG_INDEX;
                ret_rule->index = (unsigned)index;
                return true;
        }
        if (strncasecmp(text, "GPU-", 4) == 0) {
                ret_rule->selector = CONFIG_UUID;
                return text_copy(ret_rule->uuid, sizeof(ret_rule->uuid), text);
        }
        ret_rule->selector = CONFIG_ADDRESS;
        return pci_address_parse(text, &ret_rule->address) == 0;
}

static bool parse_policy(const char *value, enum config_policy *ret_policy) {
        if (text_equal_nocase(value, "at-open"))
                *ret_policy = CONFIG_AT_OPEN;
        else if (text_equal_nocase(value, "enforce"))
                *ret_policy = CONFIG_ENFORCE;
        else
                return false;
        return true;
}

static int set_switch(struct reading *reading, enum config_switch *which, const char *value) {
        bool on;

        if (!parse_switch(value, &on))
                return wrong(reading, "'%s' is neither on nor off", value);
        *which = on ? CONFIG_ON : CONFIG_OFF;
        return 1;
}

/* Fills the rule from the line. Returns 1, or what wrong() returns. */
static int read_rule(struct reading *reading, struct config_rule *rule, const char *selector, const char *name,
                     const char *value) {
        char error[SETTING_ERROR_SIZE];

        if (text_equal(name, "persistence"))
                return set_switch(reading, &rule->persistence, value);
        if (text_equal(name, "uvm-persistence"))
                return set_switch(reading, &rule->uvm, value);
        if (text_equal(name, "settings-policy"))
                return parse_policy(value, &rule->policy) ||
                       wrong(reading, "'%s' is neither at-open nor enforce", value);
        if (setting_find(name, &rule->setting) < 0)
                return wrong(reading,
                             "unknown key '%s' in [gpu %s]; there are persistence, uvm-persistence, settings-policy, "
                             "power-limit, graphics-clocks, memory-clocks, compute-mode, ecc, mig",
                             name, selector);
        return setting_parse(rule->setting, value, &rule->value, error) == 0 || wrong(reading, "%s", error);
}

static int read_gpu_key(struct reading *reading, const char *selector, const char *name, const char *value) {
        struct config *config = &reading->config;
        struct config_rule rule;

        if (!parse_selector(selector, &rule))
                return wrong(reading, "[gpu %s] names no GPU; give *, an index, a PCI address or a UUID (GPU-...)",
                             selector);
        if (!read_rule(reading, &rule, selector, name, value))
                return 0;
        if (config->n_rules == CONFIG_RULES_MAX)
                return wrong(reading, "more than %d lines for GPUs", CONFIG_RULES_MAX);
        config->rules[config->n_rules++] = rule;
        return 1;
}

static int on_line(void *userdata, const char *section, const char *name, const char *value) {
        struct reading *reading = userdata;

        if (reading->why[0] != '\0') /* only the first error is reported */
                return 0;
        if (text_equal(section, "daemon"))
                return read_daemon_key(reading, name, value);
        if (text_starts_with(section, "gpu "))
                return read_gpu_key(reading, section + strlen("gpu "), name, value);
        if (section[0] == '\0')
                return wrong(reading, "'%s' appears before the first section; there are [daemon] and [gpu ...]", name);
        return wrong(reading, "unknown section [%s]; there are [daemon] and [gpu ...]", section);
}

/* ---- the file ---- */

void config_init(struct config *config) {
        *config = (struct config){0};
}

/*
 * inih continues after an error and returns the first line that it rejects. That may be before the line that we reject.
 */
static int describe_error(const struct reading *reading, const char *path, int line,
                          char error[static CONFIG_ERROR_SIZE]) {
        const char *why = "this is neither [section] nor key = value";
        int r = line < 0 ? -ENOMEM : reading->error; /* inih's -1 occurs only for files that it opens itself */

        if (r < 0) {
                (void)text_format(error, CONFIG_ERROR_SIZE, "cannot read %s to its end: %s", path, strerror(-r));
                return r;
        }
        if (reading->why[0] != '\0' && reading->wrong_line == line)
                why = reading->why;
        (void)text_format(error, CONFIG_ERROR_SIZE, "%s:%d: %s", path, line, why);
        return -EINVAL;
}

static void reading_done(struct reading **reading) {
        if (*reading && (*reading)->file)
                (void)fclose((*reading)->file);
        free(*reading);
}

int config_read(struct config *ret_config, const char *path, char error[static CONFIG_ERROR_SIZE]) {
        CLEANUP(reading_done) struct reading *reading = calloc(1, sizeof(*reading));
        int line, r = 0;

        if (reading)
                reading->file = fopen(path, "re");
        if (!reading || !reading->file) {
                r = reading ? -errno : -ENOMEM;
                (void)text_format(error, CONFIG_ERROR_SIZE, "cannot read %s: %s", path, strerror(-r));
                return r;
        }
        line = ini_parse_stream(read_line, reading, on_line, reading);
        if (line != 0 || reading->error < 0)
                r = describe_error(reading, path, line, error);
        if (r == 0)
                *ret_config = reading->config;
        return r;
}

static bool matches(const struct config_rule *rule, const struct gpu_info *info, int index) {
        switch (rule->selector) {
        case CONFIG_ALL:
                return true;
        case CONFIG_INDEX:
                return index >= 0 && rule->index == (unsigned)index;
        case CONFIG_ADDRESS:
                return pci_address_compare(&rule->address, &info->address) == 0;
        case CONFIG_UUID:
                return strncasecmp(info->uuid, rule->uuid, strlen(rule->uuid)) == 0;
        }
        return false;
}

enum config_switch config_persistence(const struct config *config, const struct gpu_info *info, int index) {
        enum config_switch said = CONFIG_UNSET;

        for (size_t i = 0; i < config->n_rules; i++)
                if (config->rules[i].persistence != CONFIG_UNSET && matches(&config->rules[i], info, index))
                        said = config->rules[i].persistence;
        return said;
}

enum config_switch config_uvm(const struct config *config, const struct gpu_info *info, int index) {
        enum config_switch said = CONFIG_UNSET;

        for (size_t i = 0; i < config->n_rules; i++)
                if (config->rules[i].uvm != CONFIG_UNSET && matches(&config->rules[i], info, index))
                        said = config->rules[i].uvm;
        return said;
}

struct config_settings config_settings(const struct config *config, const struct gpu_info *info, int index) {
        struct config_settings said = {.policy = CONFIG_AT_OPEN};

        for (size_t i = 0; i < config->n_rules; i++) {
                const struct config_rule *rule = &config->rules[i];

                if (!matches(rule, info, index))
                        continue;
                if (rule->policy != CONFIG_POLICY_UNSET)
                        said.policy = rule->policy;
                if (rule->value.is_set)
                        said.values[rule->setting] = rule->value;
        }
        for (size_t i = 0; i < N_SETTINGS; i++)
                said.n += said.values[i].is_set;
        return said;
}
