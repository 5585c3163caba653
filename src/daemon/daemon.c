/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/gpus/hotplug.h"
#include "daemon/gpus/kernel_messages.h"
#include "daemon/gpus/worker.h"
#include "daemon/manager/inherited.h"
#include "daemon/manager/keeper_link.h"
#include "daemon/manager/keeper_message.h"
#include "daemon/manager/notify.h"
#include "daemon/process/exit_status.h"
#include "daemon/process/override.h"
#include "daemon/process/runtime.h"
#include "daemon/process/settings.h"
#include "daemon/sandbox/sandbox.h"
#include "daemon/serve/methods.h"
#include "gpu/nodes.h"
#include "gpu/numa.h"

enum {
        /* Everybody waits 5 s at most for the end (NVIDIA's driver container does); the rest is for the exit itself. */
        STOP_LIMIT_MSEC = 4500,
        LOG_LIMIT_MSEC = 200,
        /* How often the service manager is asked for more time while GPUs start or stop, and for how much. */
        EXTEND_PERIOD_SEC = 5,
        EXTEND_SEC = 15,
        /* Clients are served without a list of GPUs only if it takes longer than this to make. */
        LIST_LIMIT_SEC = 2,
        /* How often to look for GPUs where nobody tells of changes, or there are none. */
        POLL_SEC = 5,
        /* At a hand-over a keeper that is just being restarted is waited for. */
        HAND_OVER_LIMIT_MSEC = 3000,
        HAND_OVER_PERIOD_MSEC = 20,
};

struct daemon {
        const struct options *options;
        const struct privileges *privileges;
        struct startup *startup;
        struct settings settings;
        struct runtime runtime;
        const struct gpu_ops *ops;
        void *backend;

        struct event_base *loop;
        struct event *signals[4];
        struct event *stop_limit;
        struct event *hand_over;
        struct event *list_limit;
        struct event *extend;
        struct event *watchdog;

        struct worker *worker;
        struct keeper_link *keeper;
        struct registry *registry;
        bool onlines_numa; /* GPU memory is there to be onlined, when it was looked for */
        struct hotplug *hotplug;
        struct methods methods;
        struct server *server;
        int listen_fd; /* until the server has it */
        int log_fd;    /* of the kernel log, until the registry has it; -1: none */
        bool stopping;
        uint64_t hand_over_until_usec; /* USR1 has come: until when a keeper is waited for; 0: it has not */
        bool keeps_gpus;               /* when it stops: with the keeper */
        int status;                    /* to exit with */
};

/* ---- configuration ---- */

/* On failure, which is logged, the configuration stays as it is. */
static int read_settings(struct daemon *daemon) {
        return settings_read(&daemon->settings, daemon->options);
}

static struct registry_policy policy_of(const struct gpu_info *info, int index, void *userdata) {
        return settings_of_gpu(&((struct daemon *)userdata)->settings, info, index);
}

/* Returns 0, or negative errno, which is logged, when there is no such group as --admin-group names. */
static int set_peer_policy(struct daemon *daemon) {
        return settings_peer_policy(&daemon->settings, &daemon->methods.policy);
}

static struct server_limits limits_of(const struct daemon *daemon) {
        struct server_limits limits = settings_limits(&daemon->settings);

        limits.members_matter = daemon->methods.policy.has_admin_group;
        return limits;
}

static void reload(struct daemon *daemon) {
        struct server_limits limits;
        int r;

        /* Before we are ready, READY=1 at the end would say more than that the reload is over. */
        if (registry_is_ready(daemon->registry))
                (void)notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic_usec());
        r = read_settings(daemon);
        if (r < 0) { /* Landlock knows the folders that were there at the start (sandbox/paths.h) */
                log_write(LOG_ERR, "the configuration in force stays%s",
                          r == -EACCES && daemon->options->sandbox ? "; a restart reads files in other folders" : "");
        } else {
                (void)set_peer_policy(daemon);
                limits = limits_of(daemon);
                server_set_limits(daemon->server, &limits);
                registry_set_stuck_limit(daemon->registry, settings_stuck_usec(&daemon->settings));
                keeper_link_set_wait(daemon->keeper, settings_keeper_sec(&daemon->settings));
                registry_apply_policy(daemon->registry);
                log_always(LOG_NOTICE, "Configuration read again");
        }
        if (registry_is_ready(daemon->registry))
                (void)notify_send("READY=1");
}

