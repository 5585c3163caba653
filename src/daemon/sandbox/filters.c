/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * sandbox-filters ARCHITECTURE: prints sandbox.c's filters as C, put together by libseccomp for that architecture
 * (libseccomp's name of it). It runs while we are built, so that the daemon needs no libseccomp (decision 0011).
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/serve/origin.h"
#include "gpu/abi.h"

#define REFUSED SCMP_ACT_ERRNO(EPERM)
#define UNKNOWN SCMP_ACT_ERRNO(ENOSYS)

/* ---- the tables ---- */

/* What no daemon of ours ever does, with or without a library that we do not know. */
static const int forbidden[] = {
        /* start a program */
        SCMP_SYS(execve),
        SCMP_SYS(execveat),
        /* look into other processes */
        SCMP_SYS(kcmp),
        SCMP_SYS(pidfd_getfd),
        SCMP_SYS(process_madvise),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(ptrace),
        /* run code in the kernel, or look into it */
        SCMP_SYS(bpf),
        SCMP_SYS(delete_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(init_module),
        SCMP_SYS(kexec_file_load),
        SCMP_SYS(kexec_load),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(syslog),
        SCMP_SYS(userfaultfd),
        /* go round this very filter */
        SCMP_SYS(io_uring_enter),
        SCMP_SYS(io_uring_register),
        SCMP_SYS(io_uring_setup),
        SCMP_SYS(personality),
        /* change what the file system looks like */
        SCMP_SYS(chroot),
        SCMP_SYS(fsconfig),
        SCMP_SYS(fsmount),
        SCMP_SYS(fsopen),
        SCMP_SYS(fspick),
        SCMP_SYS(mount),
        SCMP_SYS(mount_setattr),
        SCMP_SYS(move_mount),
        SCMP_SYS(open_by_handle_at),
        SCMP_SYS(open_tree),
        SCMP_SYS(pivot_root),
        SCMP_SYS(setns),
        SCMP_SYS(umount2),
        SCMP_SYS(unshare),
        /* make nodes, which is done before (gpu/nodes.h) */
        SCMP_SYS(mknod),
        SCMP_SYS(mknodat),
        /* become somebody else */
        SCMP_SYS(capset),
        SCMP_SYS(setfsgid),
        SCMP_SYS(setfsuid),
        SCMP_SYS(setgid),
        SCMP_SYS(setgroups),
        SCMP_SYS(setregid),
        SCMP_SYS(setresgid),
        SCMP_SYS(setresuid),
        SCMP_SYS(setreuid),
        SCMP_SYS(setuid),
        /* the kernel's keys */
        SCMP_SYS(add_key),
        SCMP_SYS(keyctl),
        SCMP_SYS(request_key),
        /* the machine as a whole */
        SCMP_SYS(acct),
        SCMP_SYS(adjtimex),
        SCMP_SYS(clock_adjtime),
        SCMP_SYS(clock_settime),
        SCMP_SYS(ioperm),
        SCMP_SYS(iopl),
        SCMP_SYS(quotactl),
        SCMP_SYS(reboot),
        SCMP_SYS(setdomainname),
        SCMP_SYS(sethostname),
        SCMP_SYS(settimeofday),
        SCMP_SYS(swapoff),
        SCMP_SYS(swapon),
};

/* What the daemon and its libraries (libc, libevent, libudev, the loader for name services) do from here on. */
static const int permitted[] = {
        /* memory; mapping it executable is in the other table */
        SCMP_SYS(brk),
        SCMP_SYS(madvise),
        SCMP_SYS(mremap),
        SCMP_SYS(munmap),
        /* threads that begin, wait and end; making them is in the other table, and clone3() has a filter to itself */
        SCMP_SYS(clone3),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(futex),
        SCMP_SYS(get_robust_list),
        SCMP_SYS(gettid),
        SCMP_SYS(membarrier),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(rseq),
        SCMP_SYS(sched_getaffinity),
        SCMP_SYS(sched_yield),
        SCMP_SYS(set_robust_list),
        /* signals to ourselves; sending them is in the other table */
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(sigaltstack),
        /* files of /dev, /proc, /sys and /etc; the pid file and the socket at the end */
        SCMP_SYS(access),
        SCMP_SYS(close),
        SCMP_SYS(close_range),
        SCMP_SYS(dup),
        SCMP_SYS(dup2),
        SCMP_SYS(dup3),
        SCMP_SYS(faccessat),
        SCMP_SYS(faccessat2),
        SCMP_SYS(fcntl),
        SCMP_SYS(fstat),
        SCMP_SYS(fstatfs),
        SCMP_SYS(getcwd),
        SCMP_SYS(getdents64),
        SCMP_SYS(lseek),
        SCMP_SYS(lstat),
        SCMP_SYS(newfstatat),
        SCMP_SYS(open),
        SCMP_SYS(openat),
        SCMP_SYS(openat2),
        SCMP_SYS(pidfd_open), /* on kernels without SO_PEERPIDFD */
        SCMP_SYS(pread64),
        SCMP_SYS(pwrite64),
        SCMP_SYS(read),
        SCMP_SYS(readlink),
        SCMP_SYS(readlinkat),
        SCMP_SYS(readv),
        SCMP_SYS(stat),
        SCMP_SYS(statfs),
        SCMP_SYS(statx),
        SCMP_SYS(unlink),
        SCMP_SYS(unlinkat),
        SCMP_SYS(write),
        SCMP_SYS(writev),
        /* the loop */
        SCMP_SYS(epoll_create1),
        SCMP_SYS(epoll_ctl),
        SCMP_SYS(epoll_pwait),
        SCMP_SYS(epoll_pwait2),
        SCMP_SYS(epoll_wait),
        SCMP_SYS(eventfd2),
        SCMP_SYS(pipe2),
        SCMP_SYS(poll),
        SCMP_SYS(ppoll),
        /*
         * clients, the service manager, the log; new sockets are in the other table. No connect(): no filter sees where
         * it leads, and D-Bus and its like take connections only, while whom we need takes datagrams
         */
        SCMP_SYS(accept),
        SCMP_SYS(accept4),
        SCMP_SYS(getpeername),
        SCMP_SYS(getsockname),
        SCMP_SYS(getsockopt),
        SCMP_SYS(recvfrom),
        SCMP_SYS(recvmsg),
        SCMP_SYS(sendmmsg),
        SCMP_SYS(sendmsg),
        SCMP_SYS(sendto),
        SCMP_SYS(setsockopt),
        SCMP_SYS(shutdown),
        /* another keeper, when the one that we have ends (keeper_link.c); making the process is in the other table */
        SCMP_SYS(bind),
        SCMP_SYS(fchmod),
        SCMP_SYS(setsid),
        SCMP_SYS(signalfd4),
        /* the time, where the vDSO does not tell it */
        SCMP_SYS(clock_getres),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_nanosleep),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(nanosleep),
        SCMP_SYS(time),
        /* what we are and where */
        SCMP_SYS(capget),
        SCMP_SYS(getegid),
        SCMP_SYS(geteuid),
        SCMP_SYS(getgid),
        SCMP_SYS(getgroups),
        SCMP_SYS(getpid),
        SCMP_SYS(getppid),
        SCMP_SYS(getrandom),
        SCMP_SYS(getresgid),
        SCMP_SYS(getresuid),
        SCMP_SYS(getrlimit),
        SCMP_SYS(getrusage),
        SCMP_SYS(getuid),
        SCMP_SYS(sysinfo),
        SCMP_SYS(uname),
};

#define OWN_PID 0x7fc0de01 /* as a rule's value: sandbox.c puts the pid in its place; no pid is as large */

/* A call that depends on one argument: permitted if (argument & mask) == value. Several rules for a call add up. */
static const struct rule {
        int call;
        unsigned argument;
        uint64_t mask;
        uint64_t value;
} conditional[] = {
        /* memory is writable or executable: not both, and not one after the other */
        {SCMP_SYS(mmap), 2, PROT_EXEC, 0},
        {SCMP_SYS(mmap), 2, PROT_WRITE, 0},
        {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
        /* threads; and of processes only what fork() makes, which cannot execute anything */
        {SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD},
        {SCMP_SYS(clone), 0, UINT64_MAX, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD},
        /* abort() */
        {SCMP_SYS(tgkill), 0, UINT32_MAX, OWN_PID},
        /* an end that waits for no driver (life/stop.c, stop_leave()) */
        {SCMP_SYS(kill), 0, UINT32_MAX, OWN_PID},
        /* limits are read, not set */
        {SCMP_SYS(prlimit64), 2, UINT64_MAX, 0},
        {SCMP_SYS(prctl), 0, UINT32_MAX, PR_SET_NAME},
        /* the log and the keeper */
        {SCMP_SYS(socket), 0, UINT32_MAX, AF_UNIX},
        {SCMP_SYS(socketpair), 0, UINT32_MAX, AF_UNIX},
        /* the driver: its type byte, whatever the number; UVM's numbers have none */
        {SCMP_SYS(ioctl), 1, 0xff00, 'F' << 8},
        {SCMP_SYS(ioctl), 1, UINT32_MAX, UVM_INITIALIZE},
        {SCMP_SYS(ioctl), 1, UINT32_MAX, UVM_DEINITIALIZE},
        {SCMP_SYS(ioctl), 1, UINT32_MAX, UVM_REGISTER_GPU},
        {SCMP_SYS(ioctl), 1, UINT32_MAX, UVM_UNREGISTER_GPU},
        /* which PID namespace a client is in */
        {SCMP_SYS(ioctl), 1, UINT32_MAX, PIDFD_GET_PID_NAMESPACE},
};

/*
 * What a keeper and libc do: descriptors come, are sent, and are closed on threads. It connects nothing. At its end it
 * removes what a killed daemon left; opening is in the other table.
 */
static const int keeper_permitted[] = {
        /* memory */
        SCMP_SYS(brk),
        SCMP_SYS(madvise),
        SCMP_SYS(mremap),
        SCMP_SYS(munmap),
        /* threads */
        SCMP_SYS(clone3),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(futex),
        SCMP_SYS(gettid),
        SCMP_SYS(membarrier),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(rseq),
        SCMP_SYS(sched_getaffinity),
        SCMP_SYS(sched_yield),
        SCMP_SYS(set_robust_list),
        /* signals */
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn),
        /* descriptors; sendto() is the log's */
        SCMP_SYS(close),
        SCMP_SYS(fstat),
        SCMP_SYS(getsockopt),
        SCMP_SYS(poll),
        SCMP_SYS(ppoll),
        SCMP_SYS(read),
        SCMP_SYS(recvmsg),
        SCMP_SYS(sendmsg),
        SCMP_SYS(sendto),
        SCMP_SYS(write),
        /* the lock on the daemon's pid file; its socket and pid file */
        SCMP_SYS(fcntl),
        SCMP_SYS(lstat),
        SCMP_SYS(newfstatat),
        SCMP_SYS(unlink),
        SCMP_SYS(unlinkat),
        /* the time, where the vDSO does not tell it */
        SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_nanosleep),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(time),
        /* what we are */
        SCMP_SYS(geteuid),
        SCMP_SYS(getpid),
        SCMP_SYS(getrandom),
};

