/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The statistics of holdfast bench, and the plot of its times. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/bench/bench.h"

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

/* ---- the plot ---- */

/* Prints the plot of two series, 40 columns wide, of which 28 are the axis. */
static char *plot_of(uint64_t *cold, size_t n_cold, uint64_t *held, size_t n_held) {
        struct snapshot_gpu row = {.index = 3};
        struct bench_gpu gpu = {.gpu = &row, .series[BENCH_OPEN] = {{cold, n_cold}, {held, n_held}}};
        const struct bench bench = {.gpus = &gpu, .n_gpus = 1};
        const struct report_style style = {.width = 40};
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        for (size_t state = 0; state < BENCH_STATES; state++) {
                struct bench_series *series = &gpu.series[BENCH_OPEN][state];

                assert_int_equal(statistics_of(series->nsec, series->n, &series->statistics), 0);
        }
        bench_print_plot(&bench, &style, stream);
        (void)fclose(stream);
        return text;
}

static void assert_plot(uint64_t *cold, size_t n_cold, uint64_t *held, size_t n_held, const char *wanted) {
        CLEANUP(free_ptr) char *text = plot_of(cold, n_cold, held, n_held);

        assert_string_equal(text, wanted);
}

static void times_stand_at_their_logarithm_between_two_powers_of_ten(void **state) {
        uint64_t cold[] = {1000000000, 100000000, 100000000}, held[] = {1000000};

        assert_plot(cold, 3, held, 1,
                    "\nopen, logarithmic (o each time, # median)\n"
                    "GPU 3 cold                    #        o\n"
                    "GPU 3 held  #\n"
                    "            +--------+--------+--------+\n"
                    "            1 ms     10 ms    100 ms 1 s\n");
}

static void an_axis_is_never_without_length(void **state) {
        uint64_t one[] = {0}, many[] = {2000000000000};

        assert_plot(one, 1, NULL, 0,
                    "\nopen, logarithmic (o each time, # median)\n"
                    "GPU 3 cold  #\n"
                    "            +--------------------------+\n"
                    "            1 ns                   10 ns\n");
        assert_plot(NULL, 0, many, 1,
                    "\nopen, logarithmic (o each time, # median)\n"
                    "GPU 3 held          #\n"
                    "            +--------------------------+\n"
                    "            1000 s               10000 s\n");
}

static void without_times_there_is_no_plot(void **state) {
        assert_plot(NULL, 0, NULL, 0, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(statistics_follow_their_definitions),
                cmocka_unit_test(one_outlier_changes_only_the_maximum),
                cmocka_unit_test(the_callers_values_stay_the_same),
                cmocka_unit_test(times_stand_at_their_logarithm_between_two_powers_of_ten),
                cmocka_unit_test(an_axis_is_never_without_length),
                cmocka_unit_test(without_times_there_is_no_plot),
        };

        (void)setenv("LC_ALL", "C", 1); /* the plot's marks are then ASCII */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
