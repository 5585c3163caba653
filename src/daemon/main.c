/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* nvidia-persistenced: the beginning and the end of the process. daemon.c runs between them. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/standard.h"
#include "daemon/daemon.h"
#include "daemon/gpus/kernel_messages.h"
#include "daemon/manager/inherited.h"
#include "daemon/manager/keeper.h"
#include "daemon/manager/notify.h"
#include "daemon/process/exit_status.h"
#include "daemon/process/options.h"
#include "daemon/process/privileges.h"
#include "daemon/process/settings.h"
#include "daemon/process/startup.h"
#include "gpu/nodes.h"

enum { SETTLE_LIMIT_MSEC = 500 };

/* Runs as the keeper, with the socket from systemd or, for a daemon in another container, with one that we create. */
static int be_keeper(const struct options *options) {
        struct keeper_config config = {.listen_fd = -1, .ends_idle = true, .sandbox = options->sandbox};
        char path[PATH_MAX], name[64];

        if (inherited_count() == 1) {
                config.listen_fd = inherited_take(0, name, sizeof(name));
                (void)fcntl(config.listen_fd, F_SETFL, O_RDWR | O_NONBLOCK);
        } else if (locations_path(path, &options->locations, KEEPER_PATH) == 0) {
                config.listen_fd = keeper_listen(path);
                config.ends_idle = false;
        }
        inherited_done();
        return config.listen_fd < 0 ? EXIT_FAILURE : keeper_run(&config);
}

/*
 * Opens the kernel log for a daemon that is not root, which then gets the descriptor together with its socket. Replaces
 * one of an earlier start. Failures are only logged, because the daemon needs the log only for unbinds with drivers
 * before 575.51.02.
 */
static void pass_kernel_log(const struct options *options) {
        int fd, r;

        notify_open(options->environment->notify_socket);
        if (!notify_is_open()) {
                log_write(LOG_WARNING, "--pass-kernel-log: there is no service manager to pass the kernel log to");
                return;
        }
        fd = kernel_messages_open(&options->locations);
        if (fd < 0) {
                (void)log_errno(LOG_INFO, fd, "cannot open the kernel log; the daemon works without it");
                return;
        }
        r = notify_store(KERNEL_MESSAGES_NAME, fd);
        if (r < 0)
                (void)log_errno(LOG_WARNING, r, "cannot store the kernel log with the service manager");
        (void)fd_close(fd);
}

/* Does as root what a daemon that is not root needs. */
static int prepare(const struct options *options) {
        if (options->pass_kernel_log)
                pass_kernel_log(options);
        if (options->make_nodes && nodes_make(&options->locations, &options->nodes) < 0)
                return EXIT_FAILURE;
        return EXIT_SUCCESS;
}

/* Closes standard output. If the output could not be written, success becomes failure. Returns the exit status. */
static int end_output(int status) {
        return standard_close_output("nvidia-persistenced") < 0 && status == EXIT_SUCCESS ? EXIT_FAILURE : status;
}

/* Reads the environment, and removes variables of the service manager that child processes must not see. */
static struct environment read_environment(void) {
        struct environment environment = {
                .root = secure_getenv("HOLDFAST_ROOT"),
                .notify_socket = getenv("NOTIFY_SOCKET"),
                .watchdog_usec = getenv("WATCHDOG_USEC"),
                .watchdog_pid = getenv("WATCHDOG_PID"),
                .listen_pid = getenv("LISTEN_PID"),
                .listen_fds = getenv("LISTEN_FDS"),
                .listen_names = getenv("LISTEN_FDNAMES"),
                .journal_stream = getenv("JOURNAL_STREAM"),
                .in_unit = getenv("INVOCATION_ID") != NULL,
        };

        (void)unsetenv("NOTIFY_SOCKET");
        (void)unsetenv("LISTEN_PID");
        (void)unsetenv("LISTEN_FDS");
        (void)unsetenv("LISTEN_FDNAMES");
        return environment;
}

static int run(int argc, char *argv[]) {
        const struct environment environment = read_environment();
        struct startup startup = {.pipe_fd = -1};
        struct privileges privileges;
        struct options options;
        int r;

        r = options_take(argc, argv, &environment, &options);
        if (r == OPTIONS_DONE)
                return end_output(EXIT_SUCCESS);
        if (r < 0)
                return EXIT_USAGE;
        if (options.check_config)
                return end_output(settings_check(&options));
        inherited_open(environment.listen_pid, environment.listen_fds, environment.listen_names);
        /* Close descriptors that we inherited by accident: one of them could keep a GPU open. */
        fd_close_from(STDERR_FILENO + 1 + (int)inherited_count());
        (void)umask(022);
        (void)signal(SIGPIPE, SIG_IGN);
        /* One arena, since each of the short-lived threads would otherwise leave one behind. */
        (void)mallopt(M_ARENA_MAX, 1);
        log_set_journal(environment.journal_stream);
        log_open("nvidia-persistenced", LOG_TO_STDERR, options.verbose);
        if (options.make_nodes || options.pass_kernel_log)
                return prepare(&options);
        if (options.keeper)
                return be_keeper(&options);
        r = privileges_resolve(&privileges, options.user, options.group, environment.in_unit);
        if (r < 0)
                return exit_status_of(r, EXIT_NOT_CONFIGURED);
        if (!options.foreground) {
                if (startup_fork(&startup) < 0)
                        return EXIT_FAILURE;
                log_open("nvidia-persistenced", LOG_TO_SYSLOG, options.verbose);
        }
        notify_open(environment.notify_socket);
        return daemon_run(&options, &privileges, &startup);
}

int main(int argc, char *argv[]) {
        int status;

        standard_open();
        status = run(argc, argv);
        if (status != EXIT_SUCCESS)
                log_settle(SETTLE_LIMIT_MSEC);
        return status;
}
