/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/inherited.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"

static const char *our_pid(void) {
        static char text[16];

        (void)text_format(text, sizeof(text), "%d", (int)getpid());
        return text;
}

static void descriptors_for_this_process_are_counted(void **state) {
        inherited_open(our_pid(), "3", NULL);
        assert_int_equal(inherited_count(), 3);
        inherited_done();
        assert_int_equal(inherited_count(), 0);
}

static void descriptors_for_other_processes_and_invalid_numbers_are_ignored(void **state) {
        static const char *const counts[] = {"", "-1", "1x", " 1", "0x1", "1025", "99999999999999999999", NULL};
        static const char *const pids[] = {"", "1", "0", "-1", "99999999999", NULL};

        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                inherited_open(our_pid(), counts[i], "a");
                assert_int_equal(inherited_count(), 0);
                inherited_done();
        }
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
                inherited_open(pids[i], "1", "a");
                assert_int_equal(inherited_count(), 0);
                inherited_done();
        }
}

static void assert_name(unsigned i, const char *expected) {
        char name[8];

        memset(name, 'x', sizeof(name));
        assert_int_equal(inherited_take(i, name, sizeof(name)), 3 + i);
        assert_string_equal(name, expected);
}

static void each_descriptor_has_the_name_at_its_position(void **state) {
        inherited_open(our_pid(), "6", "first::third:of8char:too long:");
        assert_name(0, "first");
        assert_name(1, "");
        assert_name(2, "third");
        assert_name(3, "of8char");
        assert_name(4, "");
        assert_name(5, "");
        inherited_done();
}

static void descriptors_without_a_name_have_an_empty_one(void **state) {
        static const char *const names[] = {NULL, "", "one", "one:"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                inherited_open(our_pid(), "4", names[i]);
                assert_name(0, i < 2 ? "" : "one");
                assert_name(1, "");
                assert_name(3, "");
                inherited_done();
        }
}

static void a_taken_descriptor_is_closed_on_exec(void **state) {
        char name[8];
        int fd, saved = fcntl(3, F_DUPFD_CLOEXEC, 10); /* the test's own 3, if it has one */

        fd = open("/dev/null", O_RDWR);
        assert_true(dup2(fd, 3) == 3);
        assert_int_equal(fcntl(3, F_GETFD), 0);
        inherited_open(our_pid(), "1", NULL);
        assert_int_equal(inherited_take(0, name, sizeof(name)), 3);
        assert_int_equal(fcntl(3, F_GETFD), FD_CLOEXEC);
        inherited_done();
        if (fd != 3)
                (void)close(fd);
        if (saved < 0)
                (void)close(3);
        else
                (void)dup2(saved, 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(descriptors_for_this_process_are_counted),
                cmocka_unit_test(descriptors_for_other_processes_and_invalid_numbers_are_ignored),
                cmocka_unit_test(each_descriptor_has_the_name_at_its_position),
                cmocka_unit_test(descriptors_without_a_name_have_an_empty_one),
                cmocka_unit_test(a_taken_descriptor_is_closed_on_exec),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
