/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/bench/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/text.h"

#define END_USEC (10 * USEC_PER_SEC) /* for a process that has nothing more to do than to end */

enum { ENVIRONMENT_MAX = 1024 };

/* ---- beginning ------------------------------------------------------------------------------------------------ */

/* CUDA numbers what it sees: with one GPU in sight, that is device 0. Other orders and masks would be in the way. */
static int make_environment(const char *uuid, char *visible, size_t size, char **ret_environment) {
        size_t n = 0;

        for (char **variable = environ; *variable && n < ENVIRONMENT_MAX - 2; variable++)
                if (!text_starts_with(*variable, "CUDA_VISIBLE_DEVICES="))
                        ret_environment[n++] = *variable;
        if (uuid && text_format(visible, size, "CUDA_VISIBLE_DEVICES=%s", uuid) < 0)
                return -ENAMETOOLONG;
        if (uuid)
                ret_environment[n++] = visible;
        ret_environment[n] = NULL;
        return 0;
}

/* With the signals of any process, whatever we keep for ourselves. */
static int spawn(const char *const *arguments, char *const *environment, int in_fd, int out_fd, pid_t *ret_pid) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int r;

        (void)sigemptyset(&none);
        (void)sigfillset(&all);
        if (posix_spawn_file_actions_init(&actions) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                (void)posix_spawn_file_actions_destroy(&actions);
                return -ENOMEM;
        }
        (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        (void)posix_spawnattr_setsigdefault(&attributes, &all);
        r = posix_spawn_file_actions_adddup2(&actions, in_fd, STDIN_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attributes, (char *const *)arguments,
                                environment);
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
}

int sample_begin(struct sample *sample, const struct locations *locations, const char *what, const char *operand,
                 const char *uuid) {
        const char *arguments[] = {"holdfast", "--root", locations->root, SAMPLE_COMMAND, what, operand, NULL};
        char *environment[ENVIRONMENT_MAX], visible[128];
        CLEANUP(fd_done) int in_fd = -1;
        CLEANUP(fd_done) int out_fd = -1;
        int in[2], out[2], r;

        *sample = (struct sample){.keep_fd = -1, .answer_fd = -1};
        r = make_environment(uuid, visible, sizeof(visible), environment);
        if (r < 0)
                return r;
        if (pipe2(in, O_CLOEXEC) < 0)
                return -errno;
        in_fd = in[0];
        sample->keep_fd = in[1];
        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        out_fd = out[1];
        sample->answer_fd = out[0];
        return spawn(arguments, environment, in_fd, out_fd, &sample->pid);
}

/* ---- waiting -------------------------------------------------------------------------------------------------- */

static int parse_answer(char *line, uint64_t *ret_nsec, char *error, size_t error_size) {
        line[strcspn(line, "\n")] = '\0';
        if (text_starts_with(line, SAMPLE_OK) &&
            text_parse_u64(line + strlen(SAMPLE_OK), 10, UINT64_MAX, ret_nsec) == 0)
                return 0;
        (void)text_copy(error, error_size,
                        text_starts_with(line, SAMPLE_ERROR) ? text_printable(line + strlen(SAMPLE_ERROR))
                                                             : "the measuring process ended without a result");
        return -EIO;
}

int sample_wait(struct sample *sample, int interrupt_fd, uint64_t timeout_usec, uint64_t *ret_nsec, char *error,
                size_t error_size) {
        const struct timespec limit = clock_timespec(timeout_usec);
        struct pollfd fds[] = {
                {.fd = interrupt_fd, .events = POLLIN},
                {.fd = sample->answer_fd, .events = POLLIN},
        };
        char line[512];
        ssize_t size;
        int count;

        count = ppoll(fds, ARRAY_SIZE(fds), &limit, NULL);
        if (count == 0)
                return -ETIMEDOUT;
        if (count < 0 || fds[0].revents != 0)
                return -EINTR;
        size = read(sample->answer_fd, line, sizeof(line) - 1); /* it is written at once, and shorter than PIPE_BUF */
        line[size > 0 ? size : 0] = '\0';
        return parse_answer(line, ret_nsec, error, error_size);
}

/* ---- ending --------------------------------------------------------------------------------------------------- */

static bool is_gone(pid_t pid, uint64_t limit_usec) {
        uint64_t deadline_usec = clock_monotonic_usec() + limit_usec;

        while (waitpid(pid, NULL, WNOHANG) == 0) {
                if (clock_monotonic_usec() >= deadline_usec)
                        return false;
                clock_sleep(2 * USEC_PER_MSEC);
        }
        return true;
}

int sample_end(struct sample *sample) {
        pid_t pid = sample->pid;
        bool gone;

        sample->pid = 0;
        sample->keep_fd = fd_close(sample->keep_fd);
        sample->answer_fd = fd_close(sample->answer_fd);
        if (pid == 0)
                return 0;
        gone = is_gone(pid, END_USEC);
        if (!gone) {
                (void)kill(pid, SIGKILL);
                gone = is_gone(pid, USEC_PER_SEC);
        }
        return gone ? 0 : -ETIMEDOUT;
}

void sample_done(struct sample *sample) {
        (void)sample_end(sample);
}
