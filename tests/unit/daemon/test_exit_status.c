/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which exit status an error gives: systemd does not start the daemon again after a permanent one. */

#include "daemon/process/exit_status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void an_error_that_may_be_temporary_never_gives_a_permanent_status(void **state) {
        static const int errors[] = {EAGAIN, EINTR, EMFILE, ENFILE, ENOMEM};

        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
                assert_int_equal(exit_status_of(-errors[i], EXIT_NOT_CONFIGURED), EXIT_FAILURE);
}

static void a_missing_permission_has_its_own_status_wherever_it_occurs(void **state) {
        assert_int_equal(exit_status_of(-EACCES, EXIT_NOT_CONFIGURED), EXIT_NOT_PERMITTED);
        assert_int_equal(exit_status_of(-EPERM, EXIT_FAILURE), EXIT_NOT_PERMITTED);
        assert_int_equal(exit_status_of(-EROFS, EXIT_FAILURE), EXIT_NOT_PERMITTED);
}

static void all_other_errors_give_the_status_of_what_has_failed(void **state) {
        assert_int_equal(exit_status_of(-EINVAL, EXIT_NOT_CONFIGURED), EXIT_NOT_CONFIGURED);
        assert_int_equal(exit_status_of(-ENOENT, EXIT_FAILURE), EXIT_FAILURE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_error_that_may_be_temporary_never_gives_a_permanent_status),
                cmocka_unit_test(a_missing_permission_has_its_own_status_wherever_it_occurs),
                cmocka_unit_test(all_other_errors_give_the_status_of_what_has_failed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
