/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/child.h"

#include <errno.h>
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

/* Those that a caller sends to have us stop, or to tell the command something. Ctrl-Z and fg stay as they are. */
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

/* Children of who ignores SIGCHLD leave no status behind. */
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

        (void)signal(SIGPIPE, SIG_DFL); /* that we ignore it is our own affair */
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (setenv(variable, value, 1) == 0)
                (void)execvp(command[0], command);
        error = errno;
        (void)fprintf(stderr, "%s: cannot run %s: %s\n", program, command[0], strerror(error));
        _exit(error == ENOENT || error == ENOTDIR ? CHILD_NOT_FOUND : CHILD_NOT_EXECUTABLE);
}

/* What the terminal sends it sends to the whole process group: the command has it already. */
static bool is_for_us_alone(const siginfo_t *signal) {
        return signal->si_code <= 0;
}

static int wait_for(pid_t pid) {
        sigset_t set = kept_signals();

        for (;;) {
                siginfo_t signal;
                int status;

                if (waitpid(pid, &status, WNOHANG) == pid)
                        return WIFSIGNALED(status) ? CHILD_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
                if (sigwaitinfo(&set, &signal) > 0 && signal.si_signo != SIGCHLD && is_for_us_alone(&signal))
                        (void)kill(pid, signal.si_signo);
        }
}

int child_run(const char *program, char *const *command, const char *variable, const char *value) {
        pid_t pid;

        (void)fflush(stdout);
        (void)fflush(stderr);
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                become(program, command, variable, value);
        return wait_for(pid);
}