static const struct rule keeper_conditional[] = {
        {SCMP_SYS(mmap), 2, PROT_EXEC, 0},
        {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
        {SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD},
        {SCMP_SYS(tgkill), 0, UINT32_MAX, OWN_PID},
        /* a file that is there, to have it locked: nothing is read, nothing made */
        {SCMP_SYS(open), 1, O_ACCMODE | O_CREAT, O_WRONLY},
        {SCMP_SYS(openat), 2, O_ACCMODE | O_CREAT, O_WRONLY},
};

/* ---- the filters ---- */

static void filter_done(scmp_filter_ctx *filter) {
        if (*filter)
                seccomp_release(*filter);
}

/* comparison may be NULL. On POWER all families of socket() become one rule about socketcall(): that is no error. */
static int add_rule(scmp_filter_ctx filter, uint32_t action, int call, const struct scmp_arg_cmp *comparison) {
        int r = seccomp_rule_add_array(filter, action, call, comparison ? 1 : 0, comparison);

        return r == -EEXIST ? 0 : r;
}

static int add_calls(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = add_rule(filter, action, calls[i], NULL);
        return r;
}

static int add_rules(scmp_filter_ctx filter, const struct rule *rules, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++) {
                const struct rule *rule = &rules[i];
                const struct scmp_arg_cmp comparison = {
                        .arg = rule->argument,
                        .op = SCMP_CMP_MASKED_EQ,
                        .datum_a = rule->mask,
                        .datum_b = rule->value,
                };

                r = add_rule(filter, SCMP_ACT_ALLOW, rule->call, &comparison);
        }
        return r;
}

