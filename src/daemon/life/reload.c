/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/reload.h"

#include <errno.h>

#include "base/log.h"

static void apply(const struct reload *parts) {
        const struct settings *settings = parts->settings;
        struct methods *methods = parts->methods;
        struct server_limits limits;

        (void)settings_peer_policy(settings, &methods->policy);
        limits = settings_limits(settings, &methods->policy);
        server_set_limits(methods->server, &limits);
        registry_set_stuck_limit(parts->registry, settings_stuck_usec(settings));
        keeper_link_set_wait(parts->keeper, settings_keeper_sec(settings));
        registry_apply_policy(parts->registry);
        log_always(LOG_NOTICE, "Configuration read again");
}

void reload(const struct reload *parts) {
        int r;

        progress_reloading(parts->progress);
        r = settings_read(parts->settings, parts->settings->options);
        if (r >= 0)
                apply(parts);
        else /* Landlock permits only folders known at the start (sandbox/paths.h) */
                log_write(LOG_ERR, "the current configuration stays in effect%s",
                          r == -EACCES && parts->settings->options->sandbox
                                  ? "; if the file is now in another folder than at the start, the sandbox forbids "
                                    "it: restart the daemon"
                                  : "");
        progress_reloaded(parts->progress);
}
