/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/daemon_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/gpus/kernel_messages.h"
#include "daemon/manager/notify.h"
#include "daemon/process/exit_status.h"
#include "gpu/nodes.h"

enum {
        /* If the driver takes longer than this to list its GPUs, clients are served without the list. */
        LIST_LIMIT_SEC = 2,
        /* The pause between scans while changes are not reported, there is no GPU, or the last scan failed. */
        POLL_SEC = 5,
};

/* ---- the steps and their undos ---- */

static int read_settings(struct daemon *daemon) {
        return settings_read(&daemon->settings, daemon->options);
}

static int make_runtime(struct daemon *daemon) {
        int r = runtime_init(&daemon->runtime, &daemon->options->locations, daemon->options->environment->in_unit);

        if (r < 0)
                return r;
        return runtime_make_directory(&daemon->runtime, daemon->privileges->uid, daemon->privileges->gid);
}

static void free_runtime(struct daemon *daemon) {
        runtime_done(&daemon->runtime);
}

static int make_keeper_link(struct daemon *daemon) {
        int r = keeper_link_new(&daemon->keeper);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot create the link to the keeper") : 0;
}

static void free_keeper_link(struct daemon *daemon) {
        keeper_link_free(daemon->keeper);
}

static int start_backend(struct daemon *daemon) {
        const struct gpu_backend_config config = {
                .locations = &daemon->options->locations,
                .nvidia_cfg_path = daemon->options->nvidia_cfg_path,
                .keeper = keeper_link_keeper(daemon->keeper),
        };

        nodes_make(&daemon->options->locations, NULL);
        daemon->inherit.log_fd = kernel_messages_open(&daemon->options->locations);
        daemon->ops = gpu_ops_find(daemon->options->backend);
        return daemon->ops->start(&config, &daemon->backend);
}

static void stop_backend(struct daemon *daemon) {
        daemon->inherit.log_fd = fd_close(daemon->inherit.log_fd);
        if (daemon->backend)
                daemon->ops->stop(daemon->backend);
}

static int drop_privileges(struct daemon *daemon) {
        daemon->confine = (struct confine){
                .options = daemon->options,
                .ops = daemon->ops,
                .runtime_directory = daemon->runtime.directory,
        };
        return confine_drop_privileges(&daemon->confine, daemon->privileges);
}

static int make_loop(struct daemon *daemon) {
        return loop_init(&daemon->loop, daemon_on_signal, daemon);
}

static void free_loop(struct daemon *daemon) {
        loop_done(&daemon->loop);
}

static int make_registry(struct daemon *daemon) {
        struct registry_config config = {
                .loop = daemon->loop.base,
                .ops = daemon->ops,
                .context = daemon->backend,
                .stuck_usec = settings_stuck_usec(&daemon->settings),
                .poll_usec = POLL_SEC * USEC_PER_SEC,
                .policy = daemon_policy_of,
                .on_change = daemon_on_change,
                .on_ready = daemon_on_ready,
                .on_stopped = daemon_on_stopped,
                .userdata = daemon,
        };
        int r = worker_new(&daemon->worker, daemon->loop.base);

        config.worker = daemon->worker;
        if (r == 0)
                r = registry_new(&daemon->registry, &config);
        return r < 0 ? log_errno(LOG_ERR, r, "cannot create the registry of GPUs") : 0;
}

static void free_registry(struct daemon *daemon) {
        registry_free(daemon->registry);
        (void)worker_free(daemon->worker);
}

static int make_methods(struct daemon *daemon) {
        if (methods_init(&daemon->methods, daemon->loop.base, daemon->ops->name) < 0)
                return log_errno(LOG_ERR, -ENOMEM, "cannot create the RPC methods");
        daemon->methods.registry = daemon->registry;
        return settings_peer_policy(&daemon->settings, &daemon->methods.policy);
}

static void free_methods(struct daemon *daemon) {
        methods_done(&daemon->methods);
}

