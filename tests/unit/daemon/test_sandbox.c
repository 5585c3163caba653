/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The sandbox: each attempt runs in its own child, which enters the sandbox first. An attempt that must be refused also
 * runs without the sandbox, where it must not fail with the same error. That shows that the sandbox refused it.
 */

#include "daemon/sandbox/sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/leftover.h"
#include "base/text.h"
#include "daemon/sandbox/landlock.h"
#include "gpu/abi.h"
#include "tests/unit/tree.h"

/* make() returns 0 or errno. */
struct attempt {
        const char *what;
        int (*make)(void);
};

#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

enum { ENTERED_NOT = 250, ENDED_BY_SIGNAL = 251 };

static const struct sandbox_config ours = {0};
static const struct sandbox_config with_library = {.closed_library = true};

/* These stand for a keeper's filters. Their contents do not matter: enter() recognises them by their addresses. */
static const struct sandbox_config as_keeper = {0}, as_forked_keeper = {0};

static int enter(const struct sandbox_config *config);

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
                        fail_msg("%s: %d (%s), expected %d", attempts[i].what, r, strerror(r), error);
        }
}

static void expect_other(const struct attempt *attempts, size_t n, const struct sandbox_config *config, int error) {
        for (size_t i = 0; i < n; i++)
                if (outcome(&attempts[i], config) == error)
                        fail_msg("%s: %s without the sandbox, too", attempts[i].what, strerror(error));
}

/* ---- always forbidden; with these arguments the kernel itself would not answer EPERM ---- */

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
        {"a socket of an unknown family", try_packet},
};

static void forbidden_calls_are_refused(void **state) {
        expect(forbidden, ARRAY_SIZE(forbidden), &ours, EPERM);
        expect_other(forbidden, ARRAY_SIZE(forbidden), NULL, EPERM);
}

static void forbidden_calls_are_refused_to_a_closed_library_too(void **state) {
        expect(forbidden, ARRAY_SIZE(forbidden), &with_library, EPERM);
}

/* Without capabilities the kernel itself answers EPERM. Only a test as root shows that the filter refuses the call. */
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

static void calls_that_only_root_may_make_are_refused_to_root(void **state) {
        static const struct attempt attempts[] = {
                {"init_module", try_init_module},
                {"bpf", try_bpf},
                {"clock_settime", try_clock_settime},
                {"umount", try_umount},
        };

        if (geteuid() != 0) {
                print_message("root is missing: the kernel refuses these calls to other users\n");
                skip();
        }
        expect(attempts, ARRAY_SIZE(attempts), &ours, EPERM);
        expect(attempts, ARRAY_SIZE(attempts), &with_library, EPERM);
        expect_other(attempts, ARRAY_SIZE(attempts), NULL, EPERM);
}

/* ---- calls that the daemon does not need ---- */

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

/* Opens and closes; 0 or errno. */
static int open_path(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC, 0600);
        int error = ERRNO_OF(fd);

        if (fd >= 0)
                (void)close(fd);
        return error;
}

static int try_fchmod(void) {
        return ERRNO_OF(fchmod(-1, 0));
}

static int try_empty(void) {
        return open_path("/dev/null", O_RDONLY | O_TRUNC);
}

static int try_openat2(void) {
        return ERRNO_OF(syscall(SYS_openat2, -1, NULL, NULL, 0));
}

/* The kernel itself answers EINVAL: it has no threads in another PID namespace. */
static int try_thread_in_new_namespace(void) {
        const unsigned long flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_NEWPID;

        return ERRNO_OF(syscall(SYS_clone, flags, NULL, NULL, NULL, NULL));
}

static int try_set_owner(void) {
        return ERRNO_OF(fcntl(-1, F_SETOWN, getpid()));
}

static int try_set_signal(void) {
        return ERRNO_OF(fcntl(-1, F_SETSIG, SIGKILL));
}

static int try_signal_driven(void) {
        return ERRNO_OF(fcntl(-1, F_SETFL, O_ASYNC));
}

static int try_file_lease(void) {
        return ERRNO_OF(fcntl(-1, F_SETLEASE, F_WRLCK));
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
        {"fchmod", try_fchmod},
        {"emptying a file", try_empty},
        {"openat2", try_openat2},
        {"a thread in a new namespace", try_thread_in_new_namespace},
        {"F_SETOWN", try_set_owner},
        {"F_SETSIG", try_set_signal},
        {"O_ASYNC", try_signal_driven},
        {"F_SETLEASE", try_file_lease},
        {"rename", try_rename},
        {"memory both writable and executable", try_writable_code},
        {"executable memory that was writable", try_code_from_data},
        {"a new limit", try_raise_limit},
        {"PR_SET_DUMPABLE", try_dumpable},
        {"TIOCSTI", try_terminal},
        {"a netlink socket", try_netlink},
};

