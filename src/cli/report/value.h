#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A value, such as a field of a GPU's row, and how each format writes it:
 *
 *                      text        JSON            CSV as nvidia-smi's     Prometheus
 *      unknown         - or ?      null            [N/A]                   left out
 *      not supported   - or ?      null            [Not Supported]         left out
 *      boolean         On, Off     true, false     Enabled, Disabled       1, 0
 *      number          42          42              42                      42
 *      text            as it is    a string        quoted if it must be    left out
 *      time            local       UTC             UTC                     seconds since the epoch
 *      duration        1.47 s      milliseconds    whole milliseconds      seconds
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/report/table.h"

enum value_kind {
        VALUE_UNKNOWN,
        VALUE_NOT_SUPPORTED, /* this daemon does not report it */
        VALUE_BOOLEAN,
        VALUE_NUMBER,
        VALUE_TEXT,
        VALUE_TIME,     /* microseconds since the epoch */
        VALUE_DURATION, /* microseconds */
};

struct value {
        enum value_kind kind;
        enum colour colour; /* in a table */
        uint64_t number;
        char text[TABLE_CELL_SIZE];
};

/* Write (struct value){0} for unknown, and {.kind = VALUE_NOT_SUPPORTED} for not supported. */
struct value value_boolean(bool boolean);
struct value value_number(uint64_t number);
/* Unknown if empty or 0. */
struct value value_text(const char *text);
struct value value_time(uint64_t realtime_usec);
struct value value_duration(uint64_t usec);

/* unknown: the column's text for unknown and not supported values, "-" or "?". */
void value_fill_cell(const struct value *value, const char *unknown, struct table *table);
json_t *value_json(const struct value *value);
/* unit: printed after numbers, or NULL. */
void value_print_csv(const struct value *value, const char *unit, FILE *stream);
/* Returns false for a value that is left out. */
bool value_sample(const struct value *value, double *ret_sample);
