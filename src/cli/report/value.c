/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/value.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/report/report.h"

struct value value_boolean(bool boolean) {
        return (struct value){.kind = VALUE_BOOLEAN, .number = boolean};
}

struct value value_number(uint64_t number) {
        return (struct value){.kind = VALUE_NUMBER, .number = number};
}

struct value value_text(const char *text) {
        struct value value = {.kind = text[0] != '\0' ? VALUE_TEXT : VALUE_UNKNOWN};

        text_set(value.text, "%s", text);
        return value;
}

struct value value_time(uint64_t realtime_usec) {
        return (struct value){.kind = realtime_usec != 0 ? VALUE_TIME : VALUE_UNKNOWN, .number = realtime_usec};
}

struct value value_duration(uint64_t usec) {
        return (struct value){.kind = usec != 0 ? VALUE_DURATION : VALUE_UNKNOWN, .number = usec};
}

/* Not for unknown values and booleans, for which each format has its own words. */
static void format(const struct value *value, bool csv, char text[static TABLE_CELL_SIZE]) {
        uint64_t number = value->number;

        if (value->kind == VALUE_TEXT)
                (void)text_copy(text, TABLE_CELL_SIZE, value->text);
        else if (value->kind == VALUE_TIME)
                (void)text_copy(text, TABLE_CELL_SIZE,
                                (csv ? report_time_utc(number) : report_time_local(number)).text);
        else if (value->kind == VALUE_DURATION && !csv)
                (void)text_copy(text, TABLE_CELL_SIZE, report_duration(number).text);
        else
                (void)text_format(
                        text, TABLE_CELL_SIZE, "%llu",
                        (unsigned long long)(value->kind == VALUE_DURATION ? number / USEC_PER_MSEC : number));
}

void value_fill_cell(const struct value *value, const char *unknown, struct table *table) {
        char text[TABLE_CELL_SIZE];

        format(value, false, text);
        if (value->kind == VALUE_BOOLEAN)
                table_cell(table, value->colour, "%s", value->number ? "On" : "Off");
        else
                table_cell(table, value->colour, "%s", value->kind > VALUE_NOT_SUPPORTED ? text : unknown);
}

json_t *value_json(const struct value *value) {
        switch (value->kind) {
        case VALUE_UNKNOWN:
        case VALUE_NOT_SUPPORTED:
                break;
        case VALUE_BOOLEAN:
                return json_boolean(value->number);
        case VALUE_NUMBER:
                return json_integer((json_int_t)value->number);
        case VALUE_TEXT:
                return json_string(value->text);
        case VALUE_TIME:
                return json_string(report_time_utc(value->number).text);
        case VALUE_DURATION:
                return json_real((double)value->number / (double)USEC_PER_MSEC);
        }
        return json_null();
}

/* Sentences need quotes (RFC 4180); none of nvidia-smi's values does. */
static void print_csv_text(const char *text, FILE *stream) {
        const char *quote = strpbrk(text, ",\"\n") ? "\"" : "";

        (void)fputs(quote, stream);
        for (; *text != '\0'; text++)
                (void)fprintf(stream, *text == '"' ? "\"\"" : "%c", *text);
        (void)fputs(quote, stream);
}

void value_print_csv(const struct value *value, const char *unit, FILE *stream) {
        char text[TABLE_CELL_SIZE];

        format(value, true, text);
        if (value->kind == VALUE_BOOLEAN)
                (void)fputs(value->number ? "Enabled" : "Disabled", stream);
        else if (value->kind > VALUE_NOT_SUPPORTED)
                print_csv_text(text, stream);
        else
                (void)fputs(value->kind == VALUE_UNKNOWN ? "[N/A]" : "[Not Supported]", stream);
        if (unit && (value->kind == VALUE_NUMBER || value->kind == VALUE_DURATION))
                (void)fprintf(stream, " %s", unit);
}

bool value_sample(const struct value *value, double *ret_sample) {
        bool is_time = value->kind == VALUE_TIME || value->kind == VALUE_DURATION;

        *ret_sample = (double)value->number / (is_time ? (double)USEC_PER_SEC : 1);
        return is_time || value->kind == VALUE_BOOLEAN || value->kind == VALUE_NUMBER;
}
