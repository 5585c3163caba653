/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The filter of system calls: each attempt in a child of its own, which enters the sandbox first. Calls that must be
 * turned away are also made without it, where they must not fail in that way: the answer is then the filter's.
 */

#include "daemon/sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "gpu/abi.h"

/* An attempt gives 0 or errno. */
struct attempt {
        const char *what;
        int (*make)(void);
};

#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

enum { ENTERED_NOT = 250, ENDED_BY_SIGNAL = 251 };

static const struct sandbox_config ours = {0};
static const struct sandbox_config with_library = {.closed_library = true};
static const struct sandbox_config as_keeper = {0}; /* stands for the other filter */

static int enter(const struct sandbox_config *config) {
        return config == &as_keeper ? sandbox_enter_keeper() : sandbox_enter(config);
}

static int outcome(const struct attempt *attempt, const struct sandbox_config *config) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(config && enter(config) < 0 ? ENTERED_NOT : attempt->make());
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : ENDED_BY_SIGNAL;
}

static void expect(const struct attempt *attempts, size_t n, const struct sandbox_config *config, int error) {
        for (size_t i = 0; i < n; i++) {
                int r = outcome(&attempts[i], config);

                if (r != error)
                        fail_msg("%s: %d (%s) instead of %d", attempts[i].what, r, strerror(r), error);
        }
}

static void expect_other(const struct attempt *attempts, size_t n, const struct sandbox_config *config, int error) {
        for (size_t i = 0; i < n; i++)
                if (outcome(&attempts[i], config) == error)
                        fail_msg("%s: %s even so", attempts[i].what, strerror(error));
}

/* ---- forbidden in any case; the arguments are such that the kernel itself would not say EPERM ---- */

static int try_execve(void) {
        char *const none[] = {NULL};

        return ERRNO_OF(execve("/nonexistent", none, none));
}

static int try_execveat(void) {
        return ERRNO_OF(syscall(SYS_execveat, -1, "nonexistent", NULL, NULL, 0));
}

static int try_ptrace(void) {
        return ERRNO_OF(ptrace(PTRACE_CONT, getpid(), NULL, NULL));
}

static int try_read_memory(void) {
        return ERRNO_OF(process_vm_readv(getpid(), NULL, 0, NULL, 0, 0));
}