/* ---- what the registry tells ---- */

static int notify_status(struct daemon *daemon, const char *prefix) {
        struct registry_counts counts = registry_count(daemon->registry);

        return notify_send("%sSTATUS=%zu of %zu GPUs held%s", prefix, counts.held, counts.gpus,
                           daemon->stopping ? ", stopping" : "");
}

static void on_change(void *userdata) {
        struct daemon *daemon = userdata;

        if (registry_is_listed(daemon->registry))
                server_start(daemon->server);
        (void)notify_status(daemon, "");
        methods_on_change(&daemon->methods);
}

/* Without READY=1 the manager would end us when the start takes too long: until it is sent, the timer tries again. */
static void tell_ready(struct daemon *daemon) {
        if (notify_status(daemon, "READY=1\n") == 0)
                (void)event_del(daemon->extend);
}

static void end_loop(struct daemon *daemon, int status) {
        daemon->status = status;
        (void)event_base_loopbreak(daemon->loop);
}

static void on_ready(void *userdata) {
        struct daemon *daemon = userdata;
        struct registry_counts counts = registry_count(daemon->registry);

        if (counts.gpus == 0 && daemon->options->require_gpu) {
                log_write(LOG_ERR, "no NVIDIA GPU found, and --require-gpu was given; is the driver loaded?");
                end_loop(daemon, EXIT_FAILURE);
                return;
        }
        log_write(LOG_INFO, "Ready: %zu of %zu GPUs held", counts.held, counts.gpus);
        tell_ready(daemon);
        startup_tell(daemon->startup, EXIT_SUCCESS);
}

static void on_stopped(void *userdata) {
        end_loop(userdata, EXIT_SUCCESS);
}

/* ---- what the kernel tells ---- */

static void on_hotplug(enum hotplug_action action, const struct pci_address *address, void *userdata) {
        struct daemon *daemon = userdata;

        if (action == HOTPLUG_REMOVED)
                registry_note_removed(daemon->registry, address);
        else
                registry_rescan(daemon->registry);
}

/* ---- timers and signals ---- */

