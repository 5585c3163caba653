/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Running a program: shells that fail, print too much, and hang. */

#include "base/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static int run(const char *script, uint64_t timeout_usec, char output[static 64]) {
        const char *const arguments[] = {"/bin/sh", "-c", script, NULL};

        return program_run(arguments, timeout_usec, output, 64);
}

static void a_program_inherits_no_descriptors_and_no_environment(void **state) {
        char output[64];

        for (int fd = 3; fd < 1024; fd++) /* inherited by this test itself */
                (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        assert_int_equal(setenv("HOLDFAST_TEST_SECRET", "1", 1), 0);
        assert_int_equal(
                run("echo ${HOLDFAST_TEST_SECRET:-none} $PATH; ls /proc/self/fd | wc -l", 10 * USEC_PER_SEC, output),
                0);
        /* Four descriptors: the standard ones, and the folder that ls reads. */
        assert_string_equal(output, "none /usr/sbin:/usr/bin:/sbin:/bin\n4\n");
}

static void a_failing_program_is_an_error_and_its_output_is_kept(void **state) {
        char output[64];

        assert_int_equal(run("echo no such device >&2; exit 3", 10 * USEC_PER_SEC, output), -EIO);
        assert_string_equal(output, "no such device\n");
        assert_int_equal(run("kill -9 $$", 10 * USEC_PER_SEC, output), -EIO);
        assert_string_equal(output, "");
}

static void long_output_is_cut(void **state) {
        char output[64];

        assert_int_equal(
                run("i=0; while [ $i -lt 20000 ]; do echo 123456789; i=$((i + 1)); done", 60 * USEC_PER_SEC, output),
                0);
        assert_int_equal(strlen(output), sizeof(output) - 1);
}

static void a_hanging_program_is_killed(void **state) {
        char output[64];
        pid_t child;

        assert_int_equal(run("echo $$; exec sleep 1000", 200 * USEC_PER_MSEC, output), -ETIMEDOUT);
        child = (pid_t)strtol(output, NULL, 10);
        assert_true(child > 0);
        assert_int_equal(kill(child, 0), -1); /* and reaped */
        assert_int_equal(errno, ESRCH);
}

static void a_missing_program_is_an_error(void **state) {
        static const char *const arguments[] = {"/nowhere/nvidia-modprobe", NULL};
        char output[64];
        int r = program_run(arguments, 10 * USEC_PER_SEC, output, sizeof(output));

        assert_true(r == -ENOENT || r == -EIO); /* EIO in valgrind: there the child, a copy, exits with 127 */
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_program_inherits_no_descriptors_and_no_environment),
                cmocka_unit_test(a_failing_program_is_an_error_and_its_output_is_kept),
                cmocka_unit_test(long_output_is_cut),
                cmocka_unit_test(a_hanging_program_is_killed),
                cmocka_unit_test(a_missing_program_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
