/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * `bench-busy PROCESSES DESCRIPTORS`: imitates a busy node with this many sleeping processes, each with this many open
 * files. Prints "ready" when all have started, and ends them when its standard input ends.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Opens one of the kinds of files that servers have open, in turn. Returns the descriptor or -1. */
static int open_one(int n) {
        switch (n % 6) {
        case 0:
                return open("/proc/self/exe", O_RDONLY);
        case 1:
                return open("/dev/null", O_RDWR);
        case 2:
                return socket(AF_UNIX, SOCK_STREAM, 0);
        case 3:
                return epoll_create1(0);
        case 4:
                return eventfd(0, 0);
        default:
                return open("/etc/passwd", O_RDONLY);
        }
}

/* Runs in a child. Sends one byte when it is ready, and then closes the pipe. If the pipe ends too early, the parent
 * knows that children failed. */
static void sleep_with(int n_descriptors, int ready_fd) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int fd = STDERR_FILENO + 1; fd < n_descriptors; fd++)
                if (fd != ready_fd && open_one(fd) < 0) {
                        perror("bench-busy: open");
                        _exit(EXIT_FAILURE);
                }
        if (write(ready_fd, "", 1) < 0 || dup2(STDIN_FILENO, ready_fd) < 0)
                _exit(EXIT_FAILURE);
        for (;;)
                (void)pause();
}

/* Waits for all children. Returns whether all of them are ready. */
static bool start(pid_t *children, int n, int n_descriptors) {
        int ends[2], n_ready = 0;
        char byte;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return false;
        for (int i = 0; i < n; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                        (void)close(ends[0]);
                        sleep_with(n_descriptors, ends[1]);
                }
        }
        (void)close(ends[1]);
        while (n_ready < n && read(ends[0], &byte, 1) == 1)
                n_ready++;
        return n_ready == n;
}

int main(int argc, char *argv[]) {
        int n = argc == 3 ? atoi(argv[1]) : 0, n_descriptors = argc == 3 ? atoi(argv[2]) : 0;
        pid_t *children;
        bool all;
        char byte;

        if (n <= 0 || n_descriptors <= 0) {
                fprintf(stderr, "usage: bench-busy PROCESSES DESCRIPTORS\n");
                return EXIT_FAILURE;
        }
        children = calloc((size_t)n, sizeof(*children));
        all = children && start(children, n, n_descriptors);
        if (all) {
                puts("ready");
                (void)fflush(stdout);
                (void)!read(STDIN_FILENO, &byte, 1);
        } else {
                fprintf(stderr,
                        "bench-busy: cannot start %d processes with %d descriptors each: raise ulimit -u or -n\n", n,
                        n_descriptors);
        }
        for (int i = 0; i < n && children; i++)
                if (children[i] > 0) {
                        (void)kill(children[i], SIGKILL);
                        (void)waitpid(children[i], NULL, 0);
                }
        free(children);
        return all ? EXIT_SUCCESS : EXIT_FAILURE;
}