static void on_extend(evutil_socket_t fd, short what, void *userdata) {
        struct daemon *daemon = userdata;

        if (registry_is_ready(daemon->registry))
                tell_ready(daemon);
        else
                (void)notify_send("EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)(EXTEND_SEC * USEC_PER_SEC));
}

/* Sent from the loop: a loop that does not turn is what the watchdog is for. GPUs stuck in the driver do not stop it.
 */
static void on_watchdog(evutil_socket_t fd, short what, void *userdata) {
        (void)notify_send("WATCHDOG=1");
}

static void stop(struct daemon *daemon, bool keep_gpus) {
        static const struct timeval limit = {
                .tv_sec = STOP_LIMIT_MSEC / 1000,
                .tv_usec = STOP_LIMIT_MSEC % 1000 * 1000,
        };

        if (daemon->stopping)
                return;
        daemon->stopping = true;
        daemon->keeps_gpus = keep_gpus;
        (void)notify_send("STOPPING=1");
        (void)event_add(daemon->stop_limit, &limit);
        registry_stop(daemon->registry, keep_gpus);
}

/*
 * Leaves what we hold with the keeper, for the next daemon. One that is restarted itself (an upgrade does that just
 * before) is waited for; without any the GPUs are better released in order.
 */
static void on_hand_over(evutil_socket_t fd, short what, void *userdata) {
        static const struct timeval period = {.tv_usec = HAND_OVER_PERIOD_MSEC * 1000};
        struct daemon *daemon = userdata;
        bool up = keeper_link_is_up(daemon->keeper);
        bool late = clock_monotonic_usec() >= daemon->hand_over_until_usec;

        if (!up && !late) {
                (void)event_add(daemon->hand_over, &period);
                return;
        }
        if (!up)
                log_always(LOG_WARNING, "there is no keeper to leave the GPUs with: releasing them");
        stop(daemon, up);
}

static void begin_hand_over(struct daemon *daemon) {
        bool keeps = daemon->options->keeper_from != KEEPER_NONE && daemon->ops->adopt;
        uint64_t limit_usec = keeps ? HAND_OVER_LIMIT_MSEC * USEC_PER_MSEC : 0;

        if (daemon->hand_over_until_usec != 0)
                return;
        daemon->hand_over_until_usec = clock_monotonic_usec() + limit_usec;
        on_hand_over(-1, 0, daemon);
}

static void on_signal(evutil_socket_t signal_number, short what, void *userdata) {
        struct daemon *daemon = userdata;

        log_write(LOG_DEBUG, "Received signal %d", (int)signal_number);
        if (daemon->stopping)
                return;
        if (signal_number == SIGUSR1) {
                begin_hand_over(daemon);
        } else if (signal_number == SIGHUP) {
                reload(daemon);
        } else { /* also while a keeper is waited for */
                (void)event_del(daemon->hand_over);
                stop(daemon, false);
        }
}

/* The driver is slower than anybody waits: what is still in it ends with the process, in the kernel. */
static void on_stop_limit(evutil_socket_t fd, short what, void *userdata) {
        struct daemon *daemon = userdata;
        const struct gpu *gpu;
        char text[PCI_ADDRESS_SIZE];

        for (size_t i = 0; (gpu = registry_gpu(daemon->registry, i)); i++)
                if (gpu->job != GPU_JOB_NONE)
                        log_write(LOG_WARNING,
                                  "device %s - the driver has not let go of it yet; the kernel goes on with that",
                                  pci_address_format(&gpu->info.address, text));
        if (!daemon->keeps_gpus)
                keeper_link_drop_all(daemon->keeper);
        end_loop(daemon, EXIT_SUCCESS);
}

/* The driver keeps us from its list: whoever asks now hears of no GPU, but is not kept waiting. */
static void on_list_limit(evutil_socket_t fd, short what, void *userdata) {
        server_start(((struct daemon *)userdata)->server);
}

/* ---- starting ---- */

/* Left alone, libevent tells standard error, which in the background is nobody. */
static void on_loop_message(int severity, const char *message) {
        log_write(severity >= EVENT_LOG_WARN ? LOG_WARNING : LOG_DEBUG, "event loop: %s", message);
}

static int make_loop(struct daemon *daemon) {
        struct event_config *config = event_config_new();

        event_set_log_callback(on_loop_message);
        if (config) {
                /* One thread uses the loop, and the environment is not to configure a root daemon. */
                (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
                (void)event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
                (void)event_config_set_max_dispatch_interval(config, NULL, SERVER_CALLBACKS_BEFORE_A_LOOK,
                                                             SERVER_FIRST + 1);
                daemon->loop = event_base_new_with_config(config);
                event_config_free(config);
        }
        if (daemon->loop)
                (void)event_base_priority_init(daemon->loop, SERVER_PRIORITIES);
        return daemon->loop ? 0 : log_errno(LOG_ERR, -ENOMEM, "cannot make the event loop");
}

static int make_signals(struct daemon *daemon) {
        static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                daemon->signals[i] = evsignal_new(daemon->loop, numbers[i], on_signal, daemon);
                if (!daemon->signals[i] || event_add(daemon->signals[i], NULL) < 0)
                        return log_errno(LOG_ERR, -ENOMEM, "cannot listen for signals");
        }
        return 0;
}

static int add_periodic(struct daemon *daemon, struct event **ret_event, event_callback_fn callback,
                        uint64_t period_usec) {
        struct timeval period = clock_timeval(period_usec);

        *ret_event = event_new(daemon->loop, -1, EV_PERSIST, callback, daemon);
        return *ret_event && (period_usec == 0 || event_add(*ret_event, &period) == 0) ? 0 : -ENOMEM;
}

static int make_timers(struct daemon *daemon) {
        const struct environment *environment = daemon->options->environment;
        uint64_t watchdog_usec = notify_watchdog_usec(environment->watchdog_usec, environment->watchdog_pid);

        daemon->stop_limit = event_new(daemon->loop, -1, 0, on_stop_limit, daemon);
        daemon->list_limit = event_new(daemon->loop, -1, 0, on_list_limit, daemon);
        daemon->hand_over = event_new(daemon->loop, -1, 0, on_hand_over, daemon);
        if (!daemon->stop_limit || !daemon->hand_over || !daemon->list_limit ||
            add_periodic(daemon, &daemon->extend, on_extend, EXTEND_PERIOD_SEC * USEC_PER_SEC) < 0 ||
            add_periodic(daemon, &daemon->watchdog, on_watchdog, watchdog_usec) < 0)
                return log_errno(LOG_ERR, -ENOMEM, "cannot make timers");
        return 0;
}

/* With root's rights, where we have them. */
static int start_privileged(struct daemon *daemon) {
        struct gpu_backend_config config = {
                .locations = &daemon->options->locations,
                .nvidia_cfg_path = daemon->options->nvidia_cfg_path,
        };
        int r;

        r = runtime_init(&daemon->runtime, &daemon->options->locations, daemon->options->environment->in_unit);
        if (r < 0)
                return r;
        r = runtime_make_directory(&daemon->runtime, daemon->privileges->uid, daemon->privileges->gid);
        if (r < 0)
                return r;
        r = keeper_link_new(&daemon->keeper);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot make the keeper's link");
        config.keeper = keeper_link_keeper(daemon->keeper);
        nodes_make(&daemon->options->locations, NULL);
        daemon->log_fd = kernel_messages_open(&daemon->options->locations);
        daemon->ops = gpu_ops_find(daemon->options->backend);
        return daemon->ops->start(&config, &daemon->backend);
}

static int make_worker(struct daemon *daemon) {
        int r = worker_new(&daemon->worker, daemon->loop);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot make the worker") : 0;
}

static int make_registry(struct daemon *daemon) {
        const struct registry_config config = {
                .loop = daemon->loop,
                .worker = daemon->worker,
                .ops = daemon->ops,
                .context = daemon->backend,
                .stuck_usec = settings_stuck_usec(&daemon->settings),
                .poll_usec = POLL_SEC * USEC_PER_SEC,
                .policy = policy_of,
                .on_change = on_change,
                .on_ready = on_ready,
                .on_stopped = on_stopped,
                .userdata = daemon,
        };
        int r = registry_new(&daemon->registry, &config);

        return r < 0 ? log_errno(LOG_ERR, r, "cannot make the registry of GPUs") : 0;
}

static bool is_listening(int fd) {
        int listening = 0;
        socklen_t size = sizeof(listening);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

/*
 * A descriptor of a GPU that a daemon before us has held. Those of one GPU come one by one: each is handed in alone,
 * and they meet in the registry. Returns whether it is one of a GPU's; then the descriptor is the registry's.
 */
static bool inherit_gpu(struct daemon *daemon, const char *name, int fd) {
        struct gpu_hold hold = GPU_HOLD_NONE;
        struct pci_address address;

        if (keeper_name_parse(name, GPU_KIND_DEVICE, &address))
                hold.device_fd = fd;
        else if (keeper_name_parse(name, GPU_KIND_UVM, &address))
                hold.uvm_fd = fd;
        else
                return false;
        return daemon->ops->adopt && registry_adopt(daemon->registry, &address, &hold) == 0;
}

static bool on_have(const char *name, int fd, void *userdata) {
        return inherit_gpu(userdata, name, fd);
}

/* Version 0.1.0 left GPUs with systemd: they go to the keeper, and from there on systemd has no part in it. */
static bool inherit_stored(struct daemon *daemon, const char *name, int fd) {
        struct gpu_keeper *keeper = keeper_link_keeper(daemon->keeper);
        struct pci_address address;
        bool is_device = keeper_name_parse(name, GPU_KIND_DEVICE, &address);

        if (!is_device && !keeper_name_parse(name, GPU_KIND_UVM, &address))
                return false;
        if (!inherit_gpu(daemon, name, fd))
                return false;
        keeper->keep(keeper, &address, is_device ? GPU_KIND_DEVICE : GPU_KIND_UVM, fd);
        (void)notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
        return true;
}

static void inherit(struct daemon *daemon, int fd, const char *name) {
        if (inherit_stored(daemon, name, fd))
                return;
        if (daemon->listen_fd < 0 && is_listening(fd)) {
                /* systemd's blocks unless the unit says NonBlocking=: an accept too many would stop the loop. */
                (void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
                daemon->listen_fd = fd;
        } else if (text_equal(name, KERNEL_MESSAGES_NAME) && daemon->log_fd < 0 && kernel_messages_is_log(fd)) {
                (void)fcntl(fd, F_SETFL, O_RDONLY | O_NONBLOCK);
                daemon->log_fd = fd;
        } else {
                (void)fd_close(fd);
        }
}

static int find_keeper(struct daemon *daemon) {
        const struct keeper_link_config config = {
                .loop = daemon->loop,
                .worker = daemon->worker,
                .choice = daemon->options->keeper_from,
                .locations = &daemon->options->locations,
                .directory = daemon->runtime.directory,
                .sandbox = daemon->options->sandbox,
                .keep_socket = daemon->options->keep_socket,
                .title = daemon->options->arguments,
                .title_size = daemon->options->arguments_size,
                .wait_sec = settings_keeper_sec(&daemon->settings),
                .on_have = on_have,
                .userdata = daemon,
        };

        if (daemon->ops->adopt)
                keeper_link_start(daemon->keeper, &config);
        else /* a library's descriptors are its own business */
                keeper_link_reset_others(&config);
        return 0;
}

/* What the service manager hands us: the socket, and GPUs that a process before us held. */
static int inherit_all(struct daemon *daemon) {
        unsigned count = inherited_count();

        for (unsigned i = 0; i < count; i++) {
                char name[64];
                int fd = inherited_take(i, name, sizeof(name));

                inherit(daemon, fd, name);
        }
        inherited_done();
        return 0;
}

static int hand_in_log(struct daemon *daemon) {
        int r = daemon->log_fd >= 0 ? registry_take_log(daemon->registry, take_fd(&daemon->log_fd)) : 0;

        return r < 0 ? log_errno(LOG_ERR, r, "cannot listen to the kernel log") : 0;
}

static int start_server(struct daemon *daemon) {
        const struct server_limits limits = limits_of(daemon);
        int r;

        daemon->methods.registry = daemon->registry;
        if (daemon->listen_fd < 0) {
                daemon->listen_fd = server_listen(daemon->runtime.socket);
                daemon->runtime.removes_socket = daemon->listen_fd >= 0 && !daemon->options->keep_socket;
        }
        if (daemon->listen_fd < 0)
                return daemon->listen_fd;
        r = server_new(&daemon->server, daemon->loop, take_fd(&daemon->listen_fd), &limits, methods_on_record,
                       &daemon->methods);
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot serve %s", daemon->runtime.socket);
        daemon->methods.server = daemon->server;
        log_write(LOG_INFO, "Local RPC services initialized");
        return 0;
}

static void start_hotplug(struct daemon *daemon) {
        const struct hotplug_callbacks callbacks = {.on_event = on_hotplug, .userdata = daemon};
        int r;

        if (daemon->options->locations.kernel_tells)
                r = hotplug_new_udev(&daemon->hotplug, daemon->loop, &callbacks);
        else if (daemon->ops->closed_library)
                r = -EOPNOTSUPP;
        else
                r = hotplug_new_socket(&daemon->hotplug, daemon->loop, daemon->runtime.uevents, &callbacks);
        if (r < 0)
                (void)log_errno(LOG_INFO, r, "nobody tells of GPUs that come and go; looking every %d s", POLL_SEC);
        registry_set_polling(daemon->registry, r < 0);
}

static int enter_sandbox(const struct daemon *daemon) {
        char config_file[PATH_MAX];
        const struct sandbox_config config = {
                .closed_library = daemon->ops->closed_library,
                .onlines_numa = daemon->onlines_numa,
                .root = daemon->options->locations.root,
                .config_path = settings_path(daemon->options, config_file) < 0 ? NULL : config_file,
                .runtime_directory = daemon->runtime.directory,
        };

        return daemon->options->sandbox ? sandbox_enter(&config) : 0;
}

/* Known while the driver is loaded; one that is loaded later has to do without (docs/decisions/0002-numa-as-root.md).
 */
static bool has_numa_memory(const struct locations *locations) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        bool found = false;
        size_t n = 0;

        if (inventory_read_addresses(locations, &gpus, &n) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                found |= numa_is_present(locations, &gpus[i].address);
        return found;
}

static int drop_privileges(struct daemon *daemon) {
        struct privileges privileges = *daemon->privileges;
        const struct override_question question = {
                .locations = &daemon->options->locations,
                .gid = privileges.gid == (gid_t)-1 ? getegid() : privileges.gid,
                .writes = daemon->ops->closed_library,
                .uses_keeper = daemon->options->keeper_from != KEEPER_NONE,
                .runtime_directory = daemon->runtime.directory,
        };

        daemon->onlines_numa = privileges.onlines_numa = has_numa_memory(&daemon->options->locations);
        if (privileges_stay_root(&privileges))
                privileges.opens_others = override_is_needed(&question, privileges.override_reason);
        return privileges_drop(&privileges);
}

static int lock_runtime(struct daemon *daemon) {
        int r = runtime_lock(&daemon->runtime);

        if (r == 0)
                log_always(LOG_NOTICE, "Started (%d)", (int)getpid());
        return r;
}

static int make_methods(struct daemon *daemon) {
        if (methods_init(&daemon->methods, daemon->loop, daemon->ops->name) < 0)
                return log_errno(LOG_ERR, -ENOMEM, "cannot make the RPC methods");
        return set_peer_policy(daemon);
}

static int start_holding(struct daemon *daemon) {
        static const struct timeval list_limit = {.tv_sec = LIST_LIMIT_SEC};
        int r;

        start_hotplug(daemon);
        if (enter_sandbox(daemon) < 0)
                return -EPERM;
        r = log_start();
        if (r < 0)
                (void)log_errno(LOG_WARNING, r, "cannot log from a thread: a log that is full may stop the daemon");
        (void)event_add(daemon->list_limit, &list_limit);
        registry_start(daemon->registry);
        return 0;
}

/* The steps in their order; each logs why it fails. */
static const struct {
        int (*run)(struct daemon *daemon);
        int status; /* to exit with when it fails, other than for want of a permission */
} steps[] = {
        /* clang-format off */
        {read_settings, EXIT_NOT_CONFIGURED},
        {start_privileged, EXIT_FAILURE},
        {drop_privileges, EXIT_NOT_PERMITTED},
        {lock_runtime, EXIT_FAILURE},
        {make_loop, EXIT_FAILURE},
        {make_signals, EXIT_FAILURE},
        {make_timers, EXIT_FAILURE},
        {make_worker, EXIT_FAILURE},
        {make_registry, EXIT_FAILURE},
        {make_methods, EXIT_NOT_CONFIGURED},
        {find_keeper, EXIT_FAILURE},
        {inherit_all, EXIT_FAILURE},
        {hand_in_log, EXIT_FAILURE},
        {start_server, EXIT_FAILURE},
        {start_holding, EXIT_FAILURE},
        /* clang-format on */
};

/* Returns whether every step was taken; otherwise the status to exit with is set. */
static bool start(struct daemon *daemon) {
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                int r = steps[i].run(daemon);

                if (r >= 0)
                        continue;
                daemon->status = r == -EACCES || r == -EPERM || r == -EROFS ? EXIT_NOT_PERMITTED : steps[i].status;
                return false;
        }
        return true;
}

/* ---- the whole ---- */

static void free_event(struct event **event) {
        if (*event)
                event_free(*event);
        *event = NULL;
}

/* Returns false when a thread is stuck in the driver: it uses what is left, so the process must end without freeing it.
 */
static bool finish(struct daemon *daemon) {
        bool started = daemon->runtime.pid_fd >= 0;

        server_free(daemon->server);
        refusals_done(&daemon->methods.refusals);
        hotplug_free(daemon->hotplug);
        daemon->listen_fd = fd_close(daemon->listen_fd);
        if (started && !daemon->keeps_gpus)
                keeper_link_remove_socket(daemon->keeper);
        daemon->log_fd = fd_close(daemon->log_fd);
        runtime_done(&daemon->runtime);
        if (started)
                log_always(LOG_NOTICE, "Shutdown (%d)", (int)getpid());
        if (daemon->keeper)
                keeper_link_end(daemon->keeper);
        if (daemon->worker && !worker_free(daemon->worker))
                return false;
        methods_done(&daemon->methods);
        registry_free(daemon->registry);
        keeper_link_free(daemon->keeper);
        if (daemon->backend)
                daemon->ops->stop(daemon->backend);
        for (size_t i = 0; i < ARRAY_SIZE(daemon->signals); i++)
                free_event(&daemon->signals[i]);
        free_event(&daemon->stop_limit);
        free_event(&daemon->hand_over);
        free_event(&daemon->list_limit);
        free_event(&daemon->extend);
        free_event(&daemon->watchdog);
        if (daemon->loop)
                event_base_free(daemon->loop);
        return true;
}

static bool is_opening(const struct daemon *daemon) {
        const struct gpu *gpu;

        for (size_t i = 0; daemon->registry && (gpu = registry_gpu(daemon->registry, i)); i++)
                if (gpu->job == GPU_JOB_OPEN || gpu->job == GPU_JOB_ADOPT)
                        return true;
        return false;
}

/*
 * Ends the process while a thread of it is in the driver. Closing a file whose open is not done waits for the open
 * (nv.c, nvidia_close), here in our exit: for as long as the GPU hangs, and not even SIGKILL ends an exit. A process
 * that a signal ends does not wait, for the signal stays pending: to the process, not to a thread, and no thread may
 * block it. Service managers take SIGTERM for a clean end.
 */
static void leave(const struct daemon *daemon) {
        sigset_t signals;

        if (is_opening(daemon)) {
                (void)sigemptyset(&signals);
                (void)sigaddset(&signals, SIGTERM);
                (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
                (void)signal(SIGTERM, SIG_DFL);
                (void)kill(getpid(), SIGTERM);
        }
        _exit(daemon->status);
}

int daemon_run(const struct options *options, const struct privileges *privileges, struct startup *startup) {
        struct daemon daemon = {
                .options = options,
                .privileges = privileges,
                .startup = startup,
                .runtime = {.pid_fd = -1},
                .listen_fd = -1,
                .log_fd = -1,
                .status = EXIT_SUCCESS,
        };
        bool finished;

        if (start(&daemon))
                (void)event_base_dispatch(daemon.loop);
        startup_tell(startup, daemon.status);
        finished = finish(&daemon);
        log_flush(LOG_LIMIT_MSEC);
        if (!finished)
                leave(&daemon);
        return daemon.status;
}
