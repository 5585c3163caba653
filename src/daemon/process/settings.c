/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/process/privileges.h"

/* The default for how long a keeper waits for the next daemon: longer than any restart takes. */
enum { KEEPER_SEC = 60 };

int settings_path(const struct options *options, char path[static PATH_MAX]) {
        if (options->config)
                return text_format(path, PATH_MAX, "%s", options->config);
        return locations_path(path, &options->locations, "/etc/holdfast/holdfast.conf");
}

enum { NO_CONFIG = 1 };

/*
 * Returns 0; NO_CONFIG and an empty *ret_config if --config is not given and the default file does not exist; or
 * negative errno, with a sentence in error and *ret_config unchanged.
 */
static int find_config(const struct options *options, struct config *ret_config, char error[static CONFIG_ERROR_SIZE]) {
        char path[PATH_MAX];
        int r;

        r = settings_path(options, path);
        if (r < 0) {
                (void)text_format(error, CONFIG_ERROR_SIZE, "the path of the configuration is too long");
                return r;
        }
        r = config_read(ret_config, path, error);
        if (r == -ENOENT && !options->config) {
                config_init(ret_config);
                return NO_CONFIG;
        }
        return r;
}

int settings_check(const struct options *options) {
        char error[CONFIG_ERROR_SIZE];
        struct config config;
        int r;

        r = find_config(options, &config, error);
        if (r < 0) {
                fprintf(stderr, "%s\n", error);
                return EXIT_FAILURE;
        }
        puts(r == NO_CONFIG ? "there is no configuration file, and none is needed" : "the configuration is valid");
        return EXIT_SUCCESS;
}

int settings_read(struct settings *settings, const struct options *options) {
        char error[CONFIG_ERROR_SIZE];
        int r;

        settings->options = options;
        r = find_config(options, &settings->config, error);
        if (r < 0)
                log_write(LOG_ERR, "%s", error);
        return r;
}

/* ---- the table of settings.h ---- */

struct registry_policy settings_of_gpu(const struct settings *settings, const struct gpu_info *info, int index) {
        enum config_switch persistence = config_persistence(&settings->config, info, index);
        enum config_switch uvm = config_uvm(&settings->config, info, index);

        return (struct registry_policy){
                .persistence = persistence == CONFIG_UNSET ? settings->options->persistence : persistence == CONFIG_ON,
                .uvm = uvm == CONFIG_UNSET ? settings->options->uvm : uvm == CONFIG_ON,
        };
}

int settings_peer_policy(const struct settings *settings, struct peer_policy *ret_policy) {
        const struct options *options = settings->options;
        int r = 0;

        *ret_policy = (struct peer_policy){
                .has_admin_group = settings->config.has_admin_group,
                .admin_gid = settings->config.admin_gid,
                .allow_containers = settings->config.allow_containers || options->allow_containers,
        };
        if (!ret_policy->has_admin_group && options->admin_group) {
                r = privileges_find_group("--admin-group", options->admin_group, &ret_policy->admin_gid);
                ret_policy->has_admin_group = r == 0;
        }
        return r;
}

static unsigned max_fds(void) {
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1048576 ? (unsigned)limit.rlim_cur : 1048576;
}

struct server_limits settings_limits(const struct settings *settings, const struct peer_policy *policy) {
        struct server_limits limits = server_limits_for(max_fds());
        const struct config *config = &settings->config;

        if (config->sessions != 0 && config->sessions < limits.sessions)
                limits.sessions = config->sessions;
        if (config->sessions_per_uid != 0)
                limits.sessions_per_user = config->sessions_per_uid;
        if (limits.sessions_per_user > limits.sessions)
                limits.sessions_per_user = limits.sessions;
        limits.members_matter = policy->has_admin_group;
        return limits;
}

uint64_t settings_stuck_usec(const struct settings *settings) {
        uint64_t seconds = settings->config.stuck_sec != 0 ? settings->config.stuck_sec : settings->options->stuck_sec;

        return seconds * USEC_PER_SEC;
}

unsigned settings_keeper_sec(const struct settings *settings) {
        if (settings->config.keeper_sec != 0)
                return settings->config.keeper_sec;
        return settings->options->keeper_sec != 0 ? (unsigned)settings->options->keeper_sec : KEEPER_SEC;
}
