/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The statistics of holdfast bench, and their positions on its axis. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/cleanup.h"
#include "cli/bench/axis.h"
#include "cli/bench/statistics.h"

/* ---- statistics ---- */

static void assert_near(double value, double wanted) {
        if (fabs(value - wanted) > 1e-9 * (1 + fabs(wanted)))
                fail_msg("%.12g is not %.12g", value, wanted);
}

static void statistics_follow_their_definitions(void **state) {
        static const struct {
                uint64_t values[8];
                size_t n;
                struct statistics wanted;
        } rows[] = {
                {{0}, 0, {0}},
                {{7}, 1, {1, 7, 7, 7, 0}},
                {{9, 5}, 2, {2, 7, 5, 9, 2}},
                {{3, 1, 2}, 3, {3, 2, 1, 3, 1}},
                {{4, 1, 3, 2}, 4, {4, 2.5, 1, 4, 1}},
                {{10, 10, 10, 10, 10}, 5, {5, 10, 10, 10, 0}},
                {{1, 1, 2, 2, 4, 6, 9}, 7, {7, 2, 1, 9, 1}}, /* the usual example */
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct statistics found;

                assert_int_equal(statistics_of(rows[i].values, rows[i].n, &found), 0);
                assert_int_equal(found.n, rows[i].wanted.n);
                assert_near(found.median, rows[i].wanted.median);
                assert_near(found.min, rows[i].wanted.min);
                assert_near(found.max, rows[i].wanted.max);
                assert_near(found.mad, rows[i].wanted.mad);
        }
}

static void one_outlier_changes_only_the_maximum(void **state) {
        const uint64_t values[] = {100, 101, 102, 103, UINT64_MAX};
        struct statistics found;

        assert_int_equal(statistics_of(values, ARRAY_SIZE(values), &found), 0);
        assert_near(found.median, 102);
        assert_near(found.mad, 1);
        assert_near(found.max, (double)UINT64_MAX);
}

static void the_callers_values_stay_the_same(void **state) {
        uint64_t values[] = {3, 1, 2};
        struct statistics found;

        assert_int_equal(statistics_of(values, ARRAY_SIZE(values), &found), 0);
        assert_true(values[0] == 3 && values[1] == 1 && values[2] == 2);
}

/* ---- the axis ---- */

static void an_axis_extends_to_the_powers_of_ten_around_the_values(void **state) {
        static const struct {
                uint64_t min_nsec, max_nsec;
                int first, last;
        } rows[] = {
                {150000, 1500000000, 5, 10}, {1, 1, 0, 1},      {0, 0, 0, 1},
                {1000, 1000, 3, 4},          {999, 1001, 2, 4}, {1000, 1000000, 3, 6},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct axis axis = axis_for(rows[i].min_nsec, rows[i].max_nsec);

                assert_int_equal(axis.first, rows[i].first);
                assert_int_equal(axis.last, rows[i].last);
        }
}

static void positions_are_logarithmic_and_within_the_axis(void **state) {
        const struct axis axis = {.first = 3, .last = 6};

        assert_near(axis_position(&axis, 1e3), 0);
        assert_near(axis_position(&axis, 1e4), 1.0 / 3);
        assert_near(axis_position(&axis, 1e6), 1);
        assert_near(axis_position(&axis, 0), 0);
        assert_near(axis_position(&axis, 1e12), 1);
}

static void powers_of_ten_are_labelled_with_their_usual_units(void **state) {
        static const char *const names[] = {"1 ns",  "10 ns",  "100 ns", "1 us", "10 us", "100 us", "1 ms",
                                            "10 ms", "100 ms", "1 s",    "10 s", "100 s", "1000 s"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                char text[16];

                assert_string_equal(axis_label((int)i, text, sizeof(text)), names[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(statistics_follow_their_definitions),
                cmocka_unit_test(one_outlier_changes_only_the_maximum),
                cmocka_unit_test(the_callers_values_stay_the_same),
                cmocka_unit_test(an_axis_extends_to_the_powers_of_ten_around_the_values),
                cmocka_unit_test(positions_are_logarithmic_and_within_the_axis),
                cmocka_unit_test(powers_of_ten_are_labelled_with_their_usual_units),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
