#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A GPU's settings: those that the driver loses when the GPU is initialised again, and two that only a reset changes.
 * A struct setting_value describes one of them in the configuration file, in the driver, or for display. For each
 * setting its members mean:
 *
 *      power-limit       low == high: watts, or percent of the GPU's maximum
 *      graphics-clocks   low to high, MHz
 *      memory-clocks     low to high, MHz
 *      compute-mode      low == high: NVML's number
 *      ecc, mig          low == high: 0 or 1
 */

#include <stdbool.h>
#include <stddef.h>

enum setting {
        SETTING_POWER_LIMIT,
        SETTING_GRAPHICS_CLOCKS,
        SETTING_MEMORY_CLOCKS,
        SETTING_COMPUTE_MODE,
        SETTING_ECC,
        SETTING_MIG,
        N_SETTINGS,
};

/* All zero: not set. */
struct setting_value {
        bool is_set;
        bool is_percent;
        unsigned low;
        unsigned high;
};

enum {
        SETTING_TEXT_SIZE = 32,
        SETTING_ERROR_SIZE = 192,
};

/* Its key in the configuration, for example "power-limit". */
const char *setting_name(enum setting setting);

/* Returns 0 or -ENOENT. */
int setting_find(const char *name, enum setting *ret_setting);

/* Returns 0, or -EINVAL with a sentence in error. */
int setting_parse(enum setting setting, const char *text, struct setting_value *ret_value,
                  char error[static SETTING_ERROR_SIZE]);

/* "500 W", "80 %", "1410 MHz", "1200-1410 MHz", "exclusive-process", "on"; "-" if not set. Returns buffer. */
const char *setting_format(enum setting setting, const struct setting_value *value,
                           char buffer[static SETTING_TEXT_SIZE]);

bool setting_is_equal(const struct setting_value *a, const struct setting_value *b);

/* Whether a change needs a reset of the GPU. Such settings are only compared, not applied. */
bool setting_needs_reset(enum setting setting);
