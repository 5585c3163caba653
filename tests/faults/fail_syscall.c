/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * fail-syscall fail|kill N EXCEPT REPORT COMMAND...
 *
 * Executes COMMAND. Its N-th system call, in any thread, fails once without an effect ("fail"), or kills it ("kill").
 * Only calls that a machine may refuse (see the table) are counted, except those in EXCEPT, a list separated by commas.
 * Counting begins at the first close_range(2), with which the daemon's main() begins: earlier calls are the loader's.
 * At the end of the command REPORT receives "<calls> <name of the failed call>".
 *
 *      this process: filter, exec COMMAND --- calls ---> kernel --- notification ---> supervisor (a grandchild)
 *                                              <-- go on, or an error --
 *
 * The supervisor is a grandchild, so the command has no unexpected child.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"

/* System calls that may fail on a working machine for lack of resources, and their errors. */
static const struct {
        const char *name;
        int error;
} fallible[] = {
        {"accept4", EMFILE},
        {"access", ENOMEM},
        {"bind", ENOMEM},
        {"capset", EPERM},
        {"chmod", EROFS},
        {"chown", EROFS},
        {"clone", EAGAIN},
        {"clone3", EAGAIN},
        {"connect", EAGAIN},
        {"epoll_create1", EMFILE},
        {"epoll_ctl", ENOMEM},
        {"epoll_pwait", EINTR},
        {"epoll_wait", EINTR},
        {"eventfd2", EMFILE},
        {"faccessat", ENOMEM},
        {"faccessat2", ENOMEM},
        {"fchmod", EROFS},
        {"fchmodat", EROFS},
        {"fchownat", EROFS},
        {"fcntl", ENOLCK},
        {"ftruncate", ENOSPC},
        {"getdents64", EIO},
        {"getsockopt", ENOBUFS},
        {"ioctl", EIO},
        {"listen", EADDRINUSE},
        {"mkdir", ENOSPC},
        {"mkdirat", ENOSPC},
        {"mmap", ENOMEM},
        {"mprotect", ENOMEM},
        {"newfstatat", ENOMEM},
        {"open", EMFILE},
        {"openat", EMFILE},
        {"pipe2", EMFILE},
        {"poll", ENOMEM},
        {"ppoll", ENOMEM},
        {"prctl", EINVAL},
        {"pread64", EIO},
        {"prlimit64", EPERM},
        {"pwrite64", ENOSPC},
        {"read", EIO},
        {"readlink", ENOMEM},
        {"readlinkat", ENOMEM},
        {"recvfrom", ENOMEM},
        {"recvmsg", ENOMEM},
        {"seccomp", ENOMEM},
        {"sendmsg", ENOBUFS},
        {"sendto", ENOBUFS},
        {"setgroups", EPERM},
        {"setresgid", EAGAIN},
        {"setresuid", EAGAIN},
        {"setsockopt", ENOMEM},
        {"socket", EMFILE},
        {"socketpair", EMFILE},
        {"statx", ENOMEM},
        {"timerfd_create", EMFILE},
        {"timerfd_settime", ENOMEM},
        {"unlink", EROFS},
        {"unlinkat", EROFS},
        {"write", EIO},
};

static int error_of(int number) {
        for (size_t i = 0; i < ARRAY_SIZE(fallible); i++)
                if (seccomp_syscall_resolve_name(fallible[i].name) == number)
                        return fallible[i].error;
        return 0;
}

/* ---- the supervisor ---- */

struct supervisor {
        bool kills;
        unsigned long failing; /* which call */
        const char *report;
        int notify_fd;
        bool counting;
        unsigned long count;
        char failed[64]; /* its name */
};

/* Reads and writes within the process, of an eventfd or the event loop's pipe: these do not fail for lack of resources.
 */
static bool is_inner(const struct seccomp_notif *call) {
        char path[64], target[64];
        ssize_t length;

        if (call->data.nr != __NR_read && call->data.nr != __NR_write)
                return false;
        (void)text_format(path, sizeof(path), "/proc/%d/fd/%d", (int)call->pid, (int)call->data.args[0]);
        length = readlink(path, target, sizeof(target) - 1);
        target[length < 0 ? 0 : length] = '\0';
        return target[0] != '/' && call->data.args[0] != STDERR_FILENO;
}

/* Returns the error for this call; 0 lets it continue. */
static int judge(struct supervisor *supervisor, const struct seccomp_notif *call) {
        CLEANUP(free_ptr) char *name = NULL;

        if (call->data.nr == __NR_close_range)
                supervisor->counting = true;
        else if (supervisor->counting && !is_inner(call) && ++supervisor->count == supervisor->failing) {
                name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call->data.nr);
                (void)text_format(supervisor->failed, sizeof(supervisor->failed), "%s(%lld, %lld)", name,
                                  (long long)call->data.args[0], (long long)call->data.args[1]);
                if (supervisor->kills)
                        (void)kill((pid_t)call->pid, SIGKILL);
                return error_of(call->data.nr);
        }
        return 0;
}

static void answer(struct supervisor *supervisor, struct seccomp_notif *call, struct seccomp_notif_resp *response) {
        memset(call, 0, sizeof(*call));
        if (seccomp_notify_receive(supervisor->notify_fd, call) < 0) /* its thread has ended */
                return;
        memset(response, 0, sizeof(*response));
        response->id = call->id;
        response->error = -judge(supervisor, call);
        if (response->error == 0)
                response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        (void)seccomp_notify_respond(supervisor->notify_fd, response);
}

