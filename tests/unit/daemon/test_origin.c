/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which PID namespace a process is in: parsing files of /proc, hostile ones too, and looking at real processes. */

#include "daemon/serve/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

/* ---- NSpid ---- */

static void the_depth_is_the_count_of_numbers_in_nspid(void **state) {
        static const struct {
                const char *text;
                int result;
                unsigned depth;
        } cases[] = {
                {"Name:\tsh\nPid:\t7\nNSpid:\t7\nNSpgid:\t7\t1\n", 0, 1},
                {"NSpid:\t4711\t12\t1\n", 0, 3},
                {"pos:\t0\nflags:\t02000002\nPid:\t7\nNSpid:\t7\t1", 0, 2}, /* fdinfo ends without a newline */
                {"Pid:\t-1\nNSpid:\t-1\n", -ESRCH, 0},
                {"Pid:\t0\nNSpid:\t0\n", -ENXIO, 0},
                {"", -EINVAL, 0},
                {"NSpid:", -EINVAL, 0},
                {"NSpid:\t\n1\n", -EINVAL, 0},
                {"xNSpid:\t1\n", -EINVAL, 0},
                {"NSpid:\t1\tx\n", -EINVAL, 0},
                {"NSpid:\t1\t99999999999\n", -EINVAL, 0},
                {"NSpid:\t1\t111111111111111111111111111111\n", -EINVAL, 0},
                {"NSpid:\t1 2;3\n", -EINVAL, 0},
                {"NSpid:\t-2\n", -EINVAL, 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                unsigned depth = 0;
                int r = origin_parse_depth(cases[i].text, &depth);

                if (r != cases[i].result || depth != cases[i].depth)
                        fail_msg("%s: result %d, depth %u", cases[i].text, r, depth);
        }
}

/* As if the kernel did not escape a newline in a name. */
static void a_process_name_that_looks_like_the_nspid_line_is_ignored(void **state) {
        unsigned depth;

        assert_int_equal(origin_parse_depth("Name:\tx\nNSpid:\t1\nState:\tR\nNSpid:\t900\t1\n", &depth), 0);
        assert_int_equal(depth, 2);
        assert_int_equal(origin_parse_depth("Name:\tx\\nNSpid:\t1\nState:\tR\nNSpid:\t900\t1\n", &depth), 0);
        assert_int_equal(depth, 2);
}

/* ---- the start time ---- */

#define AFTER_NAME " S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 "

static void the_start_time_is_field_22_whatever_the_process_is_called(void **state) {
        static const char *const names[] = {
                "7 (sh)",
                "7 (a b)",
                "7 (()",
                "7 ())",
                "7 ((((((((((((((()",
                "7 (\n)",
                "7 (x\n8 (y)",
                "7 ()",
                "7 () S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 5)",
                "7 (\xff\x80\t)",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                char text[512];
                uint64_t ticks = 0;

                (void)snprintf(text, sizeof(text), "%s" AFTER_NAME "123456 2600960 211 0 0\n", names[i]);
                if (origin_parse_start(text, &ticks) != 0 || ticks != 123456)
                        fail_msg("%s: start %llu", text, (unsigned long long)ticks);
        }
}

static void invalid_stat_files_are_refused(void **state) {
        static const char *const texts[] = {
                "",
                "7 sh S 1",
                "7 (sh)",
                "7 (sh)\n",
                "7 (sh" AFTER_NAME "123456 1",
                "7 (sh) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1\n0 123456 1",
                "7 (sh)" AFTER_NAME,
                "7 (sh)" AFTER_NAME "-1 0",
                "7 (sh)" AFTER_NAME "12x 0",
                "7 (sh)" AFTER_NAME "18446744073709551615 0", /* overflows when converted to microseconds */
                "7 (sh)" AFTER_NAME "99999999999999999999999999999999 0",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                uint64_t ticks;

                if (origin_parse_start(texts[i], &ticks) != -EINVAL)
                        fail_msg("not refused: %s", texts[i]);
        }
}

/* ---- real processes ---- */

struct child {
        pid_t pid;
        int pidfd;
};

/* Starts a process that only waits. Flags, such as CLONE_NEWPID, require root; otherwise the test is skipped. */
static struct child start(unsigned long flags) {
        struct child child;

        if (flags && geteuid() != 0) {
                print_message("root is missing: a new PID namespace requires it\n");
                skip();
        }
        child.pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
        if (child.pid == 0)
                for (;;)
                        (void)pause();
        assert_true(child.pid > 0);
        child.pidfd = (int)syscall(SYS_pidfd_open, child.pid, 0);
        assert_true(child.pidfd >= 0);
        return child;
}

static void end(struct child *child) {
        assert_int_equal(kill(child->pid, SIGKILL), 0);
        assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
}

static void a_child_in_our_pid_namespace_is_beside_us_until_it_ends(void **state) {
        struct child child = start(0);
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME);

        assert_int_equal(origin_of_pidfd(child.pidfd, child.pid, ORIGIN_CAPABLE).origin, ORIGIN_BESIDE);
        assert_int_equal(origin_of_pid(child.pid, now_usec, ORIGIN_CAPABLE).origin, ORIGIN_BESIDE);
        end(&child);
        assert_int_equal(origin_of_pidfd(child.pidfd, child.pid, ORIGIN_CAPABLE).origin, ORIGIN_GONE);
        assert_int_equal(origin_of_pid(child.pid, now_usec, ORIGIN_CAPABLE).origin, ORIGIN_GONE);
        (void)fd_close(child.pidfd);
}

