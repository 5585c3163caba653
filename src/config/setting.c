/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "config/setting.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

enum {
        NUMBER_SIZE = 24,
        VALUE_MAX = 100000, /* watts, MHz */
};

/* nvmlComputeMode_t; drivers no longer support mode 1. */
static const char *const compute_modes[] = {
        [0] = "default",
        [2] = "prohibited",
        [3] = "exclusive-process",
};

static int parse_number(const char *text, unsigned *ret_number) {
        uint64_t number;

        if (text_parse_u64(text, 10, VALUE_MAX, &number) < 0 || number == 0)
                return -EINVAL;
        *ret_number = (unsigned)number;
        return 0;
}

/* Removes the suffix, and white space before it, from the text. Returns whether it was there. */
static bool take_suffix(char *text, const char *suffix) {
        size_t length = strlen(text), suffix_length = strlen(suffix);

        if (length < suffix_length || !text_equal_nocase(text + length - suffix_length, suffix))
                return false;
        text[length - suffix_length] = '\0';
        (void)text_trim(text);
        return true;
}

static int parse_power(const char *text, struct setting_value *ret_value) {
        struct setting_value value = {.is_set = true};
        char number[NUMBER_SIZE];

        if (!text_copy(number, sizeof(number), text))
                return -EINVAL;
        value.is_percent = take_suffix(number, "%");
        if (!value.is_percent)
                (void)take_suffix(number, "W");
        if (parse_number(number, &value.low) < 0 || (value.is_percent && value.low > 100))
                return -EINVAL;
        value.high = value.low;
        *ret_value = value;
        return 0;
}

static int parse_clocks(const char *text, struct setting_value *ret_value) {
        struct setting_value value = {.is_set = true};
        char numbers[2 * NUMBER_SIZE], *minus;

        if (!text_copy(numbers, sizeof(numbers), text))
                return -EINVAL;
        (void)take_suffix(numbers, "MHz");
        minus = strchr(numbers, '-');
        if (minus)
                *minus = '\0';
        if (parse_number(text_trim(numbers), &value.low) < 0 ||
            parse_number(text_trim(minus ? minus + 1 : numbers), &value.high) < 0 || value.low > value.high)
                return -EINVAL;
        *ret_value = value;
        return 0;
}

static int parse_compute_mode(const char *text, struct setting_value *ret_value) {
        for (unsigned i = 0; i < ARRAY_SIZE(compute_modes); i++)
                if (compute_modes[i] && text_equal_nocase(text, compute_modes[i])) {
                        *ret_value = (struct setting_value){.is_set = true, .low = i, .high = i};
                        return 0;
                }
        return -EINVAL;
}

static int parse_on_off(const char *text, struct setting_value *ret_value) {
        bool on = text_equal_nocase(text, "on");

        if (!on && !text_equal_nocase(text, "off"))
                return -EINVAL;
        *ret_value = (struct setting_value){.is_set = true, .low = on, .high = on};
        return 0;
}

static void format_power(const struct setting_value *value, char *buffer) {
        (void)text_format(buffer, SETTING_TEXT_SIZE, "%u %s", value->low, value->is_percent ? "%" : "W");
}

static void format_clocks(const struct setting_value *value, char *buffer) {
        if (value->low == value->high)
                (void)text_format(buffer, SETTING_TEXT_SIZE, "%u MHz", value->low);
        else
                (void)text_format(buffer, SETTING_TEXT_SIZE, "%u-%u MHz", value->low, value->high);
}

static void format_compute_mode(const struct setting_value *value, char *buffer) {
        const char *name = value->low < ARRAY_SIZE(compute_modes) ? compute_modes[value->low] : NULL;

        if (name)
                (void)text_copy(buffer, SETTING_TEXT_SIZE, name);
        else
                (void)text_format(buffer, SETTING_TEXT_SIZE, "mode %u", value->low);
}

static void format_on_off(const struct setting_value *value, char *buffer) {
        (void)text_copy(buffer, SETTING_TEXT_SIZE, value->low ? "on" : "off");
}

static const struct {
        const char *name;
        int (*parse)(const char *text, struct setting_value *ret_value);
        void (*format)(const struct setting_value *value, char *buffer);
        const char *takes; /* what parse() accepts, for messages */
        bool needs_reset;
} settings[N_SETTINGS] = {
        /* clang-format off */
        [SETTING_POWER_LIMIT] = {"power-limit", parse_power, format_power,
                                 "watts (500) nor a percentage of the GPU's maximum (80%)", false},
        [SETTING_GRAPHICS_CLOCKS] = {"graphics-clocks", parse_clocks, format_clocks,
                                     "a clock in MHz (1410) nor a range (1200-1410)", false},
        [SETTING_MEMORY_CLOCKS] = {"memory-clocks", parse_clocks, format_clocks,
                                   "a clock in MHz (2619) nor a range (1593-2619)", false},
        [SETTING_COMPUTE_MODE] = {"compute-mode", parse_compute_mode, format_compute_mode,
                                  "default, exclusive-process nor prohibited", false},
        [SETTING_ECC] = {"ecc", parse_on_off, format_on_off, "on nor off", true},
        [SETTING_MIG] = {"mig", parse_on_off, format_on_off, "on nor off", true},
        /* clang-format on */
};

const char *setting_name(enum setting setting) {
        return settings[setting].name;
}

int setting_find(const char *name, enum setting *ret_setting) {
        for (enum setting i = 0; i < N_SETTINGS; i++)
                if (text_equal(settings[i].name, name)) {
                        *ret_setting = i;
                        return 0;
                }
        return -ENOENT;
}

int setting_parse(enum setting setting, const char *text, struct setting_value *ret_value,
                  char error[static SETTING_ERROR_SIZE]) {
        if (settings[setting].parse(text, ret_value) == 0)
                return 0;
        (void)text_format(error, SETTING_ERROR_SIZE, "'%.60s' is neither %s", text, settings[setting].takes);
        return -EINVAL;
}

const char *setting_format(enum setting setting, const struct setting_value *value,
                           char buffer[static SETTING_TEXT_SIZE]) {
        if (value->is_set)
                settings[setting].format(value, buffer);
        else
                (void)text_copy(buffer, SETTING_TEXT_SIZE, "-");
        return buffer;
}

bool setting_is_equal(const struct setting_value *a, const struct setting_value *b) {
        return a->is_set == b->is_set && a->is_percent == b->is_percent && a->low == b->low && a->high == b->high;
}

bool setting_needs_reset(enum setting setting) {
        return settings[setting].needs_reset;
}
