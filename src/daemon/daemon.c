/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/daemon_private.h"

#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "daemon/life/reload.h"

enum { LOG_LIMIT_MSEC = 200 };

/* ---- callbacks between the parts ---- */

struct registry_policy daemon_policy_of(const struct gpu_info *info, int index, void *userdata) {
        return settings_of_gpu(&((struct daemon *)userdata)->settings, info, index);
}

void daemon_on_change(void *userdata) {
        struct daemon *daemon = userdata;

        if (registry_is_listed(daemon->registry))
                server_start(daemon->server);
        progress_tell(&daemon->progress);
        methods_on_change(&daemon->methods);
}

static void end_loop(struct daemon *daemon, int status) {
        daemon->status = status;
        (void)event_base_loopbreak(daemon->loop.base);
}

void daemon_on_ready(void *userdata) {
        struct daemon *daemon = userdata;
        struct registry_counts counts = registry_count(daemon->registry);

        if (counts.gpus == 0 && daemon->options->require_gpu) {
                log_write(LOG_ERR, "no NVIDIA GPU found, and --require-gpu was given; is the driver loaded?");
                end_loop(daemon, EXIT_FAILURE);
                return;
        }
        log_write(LOG_INFO, "Ready: %zu of %zu GPUs held", counts.held, counts.gpus);
        progress_ready(&daemon->progress);
        startup_tell(daemon->startup, EXIT_SUCCESS);
}

void daemon_on_stopped(void *userdata) {
        end_loop(userdata, EXIT_SUCCESS);
}

void daemon_on_hotplug(enum hotplug_action action, const struct pci_address *address, void *userdata) {
        struct daemon *daemon = userdata;

        if (action == HOTPLUG_REMOVED)
                registry_note_removed(daemon->registry, address);
        else
                registry_rescan(daemon->registry);
}

void daemon_on_signal(evutil_socket_t number, short what, void *userdata) {
        struct daemon *daemon = userdata;
        const struct reload parts = {
                .settings = &daemon->settings,
                .registry = daemon->registry,
                .methods = &daemon->methods,
                .keeper = daemon->keeper,
                .progress = &daemon->progress,
        };

        log_write(LOG_DEBUG, "Received signal %d", (int)number);
        if (number == SIGUSR1)
                stop_hand_over(&daemon->stop);
        else if (number != SIGHUP)
                stop_release(&daemon->stop);
        else if (!daemon->stop.stopping)
                reload(&parts);
}

/*
 * The driver has not returned its list in time. Clients are served without it: they may not find a GPU, but do not
 * wait.
 */
void daemon_on_list_limit(evutil_socket_t fd, short what, void *userdata) {
        server_start(((struct daemon *)userdata)->server);
}

/* ---- the daemon's life ---- */

int daemon_run(const struct options *options, const struct privileges *privileges, struct startup *startup) {
        struct daemon daemon = {
                .options = options,
                .privileges = privileges,
                .startup = startup,
                .runtime = {.pid_fd = -1},
                .inherit = {.listen_fd = -1, .log_fd = -1},
        };

        daemon.status = steps_take(&daemon);
        if (daemon.status == EXIT_SUCCESS)
                (void)event_base_dispatch(daemon.loop.base);
        startup_tell(startup, daemon.status);
        steps_undo(&daemon);
        log_flush(LOG_LIMIT_MSEC);
        if (daemon.stuck)
                stop_leave(daemon.registry, daemon.status);
        return daemon.status;
}
