#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The settings service, holdfast-settings.service: waits on RPC Watch, and each time the daemon has opened a GPU anew,
 * applies the settings and runs the hooks in a worker for each GPU (worker.h). Writes the results to a file that
 * everybody may read (cli/node/settings_state.h).
 *
 *      Watch ---> events of a GPU: held, released, failed, ... ---> a queue for each GPU ---> its worker
 *                 a look at all GPUs every minute ------------------------------------------^    |
 *      state.json <------------------------------------------------------------------------------+
 */

#include <stdint.h>

#include "base/locations.h"

struct service_options {
        const struct locations *locations;
        const char *config; /* the configuration's path */
        const char *nvml;   /* NULL: NVIDIA's own */
        uint64_t look_usec; /* interval for comparing settings */
        uint64_t hook_usec; /* how long a hook may take */
};

/*
 * Runs until SIGTERM or SIGINT, or until SIGUSR1, which leaves the state for the next service. SIGHUP: reads the
 * configuration again and applies it. Returns an exit status.
 */
int service_run(const struct service_options *options);