static void calls_that_the_daemon_never_makes_fail_with_enosys(void **state) {
        expect(useless, ARRAY_SIZE(useless), &ours, ENOSYS);
        expect_other(useless, ARRAY_SIZE(useless), NULL, ENOSYS);
}

static void a_closed_library_may_make_all_calls_that_are_not_forbidden(void **state) {
        expect_other(useless, ARRAY_SIZE(useless), &with_library, ENOSYS);
}

/* ---- what the daemon does ---- */

static void *thread_main(void *argument) {
        char text[64];
        int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

        *(bool *)argument = fd >= 0 && read(fd, text, sizeof(text)) > 0;
        (void)close(fd);
        return NULL;
}

/* Two threads, because libc may try clone3(2) only for the first one, and use clone(2) for all later ones. */
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

/* Returns 0 if the filter permits the request: the kernel then answers ENOTTY, because /dev/null has no ioctls. */
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
                (unsigned long)(long)(int)NV_ESC_RM_ALLOC, /* sign-extended, as from a variable of type int */
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
        if (socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) < 0)
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
        const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int error = ERRNO_OF(sendto(fd, "x", 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address)));

        return error == EPERM || error == ENOSYS || error == EACCES ? error : 0;
}

/* At SIGHUP the daemon reads the configuration, which may name a group. */
static int do_find_group(void) {
        return getgrnam("root") && !getgrnam("no-such-group") ? 0 : EIO;
}

static int do_file_control(void) {
        struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
        int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 10);
        int flags = fcntl(copy, F_GETFL);

        if (copy < 0 || flags < 0 || fcntl(copy, F_SETFL, flags | O_NONBLOCK) < 0)
                return errno;
        if (fcntl(copy, F_GETFD) < 0 || fcntl(copy, F_SETFD, FD_CLOEXEC) < 0)
                return errno;
        return ERRNO_OF(fcntl(copy, F_GETLK, &whole) < 0 ? -1 : fcntl(copy, F_SETLK, &whole));
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

static void calls_of_the_daemon_are_permitted(void **state) {
        static const struct attempt attempts[] = {
                {"threads", do_threads},
                {"memory", do_memory},
                {"the driver's ioctls", do_driver_calls},
                {"Unix sockets", do_socket},
                {"a descriptor for the service manager", do_pass_descriptor},
                {"waiting", do_wait},
                {"the log", do_log},
                {"names of groups", do_find_group},
                {"copies, flags and locks of files", do_file_control},
                {"removing the socket", do_remove},
                {"forking a keeper", do_fork},
        };

        expect(attempts, ARRAY_SIZE(attempts), &ours, 0);
        expect(attempts, ARRAY_SIZE(attempts), &with_library, 0);
}

static int do_abort(void) {
        abort();
}

static void a_failed_assertion_still_ends_the_process(void **state) {
        static const struct attempt attempt = {"abort", do_abort};

        expect(&attempt, 1, &ours, ENDED_BY_SIGNAL);
}

/* ---- files ---- */

/*
 * The folders of a daemon that runs as root:
 *
 *      conf/holdfast.conf, conf/next    the configuration, and a file that may replace it
 *      run/socket                       the runtime directory
 *      machine/root/dev/nvidia0         a node below the root, which may be mounted later
 *      other/file                       a file that the daemon does not need
 */
static const struct tree *place;

static struct sandbox_config in_place(void) {
        static char config[PATH_MAX], runtime[PATH_MAX], root[PATH_MAX];

        (void)text_copy(root, sizeof(root), tree_path(place, "/machine/root"));
        (void)text_copy(config, sizeof(config), tree_path(place, "/conf/holdfast.conf"));
        (void)text_copy(runtime, sizeof(runtime), tree_path(place, "/run"));
        return (struct sandbox_config){.root = root, .config_path = config, .runtime_directory = runtime};
}

static int enter(const struct sandbox_config *config) {
        if (config == &as_keeper)
                return sandbox_enter_keeper(NULL);
        return config == &as_forked_keeper ? sandbox_enter_keeper(tree_path(place, "/run")) : sandbox_enter(config);
}

