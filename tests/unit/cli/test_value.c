/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* How each kind of value is written in each format. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/report/value.h"

#define NOON_USEC UINT64_C(1795608000500000) /* 2026-11-25T12:00:00.500Z */
#define LEFT_OUT -1.0

static const struct {
        struct value value;
        const char *cell;
        const char *json;
        const char *csv;
        double sample;
} rows[] = {
        /* clang-format off */
        {{.kind = VALUE_UNKNOWN}, "?", "null", "[N/A]", LEFT_OUT},
        {{.kind = VALUE_NOT_SUPPORTED}, "?", "null", "[Not Supported]", LEFT_OUT},
        {{.kind = VALUE_BOOLEAN, .number = 1}, "On", "true", "Enabled", 1},
        {{.kind = VALUE_BOOLEAN}, "Off", "false", "Disabled", 0},
        {{.kind = VALUE_NUMBER, .number = 42}, "42", "42", "42 ms", 42},
        {{.kind = VALUE_TEXT, .text = "held"}, "held", "\"held\"", "held", LEFT_OUT},
        {{.kind = VALUE_TEXT, .text = "no \"power\", no GPU"}, "no \"power\", no GPU", "\"no \\\"power\\\", no GPU\"",
         "\"no \"\"power\"\", no GPU\"", LEFT_OUT},
        {{.kind = VALUE_TIME, .number = NOON_USEC}, "2026-11-25 12:00:00", "\"2026-11-25T12:00:00.500Z\"",
         "2026-11-25T12:00:00.500Z", 1795608000.5},
        {{.kind = VALUE_DURATION, .number = 1470900}, "1.47 s", "1470.9", "1470 ms", 1.4709},
        /* clang-format on */
};

static void assert_printed(FILE *stream, char **text, const char *expected) {
        assert_int_equal(fclose(stream), 0);
        assert_string_equal(*text, expected);
        free(*text);
}

static void table_cells_are_formatted_for_people(void **state) {
        static const struct table_column columns[] = {{.title = "X"}};

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                CLEANUP(table_done) struct table table = {.columns = columns, .n_columns = 1};
                char *text = NULL, expected[128], rule[64] = "";
                size_t size;
                FILE *stream = open_memstream(&text, &size);

                assert_non_null(stream);
                for (size_t j = 0; j < strlen(rows[i].cell); j++)
                        text_add(rule, "-");
                text_set(expected, "X\n%s\n%s\n", rule, rows[i].cell);
                table_row(&table);
                value_fill_cell(&rows[i].value, "?", &table);
                assert_int_equal(table_print(&table, stream, 0, false), 0);
                assert_printed(stream, &text, expected);
        }
}

static void json_has_types_and_null_for_unknown_values(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                json_t *json = value_json(&rows[i].value);
                CLEANUP(free_ptr) char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(16));

                json_decref(json);
                assert_string_equal(text, rows[i].json);
        }
}

static void csv_uses_the_words_of_nvidia_smi_and_quotes_where_necessary(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char *text = NULL;
                size_t size;
                FILE *stream = open_memstream(&text, &size);

                assert_non_null(stream);
                value_print_csv(&rows[i].value, "ms", stream);
                assert_printed(stream, &text, rows[i].csv);
        }
}

static void samples_are_in_base_units_and_only_of_numbers(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                double sample;
                bool told = value_sample(&rows[i].value, &sample);

                assert_int_equal(told, rows[i].sample != LEFT_OUT);
                if (told)
                        assert_true(fabs(sample - rows[i].sample) < 1e-9);
        }
}

static void an_empty_text_and_a_time_of_0_are_unknown(void **state) {
        assert_int_equal(value_text("").kind, VALUE_UNKNOWN);
        assert_int_equal(value_time(0).kind, VALUE_UNKNOWN);
        assert_int_equal(value_duration(0).kind, VALUE_UNKNOWN);
        assert_int_equal(value_number(0).kind, VALUE_NUMBER);
        assert_int_equal(value_boolean(false).kind, VALUE_BOOLEAN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(table_cells_are_formatted_for_people),
                cmocka_unit_test(json_has_types_and_null_for_unknown_values),
                cmocka_unit_test(csv_uses_the_words_of_nvidia_smi_and_quotes_where_necessary),
                cmocka_unit_test(samples_are_in_base_units_and_only_of_numbers),
                cmocka_unit_test(an_empty_text_and_a_time_of_0_are_unknown),
        };

        (void)setenv("TZ", "UTC", 1);
        tzset();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
