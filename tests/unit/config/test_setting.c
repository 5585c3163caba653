/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "config/setting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

static const struct {
        enum setting setting;
        const char *text;
        struct setting_value value;
        const char *shown;
} good[] = {
        /* clang-format off */
        {SETTING_POWER_LIMIT, "500", {true, false, 500, 500}, "500 W"},
        {SETTING_POWER_LIMIT, "500 W", {true, false, 500, 500}, "500 W"},
        {SETTING_POWER_LIMIT, "500w", {true, false, 500, 500}, "500 W"},
        {SETTING_POWER_LIMIT, "80%", {true, true, 80, 80}, "80 %"},
        {SETTING_POWER_LIMIT, "100 %", {true, true, 100, 100}, "100 %"},
        {SETTING_GRAPHICS_CLOCKS, "1410", {true, false, 1410, 1410}, "1410 MHz"},
        {SETTING_GRAPHICS_CLOCKS, "1200-1410", {true, false, 1200, 1410}, "1200-1410 MHz"},
        {SETTING_GRAPHICS_CLOCKS, "1200 - 1410 MHz", {true, false, 1200, 1410}, "1200-1410 MHz"},
        {SETTING_MEMORY_CLOCKS, "2619MHz", {true, false, 2619, 2619}, "2619 MHz"},
        {SETTING_COMPUTE_MODE, "default", {true, false, 0, 0}, "default"},
        {SETTING_COMPUTE_MODE, "Exclusive-Process", {true, false, 3, 3}, "exclusive-process"},
        {SETTING_COMPUTE_MODE, "prohibited", {true, false, 2, 2}, "prohibited"},
        {SETTING_ECC, "on", {true, false, 1, 1}, "on"},
        {SETTING_MIG, "OFF", {true, false, 0, 0}, "off"},
        /* clang-format on */
};

static void valid_values_are_parsed_and_printed(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                char error[SETTING_ERROR_SIZE], shown[SETTING_TEXT_SIZE];
                struct setting_value value;

                assert_int_equal(setting_parse(good[i].setting, good[i].text, &value, error), 0);
                assert_true(setting_is_equal(&value, &good[i].value));
                assert_string_equal(setting_format(good[i].setting, &value, shown), good[i].shown);
        }
}

static const struct {
        enum setting setting;
        const char *text;
        const char *error;
} bad[] = {
        {SETTING_POWER_LIMIT, "", "'' is neither watts (500) nor a percentage"},
        {SETTING_POWER_LIMIT, "0", "'0' is neither watts"},
        {SETTING_POWER_LIMIT, "101%", "'101%' is neither"},
        {SETTING_POWER_LIMIT, "-5", "'-5' is neither"},
        {SETTING_POWER_LIMIT, "500 mW", "'500 mW' is neither"},
        {SETTING_POWER_LIMIT, "5000000000", "'5000000000' is neither"},
        {SETTING_POWER_LIMIT, "100000000000000000000000000000000000", "is neither"},
        {SETTING_GRAPHICS_CLOCKS, "1410-1200", "'1410-1200' is neither a clock in MHz (1410) nor a range"},
        {SETTING_GRAPHICS_CLOCKS, "1200-", "'1200-' is neither"},
        {SETTING_MEMORY_CLOCKS, "fast", "'fast' is neither a clock in MHz (2619)"},
        {SETTING_COMPUTE_MODE, "shared", "'shared' is neither default, exclusive-process nor prohibited"},
        {SETTING_ECC, "1", "'1' is neither on nor off"},
};

static void invalid_values_are_refused_with_a_text_that_names_valid_ones(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct setting_value value = {.low = 4711};
                char error[SETTING_ERROR_SIZE] = "";

                assert_int_equal(setting_parse(bad[i].setting, bad[i].text, &value, error), -EINVAL);
                assert_non_null(strstr(error, bad[i].error));
                assert_int_equal(value.low, 4711);
        }
}

static void an_unset_value_and_an_unknown_mode_are_printed(void **state) {
        const struct setting_value none = {0}, odd = {.is_set = true, .low = 9, .high = 9};
        char shown[SETTING_TEXT_SIZE];

        assert_string_equal(setting_format(SETTING_ECC, &none, shown), "-");
        assert_string_equal(setting_format(SETTING_COMPUTE_MODE, &odd, shown), "mode 9");
}

static void every_setting_is_found_by_its_name(void **state) {
        enum setting found;

        for (enum setting i = 0; i < N_SETTINGS; i++) {
                assert_int_equal(setting_find(setting_name(i), &found), 0);
                assert_int_equal(found, i);
        }
        assert_int_equal(setting_find("powerlimit", &found), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(valid_values_are_parsed_and_printed),
                cmocka_unit_test(invalid_values_are_refused_with_a_text_that_names_valid_ones),
                cmocka_unit_test(an_unset_value_and_an_unknown_mode_are_printed),
                cmocka_unit_test(every_setting_is_found_by_its_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
