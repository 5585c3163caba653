/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What may be expected below a root, and at the system's own paths. */

#include "base/locations.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void only_a_real_driver_has_device_nodes_and_kernel_events(void **state) {
        static const struct {
                const char *root, *expected;
                bool at_real_paths, simulated, has_nvml;
        } cases[] = {
                {NULL, "", false, false, true},
                {"", "", false, false, true},
                {"/", "", false, false, true},
                {"/srv/node", "/srv/node", false, true, false},
                {NULL, "", true, true, true},
                {"/", "", true, true, true},
                {"/srv/node", "/srv/node", true, true, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct locations locations = locations_of(cases[i].root, cases[i].at_real_paths);

                assert_string_equal(locations.root, cases[i].expected);
                assert_string_equal(locations.above_run, cases[i].expected[0] != '\0' ? cases[i].expected : "/var");
                assert_int_equal(locations.simulated, cases[i].simulated);
                assert_int_equal(locations.nodes_are_devices, !cases[i].simulated);
                assert_int_equal(locations.kernel_tells, !cases[i].simulated);
                assert_int_equal(locations.has_cuda, !cases[i].simulated);
                assert_int_equal(locations.has_nvml, cases[i].has_nvml);
        }
}

static void a_path_below_a_root_that_is_too_long_is_refused(void **state) {
        const struct locations locations = locations_of("/srv/node", false);
        char path[PATH_MAX], long_path[PATH_MAX] = {[0 ... PATH_MAX - 2] = '/'};

        assert_int_equal(locations_path(path, &locations, "/dev/kmsg"), 0);
        assert_string_equal(path, "/srv/node/dev/kmsg");
        assert_true(locations_path(path, &locations, long_path) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_path_below_a_root_that_is_too_long_is_refused),
                cmocka_unit_test(only_a_real_driver_has_device_nodes_and_kernel_events),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
