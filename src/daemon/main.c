/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * nvidia-persistenced: start, run, stop.
 *
 *      options -> fork -> runtime directory, backend (as root) -> drop privileges -> pid file -> socket
 *              -> hold the GPUs -> ready -> loop -> release the GPUs -> remove socket and pid file
 */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/methods.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/privileges.h"
#include "daemon/runtime.h"
#include "daemon/server.h"
#include "daemon/startup.h"
#include "daemon/worker.h"

enum {
        EXIT_USAGE = 2,
        /* Everybody waits 5 s at most for the end (NVIDIA's driver container does); the rest is for the exit itself. */
        STOP_LIMIT_MSEC = 4500,
};

struct daemon {
        struct options options;
        struct privileges privileges;
        struct startup startup;
        struct runtime runtime;
        struct event_base *loop;
        struct event *on_term;
        struct event *on_int;
        struct event *stop_limit;
        const struct gpu_ops *ops;
        void *backend;
        struct worker *worker;
        struct registry *registry;
        struct methods methods;
        struct server *server;
        bool stopping;
};

/* ---- what the registry tells
 * --------------------------------------------------------------------------------------------- */

static void notify_status(struct daemon *daemon, const char *prefix) {
        struct registry_counts counts = registry_count(daemon->registry);

        notify_send("%sSTATUS=%zu of %zu GPUs held%s", prefix, counts.held, counts.gpus,
                    daemon->stopping ? ", stopping" : "");
}

static void on_change(void *userdata) {
        notify_status(userdata, "");
}

static void on_ready(void *userdata) {
        struct daemon *daemon = userdata;
        struct registry_counts counts = registry_count(daemon->registry);

        log_write(LOG_INFO, "Ready: %zu of %zu GPUs held", counts.held, counts.gpus);
        notify_status(daemon, "READY=1\n");
        startup_tell(&daemon->startup, EXIT_SUCCESS);
}

static void on_stopped(void *userdata) {
        struct daemon *daemon = userdata;

        (void)event_base_loopbreak(daemon->loop);
}

/* ---- stopping
 * ------------------------------------------------------------------------------------------------------------ */

static void stop(struct daemon *daemon) {
        static const struct timeval limit = {
                .tv_sec = STOP_LIMIT_MSEC / 1000,
                .tv_usec = STOP_LIMIT_MSEC % 1000 * 1000,
        };

        if (daemon->stopping)
                return;
        daemon->stopping = true;
        notify_send("STOPPING=1");
        (void)event_add(daemon->stop_limit, &limit);
        registry_stop(daemon->registry);
}

static void on_signal(evutil_socket_t signal_number, short what, void *userdata) {
        log_write(LOG_DEBUG, "Received signal %d", (int)signal_number);
        stop(userdata);
}

/* The driver is slower than anybody waits: what is still in it ends with the process, in the kernel. */
static void on_stop_limit(evutil_socket_t fd, short what, void *userdata) {
        struct daemon *daemon = userdata;
        const struct gpu *gpu;
        char text[PCI_ADDRESS_SIZE];

        for (size_t i = 0; (gpu = registry_gpu(daemon->registry, i)); i++)
                if (gpu->job != GPU_JOB_NONE || gpu->state == GPU_HELD)
                        log_write(LOG_WARNING,
                                  "device %s - the driver has not let go of it yet; the kernel goes on with that",
                                  pci_address_format(&gpu->info.address, text));
        (void)event_base_loopbreak(daemon->loop);
}

/* ---- starting
 * ------------------------------------------------------------------------------------------------------------ */