static int try_mount(void) {
        return ERRNO_OF(syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
}

static int try_unshare(void) {
        return ERRNO_OF(unshare(1)); /* no such flag */
}

static int try_setns(void) {
        return ERRNO_OF(setns(-1, 0));
}

static int try_chroot(void) {
        return ERRNO_OF(chroot("/nonexistent"));
}

static int try_mknod(void) {
        return ERRNO_OF(mknod("/nonexistent/node", S_IFIFO | 0600, 0));
}

static int try_setuid(void) {
        return ERRNO_OF(setuid(getuid()));
}

static int try_setresgid(void) {
        return ERRNO_OF(setresgid((gid_t)-1, (gid_t)-1, (gid_t)-1));
}

static int try_personality(void) {
        return ERRNO_OF(personality(0xffffffff));
}

static int try_keyctl(void) {
        return ERRNO_OF(syscall(SYS_keyctl, -1, 0, 0, 0, 0));
}

static int try_inet(void) {
        return ERRNO_OF(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int try_inet6(void) {
        return ERRNO_OF(socket(AF_INET6, -1, 0));
}

static int try_vsock(void) {
        return ERRNO_OF(socket(AF_VSOCK, -1, 0));
}

static int try_packet(void) {
        return ERRNO_OF(socket(AF_MAX, SOCK_RAW, 0));
}

static const struct attempt forbidden[] = {
        {"execve", try_execve},
        {"execveat", try_execveat},
        {"ptrace", try_ptrace},
        {"process_vm_readv", try_read_memory},
        {"mount", try_mount},
        {"unshare", try_unshare},
        {"setns", try_setns},
        {"chroot", try_chroot},
        {"mknod", try_mknod},
        {"setuid", try_setuid},
        {"setresgid", try_setresgid},
        {"personality", try_personality},
        {"keyctl", try_keyctl},
        {"an AF_INET socket", try_inet},
        {"an AF_INET6 socket", try_inet6},
        {"an AF_VSOCK socket", try_vsock},
        {"a socket of a family to come", try_packet},
};

static void what_is_forbidden_is_refused(void **state) {
        expect(forbidden, ARRAY_SIZE(forbidden), &ours, EPERM);
        expect_other(forbidden, ARRAY_SIZE(forbidden), NULL, EPERM);
}

static void what_is_forbidden_is_refused_to_a_closed_library_too(void **state) {
        expect(forbidden, ARRAY_SIZE(forbidden), &with_library, EPERM);
}

/* Modules and BPF need capabilities, which the kernel asks for first: only root can tell the filter's EPERM. */
static int try_init_module(void) {
        return ERRNO_OF(syscall(SYS_init_module, NULL, 0, NULL));
}

static int try_bpf(void) {
        return ERRNO_OF(syscall(SYS_bpf, 9999, NULL, 0));
}

static int try_clock_settime(void) {
        return ERRNO_OF(syscall(SYS_clock_settime, 9999, NULL));
}

static int try_umount(void) {
        return ERRNO_OF(umount2("/nonexistent", 0));
}

static void what_only_root_could_do_is_refused_to_root(void **state) {
        static const struct attempt attempts[] = {
                {"init_module", try_init_module},
                {"bpf", try_bpf},
                {"clock_settime", try_clock_settime},
                {"umount", try_umount},
        };

        if (geteuid() != 0) {
                print_message("root is missing: the kernel refuses these by itself\n");
                skip();
        }
        expect(attempts, ARRAY_SIZE(attempts), &ours, EPERM);
        expect(attempts, ARRAY_SIZE(attempts), &with_library, EPERM);
        expect_other(attempts, ARRAY_SIZE(attempts), NULL, EPERM);
}

/* ---- of no use to us ---- */

static int try_vfork(void) {
        long pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);

        if (pid == 0)
                _exit(0);
        return ERRNO_OF(pid);
}

static int try_vfork_by_clone3(void) {
        uint64_t arguments[8] = {0}; /* struct clone_args: no flags, no exit signal */
        long pid = syscall(SYS_clone3, arguments, sizeof(arguments));

        if (pid == 0)
                _exit(0);
        return ERRNO_OF(pid);
}

static int try_kill(void) {
        return ERRNO_OF(kill(getppid(), 0));
}

static int try_signal_to_init(void) {
        return ERRNO_OF(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int try_chmod(void) {
        return ERRNO_OF(chmod("/nonexistent", 0));
}

static int try_rename(void) {
        return ERRNO_OF(rename("/nonexistent/a", "/nonexistent/b"));
}

static int try_writable_code(void) {
        void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return memory == MAP_FAILED ? errno : 0;
}

static int try_code_from_data(void) {
        void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return memory == MAP_FAILED ? 255 : ERRNO_OF(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}

static int try_raise_limit(void) {
        const struct { uint64_t soft, hard; } limit = {64, 64};

        return ERRNO_OF(syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &limit, NULL));
}

static int try_dumpable(void) {
        return ERRNO_OF(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int try_terminal(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        char letter = 'x';

        return ERRNO_OF(ioctl(fd, TIOCSTI, &letter));
}

static int try_netlink(void) {
        return ERRNO_OF(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static const struct attempt useless[] = {
        {"vfork", try_vfork},
        {"clone3", try_vfork_by_clone3},
        {"kill of another process", try_kill},
        {"tgkill of another process", try_signal_to_init},
        {"chmod", try_chmod},
        {"rename", try_rename},
        {"memory both writable and executable", try_writable_code},
        {"executable memory that was writable", try_code_from_data},
        {"a new limit", try_raise_limit},
        {"PR_SET_DUMPABLE", try_dumpable},
        {"TIOCSTI", try_terminal},
        {"a netlink socket", try_netlink},
};

static void what_we_never_do_is_unknown(void **state) {
        expect(useless, ARRAY_SIZE(useless), &ours, ENOSYS);
        expect_other(useless, ARRAY_SIZE(useless), NULL, ENOSYS);
}

static void a_closed_library_may_do_what_is_not_forbidden(void **state) {
        expect_other(useless, ARRAY_SIZE(useless), &with_library, ENOSYS);
        expect_other(useless, ARRAY_SIZE(useless), &with_library, EPERM);
}

/* ---- what the daemon does ---- */

static void *thread_main(void *argument) {
        char text[64];
        int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

        *(bool *)argument = fd >= 0 && read(fd, text, sizeof(text)) > 0;
        (void)close(fd);
        return NULL;
}

/* Two, as libc asks once only how threads are made. */
static int do_threads(void) {
        for (int i = 0; i < 2; i++) {
                bool done = false;
                pthread_t thread;
                int r = pthread_create(&thread, NULL, thread_main, &done);

                if (r != 0)
                        return r;
                (void)pthread_setname_np(thread, "worker");
                r = pthread_join(thread, NULL);
                if (r != 0 || !done)
                        return r != 0 ? r : EIO;
        }
        return 0;
}

static int do_memory(void) {
        size_t size = 64 << 20;
        char *memory = malloc(size);

        if (!memory)
                return errno;
        memset(memory, 1, size);
        memory = realloc(memory, 2 * size);
        free(memory);
        return memory ? 0 : errno;
}

/* The kernel's own answer comes through: /dev/null knows no ioctl. */
static int answer_of_null(unsigned long request) {
        uint8_t argument[4096] = {0};
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        int error = ERRNO_OF(ioctl(fd, request, argument));

        (void)close(fd);
        return error == ENOTTY ? 0 : error;
}

static int do_driver_calls(void) {
        static const unsigned long requests[] = {
                NV_ESC_CARD_INFO(32),
                NV_ESC_WAIT_OPEN_COMPLETE,
                NV_ESC_STATUS_CODE,
                NV_ESC_SET_NUMA_STATUS,
                NV_ESC_RM_CONTROL,
                (unsigned long)(long)(int)NV_ESC_RM_ALLOC, /* as one who keeps it in an int passes it */
                UVM_INITIALIZE,
                UVM_REGISTER_GPU,
                UVM_UNREGISTER_GPU,
        };

        for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
                int error = answer_of_null(requests[i]);

                if (error != 0)
                        return error;
        }
        return 0;
}

static int do_socket(void) {
        int ends[2];
        char byte = 'x';

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return errno;
        if (send(ends[0], &byte, 1, MSG_NOSIGNAL) != 1 || recv(ends[1], &byte, 1, 0) != 1)
                return errno;
        return ERRNO_OF(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static int do_pass_descriptor(void) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
        char byte = 'x';
        struct iovec data = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {
                .msg_iov = &data,
                .msg_iovlen = 1,
                .msg_control = control,
                .msg_controllen = sizeof(control),
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0)
                return errno;
        *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &ends[0], sizeof(int));
        return ERRNO_OF(sendmsg(ends[0], &message, MSG_NOSIGNAL));
}

static int do_wait(void) {
        struct epoll_event event = {.events = EPOLLIN};
        uint64_t one = 1;
        int loop = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (loop < 0 || fd < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0)
                return errno;
        if (write(fd, &one, sizeof(one)) != sizeof(one) || epoll_wait(loop, &event, 1, 1000) != 1)
                return errno;
        return read(fd, &one, sizeof(one)) == sizeof(one) ? 0 : errno;
}

static int do_log(void) {
        errno = 0;
        syslog(LOG_DAEMON | LOG_DEBUG, "a test of Holdfast's sandbox");
        return errno == EPERM || errno == ENOSYS ? errno : 0;
}

/* SIGHUP reads the configuration, with names of groups in it. */
static int do_find_group(void) {
        return getgrnam("root") && !getgrnam("no-such-group") ? 0 : EIO;
}

static int do_remove(void) {
        return unlink("/nonexistent/socket") < 0 && errno == ENOENT ? 0 : EIO;
}

static int do_fork(void) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        return ERRNO_OF(pid);
}

static void what_the_daemon_does_goes_through(void **state) {
        static const struct attempt attempts[] = {
                {"threads", do_threads},
                {"memory", do_memory},
                {"the driver's ioctls", do_driver_calls},
                {"Unix sockets", do_socket},
                {"a descriptor for the service manager", do_pass_descriptor},
                {"waiting", do_wait},
                {"the log", do_log},
                {"names of groups", do_find_group},
                {"removing the socket", do_remove},
                {"forking a keeper", do_fork},
        };

        expect(attempts, ARRAY_SIZE(attempts), &ours, 0);
        expect(attempts, ARRAY_SIZE(attempts), &with_library, 0);
}

static int do_abort(void) {
        abort();
}

static void an_assertion_that_fails_still_ends_the_process(void **state) {
        static const struct attempt attempt = {"abort", do_abort};

        expect(&attempt, 1, &ours, ENDED_BY_SIGNAL);
}

/* ---- the keeper ---- */

static int try_open(void) {
        return ERRNO_OF(open("/dev/null", O_RDWR | O_CLOEXEC));
}

static int try_socket(void) {
        return ERRNO_OF(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int try_connect(void) {
        return ERRNO_OF(connect(-1, NULL, 0));
}

static int try_unlink(void) {
        return ERRNO_OF(unlink("/nonexistent/file"));
}

static int try_ioctl(void) {
        return ERRNO_OF(ioctl(STDIN_FILENO, FIONREAD, NULL));
}

static void a_keeper_opens_connects_and_executes_nothing(void **state) {
        static const struct attempt attempts[] = {
                {"open", try_open},       {"socket", try_socket},
                {"connect", try_connect}, {"unlink", try_unlink},
                {"ioctl", try_ioctl},     {"fork", do_fork},
                {"execve", try_execve},   {"ptrace", try_ptrace},
                {"setuid", try_setuid},   {"kill of another process", try_kill},
        };

        expect(attempts, ARRAY_SIZE(attempts), &as_keeper, ENOSYS);
        expect_other(attempts, ARRAY_SIZE(attempts), NULL, ENOSYS);
}

static void *close_nothing(void *data) {
        *(bool *)data = close(-1) < 0;
        return NULL;
}

static int do_close_on_a_thread(void) {
        bool done = false;
        pthread_t thread;
        int r = pthread_create(&thread, NULL, close_nothing, &done);

        if (r == 0)
                r = pthread_join(thread, NULL);
        return r == 0 && !done ? EIO : r;
}

static void what_a_keeper_does_goes_through(void **state) {
        static const struct attempt attempts[] = {
                {"a close on a thread", do_close_on_a_thread},
                {"memory", do_memory},
        };

        expect(attempts, ARRAY_SIZE(attempts), &as_keeper, 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_forbidden_is_refused),
                cmocka_unit_test(what_is_forbidden_is_refused_to_a_closed_library_too),
                cmocka_unit_test(what_only_root_could_do_is_refused_to_root),
                cmocka_unit_test(what_we_never_do_is_unknown),
                cmocka_unit_test(a_closed_library_may_do_what_is_not_forbidden),
                cmocka_unit_test(what_the_daemon_does_goes_through),
                cmocka_unit_test(an_assertion_that_fails_still_ends_the_process),
                cmocka_unit_test(a_keeper_opens_connects_and_executes_nothing),
                cmocka_unit_test(what_a_keeper_does_goes_through),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