static int make_progress(struct daemon *daemon) {
        const struct environment *environment = daemon->options->environment;
        uint64_t watchdog_usec = notify_watchdog_usec(environment->watchdog_usec, environment->watchdog_pid);

        return progress_init(&daemon->progress, daemon->loop.base, daemon->registry, watchdog_usec);
}

static void free_progress(struct daemon *daemon) {
        progress_done(&daemon->progress);
}

static int make_stop(struct daemon *daemon) {
        const struct stop_config config = {
                .loop = daemon->loop.base,
                .registry = daemon->registry,
                .keeper = daemon->keeper,
                .progress = &daemon->progress,
                .may_keep = daemon->options->keeper_from != KEEPER_NONE && daemon->ops->adopt,
                .on_limit = daemon_on_stopped,
                .userdata = daemon,
        };

        return stop_init(&daemon->stop, &config);
}

static void free_stop(struct daemon *daemon) {
        stop_done(&daemon->stop);
}

/* A thread that is stuck in the driver cannot be ended, and uses what the steps before this one have created. */
static void look_for_stuck_threads(struct daemon *daemon) {
        daemon->stuck = !worker_is_idle(daemon->worker);
}

static void tell_keeper_of_end(struct daemon *daemon) {
        keeper_link_end(daemon->keeper);
}

static int lock_runtime(struct daemon *daemon) {
        return runtime_lock(&daemon->runtime);
}

static void unlock_runtime(struct daemon *daemon) {
        runtime_unlock(&daemon->runtime);
}

static int find_keeper(struct daemon *daemon) {
        const struct keeper_link_config config = {
                .loop = daemon->loop.base,
                .worker = daemon->worker,
                .choice = daemon->options->keeper_from,
                .locations = &daemon->options->locations,
                .directory = daemon->runtime.directory,
                .sandbox = daemon->options->sandbox,
                .keep_socket = daemon->options->keep_socket,
                .title = daemon->options->arguments,
                .title_size = daemon->options->arguments_size,
                .wait_sec = settings_keeper_sec(&daemon->settings),
                .on_have = inherit_gpu,
                .userdata = &daemon->inherit,
        };

        daemon->inherit.registry = daemon->registry;
        daemon->inherit.keeper = daemon->keeper;
        daemon->inherit.adopts = daemon->ops->adopt;
        if (daemon->inherit.adopts)
                keeper_link_start(daemon->keeper, &config);
        else /* a closed library's descriptors cannot be adopted */
                keeper_link_reset_others(&config);
        return 0;
}

static void leave_keeper(struct daemon *daemon) {
        if (!daemon->stop.keeps_gpus)
                keeper_link_remove_socket(daemon->keeper);
}

static int take_passed(struct daemon *daemon) {
        int r = 0;

        inherit_passed(&daemon->inherit);
        if (daemon->inherit.log_fd >= 0)
                r = registry_take_log(daemon->registry, take_fd(&daemon->inherit.log_fd));
        return r < 0 ? log_errno(LOG_ERR, r, "cannot listen to the kernel log") : 0;
}

static void close_passed(struct daemon *daemon) {
        inherit_done(&daemon->inherit);
}

static int make_server(struct daemon *daemon) {
        const struct server_limits limits = settings_limits(&daemon->settings, &daemon->methods.policy);
        int fd = take_fd(&daemon->inherit.listen_fd);
        int r;

        if (fd < 0) {
                fd = server_listen(daemon->runtime.socket);
                daemon->runtime.removes_socket = fd >= 0 && !daemon->options->keep_socket;
        }
        if (fd < 0)
                return fd;
        r = server_new(&daemon->server, daemon->loop.base, fd, &limits, methods_on_record, &daemon->methods);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot serve %s", daemon->runtime.socket);
        daemon->methods.server = daemon->server;
        log_write(LOG_INFO, "Local RPC services initialized");
        return 0;
}

/* Also logs the counts of refused calls, since free_methods() is not called if a thread is stuck. */
static void free_server(struct daemon *daemon) {
        server_free(daemon->server);
        refusals_done(&daemon->methods.refusals);
}

