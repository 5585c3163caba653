/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

/* How long to wait for the end of a killed program. One that is stuck in the kernel may take longer. */
#define KILL_USEC (1 * USEC_PER_SEC)

/* Our threads block all signals. A program must not inherit that, or it could not be ended. */
static int set_attributes(posix_spawnattr_t *attributes) {
        sigset_t none;
        int r;

        r = posix_spawnattr_init(attributes);
        if (r != 0)
                return r;
        (void)sigemptyset(&none);
        (void)posix_spawnattr_setsigmask(attributes, &none);
        (void)posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK);
        return 0;
}

static int set_files(posix_spawn_file_actions_t *actions, int output_fd) {
        int r;

        r = posix_spawn_file_actions_init(actions);
        if (r != 0)
                return r;
        r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO && r == 0; fd++)
                r = posix_spawn_file_actions_adddup2(actions, output_fd, fd);
        if (r != 0)
                (void)posix_spawn_file_actions_destroy(actions);
        return r;
}

static int spawn(const char *const arguments[], int output_fd, pid_t *ret_child) {
        static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        static char *environment[] = {path, NULL};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int r;

        r = set_attributes(&attributes);
        if (r != 0)
                return -r;
        r = set_files(&actions, output_fd);
        if (r == 0) { /* POSIX guarantees that the arguments are not changed */
                r = posix_spawn(ret_child, arguments[0], &actions, &attributes, (char *const *)(uintptr_t)arguments,
                                environment);
                (void)posix_spawn_file_actions_destroy(&actions);
        }
        (void)posix_spawnattr_destroy(&attributes);
        return -r;
}

/* Waits until there is something to read. Returns 0, -ETIMEDOUT or other negative errno. */
static int wait_readable(int fd, uint64_t deadline_usec) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int r;

        do {
                uint64_t now_usec = clock_monotonic_usec();

                if (now_usec >= deadline_usec)
                        return -ETIMEDOUT;
                r = poll(&wait, 1, (int)((deadline_usec - now_usec) / USEC_PER_MSEC + 1));
        } while (r == 0 || (r < 0 && errno == EINTR));
        return r < 0 ? -errno : 0;
}

/* Reads until the other end is closed; what does not fit is dropped. Returns 0, -ETIMEDOUT or other negative errno. */
static int read_until_end(int fd, uint64_t deadline_usec, char *ret_output, size_t size) {
        size_t length = 0;

        for (;;) {
                char bytes[256];
                size_t taken;
                ssize_t count;
                int r = wait_readable(fd, deadline_usec);

                if (r < 0)
                        return r;
                count = read(fd, bytes, sizeof(bytes));
                if (count <= 0)
                        return count < 0 ? -errno : 0;
                taken = (size_t)count < size - 1 - length ? (size_t)count : size - 1 - length;
                memcpy(ret_output + length, bytes, taken);
                length += taken;
                ret_output[length] = '\0';
        }
}

static int reap(pid_t child, int options) {
        int status = 0;
        pid_t r;

        do
                r = waitpid(child, &status, options);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        return r == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* Kills the program. If it does not end, it is left: it becomes our zombie, and is gone when we end. */
static void put_down(pid_t child, int output_fd) {
        char rest[2];

        (void)kill(child, SIGKILL);
        if (read_until_end(output_fd, clock_monotonic_usec() + KILL_USEC, rest, sizeof(rest)) == 0)
                (void)reap(child, 0);
        else
                (void)reap(child, WNOHANG);
}

int program_run(const char *const arguments[], uint64_t timeout_usec, char *ret_output, size_t size) {
        uint64_t deadline_usec = clock_monotonic_usec() + timeout_usec;
        CLEANUP(fd_done) int read_fd = -1, write_fd = -1;
        int ends[2], r;
        pid_t child;

        ret_output[0] = '\0';
        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        read_fd = ends[0];
        write_fd = ends[1];
        r = spawn(arguments, write_fd, &child);
        if (r < 0)
                return r;
        write_fd = fd_close(write_fd);
        r = read_until_end(read_fd, deadline_usec, ret_output, size);
        if (r < 0) {
                put_down(child, read_fd);
                return r;
        }
        return reap(child, 0);
}