static int place_setup(void **state) {
        (void)tree_setup(state);
        place = *state;
        tree_put(place, "/conf/holdfast.conf", "");
        tree_put(place, "/conf/next", "");
        tree_put(place, "/run/socket", "");
        tree_put(place, "/machine/root/dev/nvidia0", "");
        tree_put(place, "/other/folder/file", "");
        return 0;
}

static int open_here(const char *path, int flags) {
        return open_path(tree_path(place, path), flags);
}

static int try_cron(void) {
        return open_path("/etc/holdfast-test", O_WRONLY | O_CREAT | O_EXCL);
}

static int try_shadow(void) {
        return open_path("/etc/shadow", O_RDONLY);
}

static int try_list_root(void) {
        return open_path("/", O_RDONLY | O_DIRECTORY);
}

static int try_write_device(void) {
        return open_path("/dev/zero", O_WRONLY);
}

static int try_write_node(void) {
        return open_here("/machine/root/dev/nvidia0", O_RDWR);
}

static int try_read_other(void) {
        return open_here("/other/folder/file", O_RDONLY);
}

static int try_write_other(void) {
        return open_here("/other/folder/file", O_WRONLY);
}

static int try_make_other(void) {
        return open_here("/other/folder/job", O_WRONLY | O_CREAT);
}

static int try_remove_other(void) {
        return ERRNO_OF(unlink(tree_path(place, "/other/folder/file")));
}

static int try_write_config(void) {
        return open_here("/conf/holdfast.conf", O_WRONLY);
}

static int try_write_in_runtime(void) {
        return open_here("/run/socket", O_WRONLY);
}

static int try_make_in_runtime(void) {
        return open_here("/run/program", O_WRONLY | O_CREAT);
}

static const struct attempt of_root[] = {
        {"a new file in /etc", try_cron},
        {"reading /etc/shadow", try_shadow},
};

static const struct attempt on_files[] = {
        {"listing /", try_list_root},
        {"reading elsewhere", try_read_other},
};

static const struct attempt writing[] = {
        {"writing elsewhere", try_write_other},
        {"a new file elsewhere", try_make_other},
        {"writing the configuration", try_write_config},
        {"writing in the runtime directory", try_write_in_runtime},
        {"a new file in the runtime directory", try_make_in_runtime},
        {"removing a file elsewhere", try_remove_other}, /* last: without the sandbox it succeeds */
};

static const struct attempt writing_devices[] = {
        {"writing to a device", try_write_device},
        {"writing to a node", try_write_node},
};

static bool lacks_landlock(void) {
        struct landlock landlock = LANDLOCK_INIT;

        if (landlock_begin(&landlock) < 0) {
                print_message("Landlock is missing in this kernel\n");
                return true;
        }
        landlock_done(&landlock);
        return false;
}

/* Attempts of a compromised daemon, with root's rights if the test runs as root. */
static void other_files_are_out_of_reach_even_for_root(void **state) {
        const struct sandbox_config config = in_place();

        if (lacks_landlock())
                skip();
        expect(on_files, ARRAY_SIZE(on_files), &config, EACCES);
        expect(writing, ARRAY_SIZE(writing), &config, EACCES);
        expect(writing_devices, ARRAY_SIZE(writing_devices), &config, EACCES);
        expect(of_root, geteuid() == 0 ? 2 : 1, &config, EACCES);
        expect_other(on_files, ARRAY_SIZE(on_files), NULL, EACCES);
        expect_other(writing, ARRAY_SIZE(writing), NULL, EACCES);
        expect_other(writing_devices, ARRAY_SIZE(writing_devices), NULL, EACCES);
}

static void a_closed_library_may_read_any_file_and_write_only_to_devices(void **state) {
        struct sandbox_config config = in_place();

        if (lacks_landlock())
                skip();
        config.closed_library = true;
        expect(writing, ARRAY_SIZE(writing), &config, EACCES);
        expect(of_root, 1, &config, EACCES);
        expect_other(on_files, ARRAY_SIZE(on_files), &config, EACCES);
        expect_other(writing_devices, ARRAY_SIZE(writing_devices), &config, EACCES);
}

static int do_read_proc(void) {
        return open_path("/proc/self/stat", O_RDONLY);
}

static int do_list_sys(void) {
        return open_path("/sys", O_RDONLY | O_DIRECTORY);
}

static int do_read_config(void) {
        return open_here("/conf/next", O_RDONLY);
}

static int do_open_node(void) {
        return open_here("/machine/root/dev/nvidia0", O_RDONLY | O_NONBLOCK);
}

static int do_open_device(void) {
        return open_path("/dev/zero", O_RDONLY);
}

