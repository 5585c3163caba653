/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Standard descriptors that are closed or cannot be written to. Each case runs in its own child. */

#include "base/standard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_null(int fd) {
        struct stat status;

        return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

static bool next_is_no_standard_one(void) {
        return dup(STDERR_FILENO) > STDERR_FILENO;
}

/* Returns what check() returns in a child. The child prints nothing: its standard descriptors are under test. */
static bool in_child(bool (*check)(void)) {
        pid_t child = fork();
        int status;

        if (child == 0)
                _exit(check() ? 0 : 1);
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool close_all(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                (void)close(fd);
        standard_open();
        return is_null(STDIN_FILENO) && is_null(STDOUT_FILENO) && is_null(STDERR_FILENO) && next_is_no_standard_one();
}

static void closed_standard_descriptors_are_opened_as_dev_null(void **state) {
        assert_true(in_child(close_all));
}

static bool close_one(void) {
        int ends[2];

        if (pipe(ends) < 0 || dup2(ends[1], STDERR_FILENO) < 0 || dup2(ends[0], STDIN_FILENO) < 0)
                return false;
        (void)close(STDOUT_FILENO);
        standard_open();
        return is_null(STDOUT_FILENO) && write(STDERR_FILENO, "x", 1) == 1 && !is_null(STDIN_FILENO) &&
               next_is_no_standard_one();
}

static void open_standard_descriptors_stay_as_they_are(void **state) {
        assert_true(in_child(close_one));
}

static bool close_all_without_dev_null(void) {
        char folder[] = "/tmp/test-standard.XXXXXX";

        if (!mkdtemp(folder) || chdir(folder) < 0 || rmdir(folder) < 0 || chroot(".") < 0)
                return false; /* the root is a removed folder, in which nothing can be opened */
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                (void)close(fd);
        standard_open();
        return write(STDOUT_FILENO, "x", 1) < 0 && errno == EBADF && next_is_no_standard_one();
}

static void without_dev_null_no_other_file_becomes_a_standard_descriptor(void **state) {
        if (geteuid() != 0) {
                print_message("root is missing: chroot() requires it\n");
                skip();
        }
        assert_true(in_child(close_all_without_dev_null));
}

/* Writes to out_fd and closes it as standard output. True if the result and the text on standard error are as given. */
static bool loses(int out_fd, int expected, const char *said) {
        char text[256] = "";
        int ends[2];

        (void)signal(SIGPIPE, SIG_IGN);
        if (pipe(ends) < 0 || dup2(out_fd, STDOUT_FILENO) < 0 || dup2(ends[1], STDERR_FILENO) < 0)
                return false;
        (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
        (void)puts("an answer");
        if (standard_close_output("prog") != expected)
                return false;
        (void)!read(ends[0], text, sizeof(text) - 1);
        return strcmp(text, said) == 0;
}

static bool fill_disk(void) {
        return loses(open("/dev/full", O_WRONLY), -ENOSPC, "prog: cannot write the output: No space left on device\n");
}

static bool lose_reader(void) {
        int ends[2];

        if (pipe(ends) < 0)
                return false;
        (void)close(ends[0]);
        return loses(ends[1], -EPIPE, "");
}

static bool lose_nothing(void) {
        return loses(open("/dev/null", O_WRONLY), 0, "");
}

static void lost_output_is_reported(void **state) {
        assert_true(in_child(fill_disk));
        assert_true(in_child(lose_reader));
        assert_true(in_child(lose_nothing));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(closed_standard_descriptors_are_opened_as_dev_null),
                cmocka_unit_test(lost_output_is_reported),
                cmocka_unit_test(open_standard_descriptors_stay_as_they_are),
                cmocka_unit_test(without_dev_null_no_other_file_becomes_a_standard_descriptor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