/* Sockets of every family but AF_UNIX and AF_NETLINK: an argument can be in one comparison of a rule only. */
static int add_network(scmp_filter_ctx filter) {
        const struct scmp_arg_cmp beyond = SCMP_A0(SCMP_CMP_GT, AF_NETLINK);
        int r = 0;

        for (uint64_t family = AF_UNIX + 1; family < AF_NETLINK && r == 0; family++)
                r = add_rule(filter, REFUSED, SCMP_SYS(socket), &SCMP_A0(SCMP_CMP_EQ, family));
        return r < 0 ? r : add_rule(filter, REFUSED, SCMP_SYS(socket), &beyond);
}

static int add_forbidden(scmp_filter_ctx filter) {
        int r = add_calls(filter, REFUSED, forbidden, ARRAY_SIZE(forbidden));

        return r < 0 ? r : add_network(filter);
}

static int add_permitted(scmp_filter_ctx filter) {
        int r = add_forbidden(filter);

        if (r == 0)
                r = add_calls(filter, SCMP_ACT_ALLOW, permitted, ARRAY_SIZE(permitted));
        return r < 0 ? r : add_rules(filter, conditional, ARRAY_SIZE(conditional));
}

static int add_keeper(scmp_filter_ctx filter) {
        int r = add_calls(filter, SCMP_ACT_ALLOW, keeper_permitted, ARRAY_SIZE(keeper_permitted));

        return r < 0 ? r : add_rules(filter, keeper_conditional, ARRAY_SIZE(keeper_conditional));
}

