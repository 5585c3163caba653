/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/bench/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "client/cuda.h"

#define END_USEC (10 * USEC_PER_SEC) /* for a process that has nothing left to do but to end */

/* Shorter than PIPE_BUF, so it arrives whole. */
struct answer {
        int result;
        uint64_t nsec;
        char error[384];
};

/* ---- the child ------------------------------------------------------------------------------------------------- */

static uint64_t now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The end of the process closes what these three leave open. */

int sample_take_open(const char *path, uint64_t *ret_nsec, char *error, size_t error_size) {
        uint64_t start_nsec = now_nsec();
        int fd = open(path, O_RDWR | O_CLOEXEC);

        *ret_nsec = now_nsec() - start_nsec;
        if (fd >= 0)
                return 0;
        (void)text_format(error, error_size, "cannot open %s: %s", path, strerror(errno));
        return -errno;
}

int sample_take_library(const char *library, uint64_t *ret_nsec, char *error, size_t error_size) {
        CLEANUP(cuda_done) struct cuda *cuda = NULL;

        *ret_nsec = 0;
        return cuda_open(&cuda, library, error, error_size);
}

int sample_take_cuda(const char *library, uint64_t *ret_nsec, char *error, size_t error_size) {
        CLEANUP(cuda_done) struct cuda *cuda = NULL;
        uint64_t start_nsec;
        int r;

        r = cuda_open(&cuda, library, error, error_size);
        if (r < 0)
                return r;
        start_nsec = now_nsec();
        r = cuda_retain_context(cuda, error, error_size);
        *ret_nsec = now_nsec() - start_nsec;
        return r;
}

/* Drops the daemon's lease and the parent's blocked signals, because a job has neither. */
static void leave_parent(int in_fd, int out_fd) {
        sigset_t none;

        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)dup2(in_fd, STDIN_FILENO);
        (void)dup2(out_fd, STDOUT_FILENO);
        fd_close_from(STDERR_FILENO + 1);
}

static _Noreturn void run_child(sample_take *take, const char *operand, const char *uuid) {
        struct answer answer = {0};
        char byte;

        if (uuid) /* CUDA numbers the GPUs that it sees: with one, that is device 0 */
                (void)setenv("CUDA_VISIBLE_DEVICES", uuid, 1);
        else
                (void)unsetenv("CUDA_VISIBLE_DEVICES");
        answer.result = take(operand, &answer.nsec, answer.error, sizeof(answer.error));
        if (write(STDOUT_FILENO, &answer, sizeof(answer)) == sizeof(answer))
                while (read(STDIN_FILENO, &byte, 1) > 0)
                        ;
        _exit(0);
}

/* ---- its parent ------------------------------------------------------------------------------------------------ */

int sample_begin(struct sample *sample, sample_take *take, const char *operand, const char *uuid) {
        CLEANUP(fd_done) int in_fd = -1;
        CLEANUP(fd_done) int out_fd = -1;
        int in[2], out[2];
        pid_t pid;

        *sample = (struct sample){.keep_fd = -1, .answer_fd = -1};
        if (pipe2(in, O_CLOEXEC) < 0)
                return -errno;
        in_fd = in[0];
        sample->keep_fd = in[1];
        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        out_fd = out[1];
        sample->answer_fd = out[0];
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                leave_parent(in_fd, out_fd);
                run_child(take, operand, uuid);
        }
        sample->pid = pid;
        return 0;
}

int sample_wait(struct sample *sample, int interrupt_fd, uint64_t timeout_usec, uint64_t *ret_nsec, char *error,
                size_t error_size) {
        const struct timespec limit = clock_timespec(timeout_usec);
        struct pollfd fds[] = {
                {.fd = interrupt_fd, .events = POLLIN},
                {.fd = sample->answer_fd, .events = POLLIN},
        };
        struct answer answer = {0};
        int count;

        count = ppoll(fds, ARRAY_SIZE(fds), &limit, NULL);
        if (count == 0)
                return -ETIMEDOUT;
        if (count < 0 || fds[0].revents != 0)
                return -EINTR;
        if (read(sample->answer_fd, &answer, sizeof(answer)) != sizeof(answer)) {
                (void)text_copy(error, error_size, "the measuring process ended without a result");
                return -EIO;
        }
        if (answer.result < 0) {
                (void)text_copy(error, error_size, text_printable(answer.error));
                return -EIO;
        }
        *ret_nsec = answer.nsec;
        return 0;
}

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