static int listen_to_hotplug(struct daemon *daemon) {
        const struct hotplug_callbacks callbacks = {.on_event = daemon_on_hotplug, .userdata = daemon};
        int r;

        if (daemon->options->locations.kernel_tells)
                r = hotplug_new_udev(&daemon->hotplug, daemon->loop.base, &callbacks);
        else if (daemon->ops->closed_library)
                r = -EOPNOTSUPP;
        else
                r = hotplug_new_socket(&daemon->hotplug, daemon->loop.base, daemon->runtime.uevents, &callbacks);
        if (r < 0)
                (void)log_errno(LOG_INFO, r, "nothing reports GPUs that are added or removed; looking every %d s",
                                POLL_SEC);
        registry_set_polling(daemon->registry, r < 0);
        return 0;
}

static void free_hotplug(struct daemon *daemon) {
        hotplug_free(daemon->hotplug);
}

static int enter_sandbox(struct daemon *daemon) {
        return confine_enter_sandbox(&daemon->confine) < 0 ? -EPERM : 0;
}

static int start_log_thread(struct daemon *daemon) {
        int r = log_start();

        if (r < 0)
                (void)log_errno(LOG_WARNING, r, "cannot start the log's thread: a blocked log may block the daemon");
        return 0;
}

static int start_registry(struct daemon *daemon) {
        static const struct timeval limit = {.tv_sec = LIST_LIMIT_SEC};

        if (event_base_once(daemon->loop.base, -1, EV_TIMEOUT, daemon_on_list_limit, daemon, &limit) < 0)
                return log_errno(LOG_ERR, -ENOMEM, "cannot create timers");
        registry_start(daemon->registry);
        return 0;
}

/* ---- the table ---- */

/*
 * Each run logs why it fails. An undo function must accept a half-completed step, since it also runs for a step that
 * failed.
 */
static const struct start_step {
        int (*run)(struct daemon *daemon);   /* NULL: nothing to do at the start */
        void (*undo)(struct daemon *daemon); /* NULL: nothing to undo */
        int status;                          /* for exit_status_of(), if it fails */
} steps[] = {
        /* clang-format off */
        {read_settings, NULL, EXIT_NOT_CONFIGURED},
        {make_runtime, free_runtime, EXIT_FAILURE},
        {make_keeper_link, free_keeper_link, EXIT_FAILURE},
        {start_backend, stop_backend, EXIT_FAILURE}, /* the last step that needs root */
        {drop_privileges, NULL, EXIT_NOT_PERMITTED},
        {make_loop, free_loop, EXIT_FAILURE},
        {make_registry, free_registry, EXIT_FAILURE},
        {make_methods, free_methods, EXIT_NOT_CONFIGURED},
        {make_progress, free_progress, EXIT_FAILURE},
        {make_stop, free_stop, EXIT_FAILURE},
        {NULL, look_for_stuck_threads, 0}, /* if a thread is stuck, the steps above are not undone */
        {NULL, tell_keeper_of_end, 0},
        {lock_runtime, unlock_runtime, EXIT_FAILURE},
        {find_keeper, leave_keeper, EXIT_FAILURE},
        {take_passed, close_passed, EXIT_FAILURE},
        {make_server, free_server, EXIT_FAILURE}, /* from here on clients can connect */
        {listen_to_hotplug, free_hotplug, EXIT_FAILURE},
        {enter_sandbox, NULL, EXIT_FAILURE},
        {start_log_thread, NULL, EXIT_FAILURE}, /* the first thread */
        {start_registry, NULL, EXIT_FAILURE},
        /* clang-format on */
};

int steps_take(struct daemon *daemon) {
        while (daemon->n_steps < ARRAY_SIZE(steps)) {
                const struct start_step *step = &steps[daemon->n_steps++];
                int r = step->run ? step->run(daemon) : 0;

                if (r < 0)
                        return exit_status_of(r, step->status);
        }
        return EXIT_SUCCESS;
}

void steps_undo(struct daemon *daemon) {
        while (daemon->n_steps > 0 && !daemon->stuck) {
                const struct start_step *step = &steps[--daemon->n_steps];

                if (step->undo)
                        step->undo(daemon);
        }
}