/*
 * clone3() hides its flags in memory, where no filter sees whether a process is made or a thread. As it is not there,
 * libc falls back to clone(). It tries again for every thread, so this filter is apart: it logs nothing.
 */
static int add_clone3(scmp_filter_ctx filter) {
        return add_rule(filter, UNKNOWN, SCMP_SYS(clone3), NULL);
}

static const struct recipe {
        const char *name;
        uint32_t otherwise; /* what is not in the tables */
        int (*fill)(scmp_filter_ctx filter);
} recipes[] = {
        {"only_permitted", UNKNOWN, add_permitted},
        {"not_forbidden", SCMP_ACT_ALLOW, add_forbidden},
        {"without_clone3", SCMP_ACT_ALLOW, add_clone3},
        {"keeper_permitted_only", UNKNOWN, add_keeper},
};

/* ---- as C ---- */

static int use_architecture(scmp_filter_ctx filter, uint32_t architecture) {
        int r;

        /* Calls of the 32-bit and x32 kind, which would go round numbers: nobody here makes them. */
        r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, UNKNOWN);
        if (r < 0 || architecture == seccomp_arch_native())
                return r;
        r = seccomp_arch_add(filter, architecture);
        return r < 0 ? r : seccomp_arch_remove(filter, seccomp_arch_native());
}

static int print_instructions(int fd, const char *name) {
        struct sock_filter instruction;
        ssize_t size;

        printf("static struct sock_filter %s[] = {\n", name);
        while ((size = read(fd, &instruction, sizeof(instruction))) == sizeof(instruction))
                printf("        {0x%02x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt, instruction.jf,
                       instruction.k);
        printf("};\n\n");
        return size == 0 ? 0 : -EIO;
}

static int print_filter(scmp_filter_ctx filter, const char *name) {
        FILE *exported = tmpfile();
        int r;

        if (!exported)
                return -errno;
        r = seccomp_export_bpf(filter, fileno(exported));
        if (r == 0) {
                rewind(exported);
                r = print_instructions(fileno(exported), name);
        }
        (void)fclose(exported);
        return r;
}

static int print_recipe(const struct recipe *recipe, uint32_t architecture) {
        CLEANUP(filter_done) scmp_filter_ctx filter = seccomp_init(recipe->otherwise);
        int r;

        if (!filter)
                return -ENOMEM;
        r = use_architecture(filter, architecture);
        if (r == 0)
                r = recipe->fill(filter);
        return r < 0 ? r : print_filter(filter, recipe->name);
}

int main(int argc, char *argv[]) {
        uint32_t architecture = argc == 2 ? seccomp_arch_resolve_name(argv[1]) : 0;
        int r = 0;

        if (architecture == 0) {
                fprintf(stderr,
                        "sandbox-filters: libseccomp knows no architecture '%s'; build with -Dsandbox=disabled\n",
                        argc == 2 ? argv[1] : "");
                return EXIT_FAILURE;
        }
        printf("/* Made by filters.c. */\n\n#define OWN_PID 0x%xU\n\n", OWN_PID);
        for (size_t i = 0; i < ARRAY_SIZE(recipes) && r == 0; i++)
                r = print_recipe(&recipes[i], architecture);
        if (r == 0 && fflush(stdout) != 0)
                r = -errno;
        if (r < 0) {
                fprintf(stderr, "sandbox-filters: cannot make the filters: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
