/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Roots: which of them mean that devices are simulated. */

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/cleanup.h"

static void devices_are_simulated_below_a_root_and_where_the_environment_names_the_systems_own(void **state) {
        static const struct {
                const char *variable, *root;
                bool simulated;
        } cases[] = {
                {NULL, NULL, false}, {NULL, "", false},   {NULL, "/srv/node", true},
                {"/", NULL, true},   {"/", "", true},     {"/", "/srv/node", true},
                {"", "", false},     {"/srv", "", false}, /* what it names was given as root, or overridden by "/" */
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (cases[i].variable)
                        assert_int_equal(setenv("HOLDFAST_ROOT", cases[i].variable, 1), 0);
                else
                        assert_int_equal(unsetenv("HOLDFAST_ROOT"), 0);
                assert_int_equal(file_root_is_simulated(cases[i].root), cases[i].simulated);
        }
        assert_int_equal(unsetenv("HOLDFAST_ROOT"), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(devices_are_simulated_below_a_root_and_where_the_environment_names_the_systems_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
