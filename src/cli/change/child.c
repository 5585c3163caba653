/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/change/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

enum { AGAIN_MSEC = 200 };

/* Signals that stop us, or that are meant for the command. Not those of Ctrl-Z and fg, which work as always. */
static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

static bool keeping;
static sigset_t before; /* the mask that we were called with */

static sigset_t kept_signals(void) {
        sigset_t set;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
                (void)sigaddset(&set, passed_on[i]);
        (void)sigaddset(&set, SIGCHLD);
        return set;
}

/* Sets SIGCHLD to its default: while it is ignored, children leave no exit status. */
void child_keep_signals(void) {
        sigset_t set = kept_signals();

        if (keeping)
                return;
        keeping = true;
        (void)signal(SIGCHLD, SIG_DFL);
        (void)sigprocmask(SIG_BLOCK, &set, &before);
}

static const int endings[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

int child_signal_kept(void) {
        sigset_t pending;

        (void)sigpending(&pending);
        for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
                if (sigismember(&pending, endings[i]) == 1)
                        return endings[i];
        return 0;
}

static sigset_t ending_signals(void) {
        sigset_t set;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
                (void)sigaddset(&set, endings[i]);
        return set;
}

int child_take_signal(void) {
        const struct timespec at_once = {0};
        sigset_t set = ending_signals();
        int number = sigtimedwait(&set, NULL, &at_once);

        return number > 0 ? number : 0;
}

int child_signal_fd(void) {
        sigset_t set = ending_signals();
        int fd = signalfd(-1, &set, SFD_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

void child_let_signals(void) {
        keeping = false;
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

static _Noreturn void become(const char *program, char *const *command, const char *variable, const char *value) {
        int error;

        (void)signal(SIGPIPE, SIG_DFL); /* ignored in our process only */
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (setenv(variable, value, 1) == 0)
                (void)execvp(command[0], command);
        error = errno;
        (void)fprintf(stderr, "%s: cannot run %s: %s\n", program, command[0], strerror(error));
        _exit(error == ENOENT || error == ENOTDIR ? CHILD_NOT_FOUND : CHILD_NOT_EXECUTABLE);
}

/* A terminal sends a signal to the whole process group, so the command has received it too. */
static bool is_for_us_alone(const struct signalfd_siginfo *signal) {
        return signal->ssi_code <= 0;
}

static void pass_on(int signals, pid_t pid) {
        struct signalfd_siginfo signal;

        while (read(signals, &signal, sizeof(signal)) == sizeof(signal))
                if (signal.ssi_signo != SIGCHLD && is_for_us_alone(&signal))
                        (void)kill(pid, (int)signal.ssi_signo);
}

/* Whether to stop waiting for the command. Once the descriptor was readable it is not polled again. */
static bool is_over(const struct child_watch *watch, struct pollfd *watched) {
        if (watched->revents != 0)
                watched->fd = -1;
        return watch->fd >= 0 && watched->fd < 0 && watch->is_over(watch->userdata);
}

static int wait_for(pid_t pid, int signals, const struct child_watch *watch) {
        struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = watch->fd, .events = POLLIN}};

        for (;;) {
                int status;

                if (waitpid(pid, &status, WNOHANG) == pid)
                        return WIFSIGNALED(status) ? CHILD_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
                if (is_over(watch, &fds[1]))
                        return CHILD_LEFT;
                fds[1].revents = 0;
                (void)poll(fds, ARRAY_SIZE(fds), watch->fd >= 0 && fds[1].fd < 0 ? AGAIN_MSEC : -1);
                pass_on(signals, pid);
        }
}

int child_run(const char *program, char *const *command, const char *variable, const char *value,
              struct child_watch *watch) {
        sigset_t set = kept_signals();
        CLEANUP(fd_done) int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

        if (signals < 0)
                return -errno;
        (void)fflush(stdout);
        (void)fflush(stderr);
        watch->pid = fork();
        if (watch->pid < 0)
                return -errno;
        if (watch->pid == 0)
                become(program, command, variable, value);
        return wait_for(watch->pid, signals, watch);
}