static int make_loop(struct daemon *daemon) {
        struct event_config *config = event_config_new();

        if (config) {
                /* One thread uses the loop, and the environment is not to configure a root daemon. */
                (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
                (void)event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
                daemon->loop = event_base_new_with_config(config);
                event_config_free(config);
        }
        if (!daemon->loop)
                return log_errno(LOG_ERR, -ENOMEM, "cannot make the event loop");
        daemon->on_term = evsignal_new(daemon->loop, SIGTERM, on_signal, daemon);
        daemon->on_int = evsignal_new(daemon->loop, SIGINT, on_signal, daemon);
        daemon->stop_limit = event_new(daemon->loop, -1, 0, on_stop_limit, daemon);
        if (!daemon->on_term || !daemon->on_int || !daemon->stop_limit || event_add(daemon->on_term, NULL) < 0 ||
            event_add(daemon->on_int, NULL) < 0)
                return log_errno(LOG_ERR, -ENOMEM, "cannot listen for signals");
        return 0;
}

/* With root's rights, where we have them. */
static int start_privileged(struct daemon *daemon) {
        const struct gpu_backend_config config = {
                .root = daemon->options.root,
                .nvidia_cfg_path = daemon->options.nvidia_cfg_path,
        };
        int r;

        r = runtime_init(&daemon->runtime, daemon->options.root);
        if (r < 0)
                return r;
        r = runtime_make_directory(&daemon->runtime, daemon->privileges.uid, daemon->privileges.gid);
        if (r < 0)
                return r;
        daemon->ops = gpu_ops_find(daemon->options.backend);
        return daemon->ops->start(&config, &daemon->backend);
}

static unsigned max_fds(void) {
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1048576 ? (unsigned)limit.rlim_cur : 1048576;
}

static int start_server(struct daemon *daemon) {
        const struct server_limits limits = server_limits_for(max_fds());
        int fd, r;

        daemon->methods = (struct methods){
                .registry = daemon->registry,
                .backend = daemon->ops->name,
                .started_realtime_usec = clock_realtime_usec(),
        };
        fd = server_listen(daemon->runtime.socket);
        if (fd < 0)
                return fd;
        r = server_new(&daemon->server, daemon->loop, fd, &limits, methods_on_record, &daemon->methods);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot serve %s", daemon->runtime.socket);
        log_write(LOG_INFO, "Local RPC services initialized");
        return 0;
}

static int start_registry(struct daemon *daemon) {
        const struct registry_config config = {
                .loop = daemon->loop,
                .worker = daemon->worker,
                .ops = daemon->ops,
                .context = daemon->backend,
                .persistence = daemon->options.persistence,
                .uvm = daemon->options.uvm,
                .stuck_usec = daemon->options.stuck_sec * USEC_PER_SEC,
                .on_change = on_change,
                .on_ready = on_ready,
                .on_stopped = on_stopped,
                .userdata = daemon,
        };
        int r = registry_new(&daemon->registry, &config);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot make the registry of GPUs") : 0;
}

static int start(struct daemon *daemon) {
        int r;

        r = start_privileged(daemon);
        if (r < 0)
                return r;
        r = privileges_drop(&daemon->privileges);
        if (r < 0)
                return r;
        r = runtime_lock(&daemon->runtime);
        if (r < 0)
                return r;
        log_always(LOG_NOTICE, "Started (%d)", (int)getpid());
        r = make_loop(daemon);
        if (r < 0)
                return r;
        r = worker_new(&daemon->worker, daemon->loop);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot make the worker");
        r = start_registry(daemon);
        if (r < 0)
                return r;
        r = start_server(daemon);
        if (r < 0)
                return r;
        return registry_start(daemon->registry);
}

/* ---- the whole
 * ----------------------------------------------------------------------------------------------------------- */

static void free_event(struct event **event) {
        if (*event)
                event_free(*event);
        *event = NULL;
}

/* Returns false when a thread is stuck in the driver: it uses what is left, so the process must end without freeing it. */
static bool finish(struct daemon *daemon) {
        pid_t pid = daemon->runtime.pid_fd >= 0 ? getpid() : 0;

        server_free(daemon->server);
        runtime_done(&daemon->runtime);
        if (pid != 0)
                log_always(LOG_NOTICE, "Shutdown (%d)", (int)pid);
        if (daemon->worker && !worker_free(daemon->worker))
                return false;
        registry_free(daemon->registry);
        if (daemon->backend)
                daemon->ops->stop(daemon->backend);
        free_event(&daemon->on_term);
        free_event(&daemon->on_int);
        free_event(&daemon->stop_limit);
        if (daemon->loop)
                event_base_free(daemon->loop);
        return true;
}

/* Inherited descriptors could be somebody's hold of a GPU; descriptors 0-2 must exist, or a socket would become one. */
static void clean_descriptors(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR); /* without O_CLOEXEC only as 0-2, or closed just below */
        while (fd >= 0 && fd <= STDERR_FILENO);
        (void)close_range(STDERR_FILENO + 1, ~0U, 0);
}

int main(int argc, char *argv[]) {
        struct daemon daemon = {
                .startup = {.pipe_fd = -1},
                .runtime = {.pid_fd = -1},
        };
        int r;

        r = options_parse(argc, argv, &daemon.options);
        if (r != OPTIONS_OK)
                return r == OPTIONS_DONE ? EXIT_SUCCESS : EXIT_USAGE;
        clean_descriptors();
        (void)umask(022);
        (void)signal(SIGPIPE, SIG_IGN);
        /* One arena: threads that live for one open would otherwise leave one each behind. */
        (void)mallopt(M_ARENA_MAX, 1);
        log_open("nvidia-persistenced", LOG_TO_STDERR, daemon.options.verbose);
        if (privileges_resolve(&daemon.privileges, daemon.options.user, daemon.options.group) < 0)
                return EXIT_FAILURE;
        if (!daemon.options.foreground) {
                if (startup_fork(&daemon.startup) < 0)
                        return EXIT_FAILURE;
                log_open("nvidia-persistenced", LOG_TO_SYSLOG, daemon.options.verbose);
        }
        notify_open();
        r = start(&daemon);
        if (r == 0)
                (void)event_base_dispatch(daemon.loop);
        startup_tell(&daemon.startup, r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
        if (!finish(&daemon))
                _exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