static int do_open_null(void) {
        return open_path("/dev/null", O_RDWR);
}

static int do_remove_socket(void) {
        return ERRNO_OF(unlink(tree_path(place, "/run/socket")));
}

static int do_bind(void) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        (void)text_copy(address.sun_path, sizeof(address.sun_path), tree_path(place, "/run/keeper"));
        (void)unlink(address.sun_path);
        return ERRNO_OF(bind(fd, (const struct sockaddr *)&address, sizeof(address)));
}

static int do_end_ourselves(void) {
        return ERRNO_OF(kill(getpid(), 0));
}

static const struct attempt needed[] = {
        {"the process", do_read_proc},
        {"/sys", do_list_sys},
        {"a file that replaces the configuration", do_read_config},
        {"a node", do_open_node},
        {"a device", do_open_device},
        {"/dev/null", do_open_null},
        {"a socket for a keeper", do_bind},
        {"names of groups", do_find_group},
        {"a signal to ourselves", do_end_ourselves},
        {"removing the socket", do_remove_socket},
};

static void files_that_the_daemon_needs_are_accessible(void **state) {
        const struct sandbox_config config = in_place();

        expect(needed, ARRAY_SIZE(needed), &config, 0);
}

/* The parent, which has no sandbox, has bound the abstract name. */
static int try_abstract(void) {
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0holdfast-test"};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return ERRNO_OF(sendto(fd, "x", 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address)));
}

static void other_abstract_sockets_are_out_of_reach(void **state) {
        static const struct attempt attempt = {"an abstract socket", try_abstract};
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0holdfast-test"};
        const struct sandbox_config config = in_place();
        struct landlock landlock = LANDLOCK_INIT;
        int fd;

        if (landlock_begin(&landlock) < 0 || landlock.version < 6) {
                print_message("Linux 6.12 is missing: its Landlock is required\n");
                landlock_done(&landlock);
                skip();
        }
        landlock_done(&landlock);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        expect(&attempt, 1, NULL, 0);
        expect(&attempt, 1, &config, EPERM);
        (void)close(fd);
}

static void bus_address(struct sockaddr_un *ret_address) {
        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        (void)text_copy(ret_address->sun_path, sizeof(ret_address->sun_path), tree_path(place, "/other/bus"));
}

static int connect_to_bus(int fd) {
        struct sockaddr_un address;

        bus_address(&address);
        return ERRNO_OF(connect(fd, (const struct sockaddr *)&address, sizeof(address)));
}