/* Atomically, because a reader reads the file as soon as it exists. */
static void write_report(const struct supervisor *supervisor) {
        char path[PATH_MAX];
        FILE *file;

        if (text_format(path, sizeof(path), "%s.new", supervisor->report) < 0 || !(file = fopen(path, "we")))
                return;
        (void)fprintf(file, "%lu %s\n", supervisor->count, supervisor->failed[0] ? supervisor->failed : "-");
        if (fclose(file) == 0)
                (void)rename(path, supervisor->report);
}

/* Until no process with the filter is left. */
static void supervise(struct supervisor *supervisor) {
        struct pollfd pollfd = {.fd = supervisor->notify_fd, .events = POLLIN};
        struct seccomp_notif_resp *response = NULL;
        struct seccomp_notif *call = NULL;

        if (seccomp_notify_alloc(&call, &response) < 0)
                return;
        while (poll(&pollfd, 1, -1) > 0 && !(pollfd.revents & POLLHUP))
                answer(supervisor, call, response);
        write_report(supervisor);
        seccomp_notify_free(call, response);
}

/* ---- both ---- */

static void fail(const char *what, int error) {
        fprintf(stderr, "fail-syscall: %s: %s\n", what, strerror(error));
        exit(125);
}

static bool is_among(const char *name, const char *list) {
        size_t length = strlen(name);

        for (const char *at = list; (at = strstr(at, name)); at += length)
                if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
                        return true;
        return false;
}

/* Returns the descriptor of the notifications. */
static int install_filter(const char *except) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!filter)
                fail("no filter", ENOMEM);
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* COMMAND itself decides on no_new_privs */
        for (size_t i = 0; i < ARRAY_SIZE(fallible) && r == 0; i++)
                if (!is_among(fallible[i].name, except))
                        r = seccomp_rule_add(filter, SCMP_ACT_NOTIFY, seccomp_syscall_resolve_name(fallible[i].name),
                                             0);
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(close_range), 0);
        if (r == 0)
                r = seccomp_load(filter);
        if (r < 0)
                fail("cannot install the filter", -r);
        return seccomp_notify_fd(filter);
}

/* Shared by the processes until the command is executed. */
struct hand_over {
        pid_t command;
        int *notify_fd; /* the number of the notification descriptor in the command, in shared memory */
        /* A pipe that is closed when the filter is installed. No byte is written: the filter would stop write(2). */
        int installed[2];
        int taken[2]; /* a pipe that brings a byte when the supervisor has the descriptor */
};

static void supervisor_main(struct supervisor *supervisor, const struct hand_over *hand_over) {
        int pidfd;
        char byte = 0;

        (void)fd_close(hand_over->installed[1]);
        (void)!read(hand_over->installed[0], &byte, 1);
        pidfd = (int)syscall(SYS_pidfd_open, hand_over->command, 0);
        supervisor->notify_fd = (int)syscall(SYS_pidfd_getfd, pidfd, *hand_over->notify_fd, 0);
        if (supervisor->notify_fd < 0 || write(hand_over->taken[1], &byte, 1) != 1)
                fail("cannot have the notifications", errno);
        (void)fd_close(hand_over->taken[1]);
        (void)setsid(); /* so this process gets no signals to the command's group */
        (void)close_range(STDIN_FILENO, STDERR_FILENO,
                          0); /* otherwise a reader of the command's output would wait for this process, too */
        supervise(supervisor);
        _exit(EXIT_SUCCESS);
}

/* The process between the command and the supervisor. It ends when the supervisor is ready, so the command waits for
 * it. */
static void middle_main(struct supervisor *supervisor, const struct hand_over *hand_over) {
        char byte;

        if (fork() == 0)
                supervisor_main(supervisor, hand_over);
        (void)fd_close(hand_over->installed[1]);
        (void)fd_close(hand_over->taken[1]);
        _exit(read(hand_over->taken[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

int main(int argc, char *argv[]) {
        struct hand_over hand_over = {.command = getpid()};
        struct supervisor supervisor = {0};
        int status = 0;
        pid_t child;

        if (argc < 6) {
                fprintf(stderr, "usage: fail-syscall fail|kill N EXCEPT REPORT COMMAND...\n");
                return 125;
        }
        supervisor.kills = text_equal(argv[1], "kill");
        supervisor.failing = strtoul(argv[2], NULL, 10);
        supervisor.report = argv[4];
        hand_over.notify_fd = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (hand_over.notify_fd == MAP_FAILED || pipe2(hand_over.installed, O_CLOEXEC) < 0 ||
            pipe2(hand_over.taken, O_CLOEXEC) < 0)
                fail("cannot prepare", errno);
        child = fork();
        if (child == 0)
                middle_main(&supervisor, &hand_over);
        *hand_over.notify_fd = install_filter(argv[3]);
        /* Until the supervisor is ready, only calls that the filter lets pass: close(2), wait4(2). */
        (void)fd_close(hand_over.installed[1]);
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
                _exit(125); /* the supervisor has said why */
        (void)execvp(argv[5], argv + 5);
        fail(argv[5], errno);
}
