/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * `bench-spawn COMMAND [ARGUMENT...]`: runs a command, discards its output, and prints the nanoseconds from before its
 * start to its end, its peak memory in kB, its nanoseconds of processor time, and its exit status. It is a separate
 * small program, because the kernel includes the memory of the starting process in the new process's peak.
 */

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long nsec_of(const struct timeval *time) {
        return time->tv_sec * 1000000000LL + time->tv_usec * 1000LL;
}

static int run(char *argv[], int *ret_status, struct rusage *ret_usage) {
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int r;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return r;
        r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
        if (r == 0)
                (void)wait4(pid, ret_status, 0, ret_usage);
        return r;
}

int main(int argc, char *argv[]) {
        struct rusage usage = {0};
        long long begin = now_nsec();
        int status = 0, r;

        if (argc < 2) {
                fprintf(stderr, "usage: bench-spawn COMMAND [ARGUMENT...]\n");
                return 2;
        }
        r = run(argv + 1, &status, &usage);
        if (r != 0) {
                fprintf(stderr, "bench-spawn: cannot run %s: %s\n", argv[1], strerror(r));
                return 2;
        }
        printf("%lld %ld %lld %d\n", now_nsec() - begin, usage.ru_maxrss,
               nsec_of(&usage.ru_utime) + nsec_of(&usage.ru_stime), WIFEXITED(status) ? WEXITSTATUS(status) : -1);
        return EXIT_SUCCESS;
}