static int try_bus(void) {
        return connect_to_bus(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int socket_of_an_accomplice = -1;

static int try_bus_with_a_socket_of_an_accomplice(void) {
        return connect_to_bus(socket_of_an_accomplice);
}

static int try_bus_with_a_datagram(void) {
        struct sockaddr_un address;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int error;

        bus_address(&address);
        error = ERRNO_OF(sendto(fd, "x", 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address)));
        return error == EPROTOTYPE ? ENOSYS : error; /* the kernel's answer for another socket type */
}

/* D-Bus listens on a path to which everybody may connect. */
static void no_bus_can_be_reached_even_with_a_socket_of_another_process(void **state) {
        static const struct attempt attempts[] = {
                {"a socket of our own", try_bus},
                {"a socket that a client has passed", try_bus_with_a_socket_of_an_accomplice},
                {"a datagram", try_bus_with_a_datagram},
        };
        const struct sandbox_config config = in_place();
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un address;

        bus_address(&address);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        socket_of_an_accomplice = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        expect(attempts, ARRAY_SIZE(attempts), &config, ENOSYS);
        expect(attempts, 2, NULL, 0);
        (void)close(socket_of_an_accomplice);
        (void)close(fd);
}

/* ---- kernels and service managers without Landlock ---- */

static int refuse_landlock(int error) {
        struct sock_filter instructions[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 0, 1), /* landlock_create_ruleset */
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = {.len = ARRAY_SIZE(instructions), .filter = instructions};

        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0
                       ? ENTERED_NOT
                       : 0;
}

static int do_start_where_landlock_says(int error) {
        const struct sandbox_config config = in_place();
        int r = refuse_landlock(error);

        if (r == 0 && sandbox_enter(&config) < 0)
                r = ENTERED_NOT;
        return r == 0 && try_ptrace() == EPERM && try_read_other() == 0 ? 0 : EIO;
}

static int do_start_on_an_old_kernel(void) {
        return do_start_where_landlock_says(ENOSYS);
}

static int do_start_where_it_is_off(void) {
        return do_start_where_landlock_says(EOPNOTSUPP);
}

static int do_start_behind_a_filter(void) {
        return do_start_where_landlock_says(EPERM);
}

static void without_landlock_the_daemon_starts_with_the_filter_alone(void **state) {
        static const struct attempt attempts[] = {
                {"Linux before 5.13", do_start_on_an_old_kernel},
                {"Linux with lsm= that leaves it out", do_start_where_it_is_off},
                {"a service manager's filter", do_start_behind_a_filter},
        };

        expect(attempts, ARRAY_SIZE(attempts), NULL, 0);
}

/* ---- the keeper ---- */

static int try_open(void) {
        return open_path("/dev/null", O_RDWR);
}

static int try_write(void) {
        return open_path("/dev/null", O_WRONLY);
}

static int try_path(void) {
        return open_path("/", O_PATH);
}

static int try_connect(void) {
        return ERRNO_OF(connect(-1, NULL, 0));
}

static int try_socket(void) {
        return ERRNO_OF(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int try_ioctl(void) {
        return ERRNO_OF(ioctl(STDIN_FILENO, FIONREAD, NULL));
}

static int try_empty_by_writing(void) {
        return open_path("/dev/null", O_WRONLY | O_TRUNC);
}

static void a_keeper_cannot_open_connect_or_execute_anything(void **state) {
        static const struct attempt attempts[] = {
                {"open", try_open},
                {"writing", try_write},
                {"O_PATH", try_path},
                {"O_ASYNC", try_signal_driven},
                {"emptying a file", try_empty_by_writing},
                {"connect", try_connect},
                {"socket", try_socket},
                {"ioctl", try_ioctl},
                {"fork", do_fork},
                {"execve", try_execve},
                {"ptrace", try_ptrace},
                {"setuid", try_setuid},
                {"fchmod", try_fchmod},
                {"kill of another process", try_kill},
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

static void calls_of_a_keeper_are_permitted(void **state) {
        static const struct attempt attempts[] = {
                {"a close on a thread", do_close_on_a_thread},
                {"memory", do_memory},
        };

        expect(attempts, ARRAY_SIZE(attempts), &as_keeper, 0);
}

static int do_lock_pid_file(void) {
        int fd = leftover_lock(tree_path(place, "/run/socket"));

        return fd < 0 ? -fd : 0;
}

static void a_forked_keeper_may_remove_files_only_in_the_runtime_directory(void **state) {
        static const struct attempt tidying[] = {
                {"locking the pid file", do_lock_pid_file},
                {"removing the socket", do_remove_socket},
        };
        static const struct attempt elsewhere[] = {
                {"reading elsewhere", try_read_other},
                {"removing a file elsewhere", try_remove_other},
        };

        expect(tidying, ARRAY_SIZE(tidying), &as_forked_keeper, 0);
        if (lacks_landlock())
                skip();
        expect(elsewhere, ARRAY_SIZE(elsewhere), &as_forked_keeper, EACCES);
        expect(elsewhere, ARRAY_SIZE(elsewhere), &as_keeper, EACCES);
        expect_other(elsewhere, ARRAY_SIZE(elsewhere), NULL, EACCES);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(forbidden_calls_are_refused),
                cmocka_unit_test(forbidden_calls_are_refused_to_a_closed_library_too),
                cmocka_unit_test(calls_that_only_root_may_make_are_refused_to_root),
                cmocka_unit_test(calls_that_the_daemon_never_makes_fail_with_enosys),
                cmocka_unit_test(a_closed_library_may_make_all_calls_that_are_not_forbidden),
                cmocka_unit_test(calls_of_the_daemon_are_permitted),
                cmocka_unit_test(a_failed_assertion_still_ends_the_process),
                cmocka_unit_test_setup_teardown(other_files_are_out_of_reach_even_for_root, place_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(a_closed_library_may_read_any_file_and_write_only_to_devices,
                                                place_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(files_that_the_daemon_needs_are_accessible, place_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(other_abstract_sockets_are_out_of_reach, place_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(no_bus_can_be_reached_even_with_a_socket_of_another_process,
                                                place_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(without_landlock_the_daemon_starts_with_the_filter_alone, place_setup,
                                                tree_teardown),
                cmocka_unit_test(a_keeper_cannot_open_connect_or_execute_anything),
                cmocka_unit_test(calls_of_a_keeper_are_permitted),
                cmocka_unit_test_setup_teardown(a_forked_keeper_may_remove_files_only_in_the_runtime_directory,
                                                place_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