/* Before Linux 6.11 the daemon cannot find the namespace's inode, and uses 1. */
static uint64_t namespace_of(int pidfd, pid_t pid) {
        int fd = ioctl(pidfd, PIDFD_GET_PID_NAMESPACE, 0);
        struct stat status;
        char path[64];

        if (fd < 0)
                return 1;
        (void)close(fd);
        (void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
        assert_int_equal(stat(path, &status), 0);
        return status.st_ino;
}

static void a_child_in_its_own_pid_namespace_is_elsewhere(void **state) {
        struct child child = start(CLONE_NEWPID);

        assert_int_equal(origin_of_pidfd(child.pidfd, child.pid, ORIGIN_CAPABLE).origin, ORIGIN_ELSEWHERE);
        assert_int_equal(origin_of_pid(child.pid, clock_usec(CLOCK_BOOTTIME), ORIGIN_CAPABLE).origin, ORIGIN_ELSEWHERE);
        assert_int_equal(origin_of_pidfd(child.pidfd, child.pid, ORIGIN_WHERE).pid_namespace,
                         namespace_of(child.pidfd, child.pid));
        assert_int_equal(origin_of_pid(child.pid, 0, ORIGIN_WHERE).pid_namespace,
                         origin_of_pidfd(child.pidfd, child.pid, ORIGIN_WHERE).pid_namespace);
        end(&child);
        (void)fd_close(child.pidfd);
}

static void the_pid_namespace_of_a_child_beside_us_is_ours(void **state) {
        struct child child = start(0);

        assert_int_equal(origin_of_pidfd(child.pidfd, child.pid, ORIGIN_WHERE).pid_namespace, 0);
        assert_int_equal(origin_of_pid(child.pid, 0, ORIGIN_WHERE).pid_namespace, 0);
        end(&child);
        (void)fd_close(child.pidfd);
}

static void the_capability_is_read_from_a_capability_set(void **state) {
        bool capable = false;

        assert_int_equal(origin_parse_capable("CapBnd:\t000001ffffffffff\n", "CapBnd:", &capable), 0);
        assert_true(capable);
        assert_int_equal(origin_parse_capable("CapBnd:\t00000000a80425fb\n", "CapBnd:", &capable), 0); /* of Docker */
        assert_false(capable);
        assert_int_equal(origin_parse_capable("CapBnd:\n", "CapBnd:", &capable), -EINVAL);
        assert_int_equal(origin_parse_capable("CapBnd:\tx\n", "CapBnd:", &capable), -EINVAL);
        assert_int_equal(origin_parse_capable("CapEff:\t0\n", "CapBnd:", &capable), -EINVAL);
}

static void a_process_that_started_after_the_connection_is_not_the_peer(void **state) {
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME);

        if (geteuid() != 0) {
                print_message("root is missing: only root compares start times\n");
                skip();
        }
        assert_int_equal(origin_of_pid(getpid(), now_usec, ORIGIN_CAPABLE).origin, ORIGIN_BESIDE);
        assert_int_equal(origin_of_pid(getpid(), 1, ORIGIN_CAPABLE).origin,
                         ORIGIN_GONE); /* a microsecond after the boot */
}

static void a_descriptor_that_is_not_a_pidfd_has_an_unknown_origin(void **state) {
        CLEANUP(fd_done) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_int_equal(origin_of_pidfd(fd, 1, ORIGIN_WHERE).origin, ORIGIN_UNKNOWN);
        assert_int_equal(origin_of_pidfd(1 << 20, 1, ORIGIN_WHERE).origin, ORIGIN_UNKNOWN);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_depth_is_the_count_of_numbers_in_nspid),
                cmocka_unit_test(a_process_name_that_looks_like_the_nspid_line_is_ignored),
                cmocka_unit_test(the_start_time_is_field_22_whatever_the_process_is_called),
                cmocka_unit_test(invalid_stat_files_are_refused),
                cmocka_unit_test(a_child_in_our_pid_namespace_is_beside_us_until_it_ends),
                cmocka_unit_test(a_child_in_its_own_pid_namespace_is_elsewhere),
                cmocka_unit_test(the_pid_namespace_of_a_child_beside_us_is_ours),
                cmocka_unit_test(the_capability_is_read_from_a_capability_set),
                cmocka_unit_test(a_process_that_started_after_the_connection_is_not_the_peer),
                cmocka_unit_test(a_descriptor_that_is_not_a_pidfd_has_an_unknown_origin),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
