/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/metrics_writer.h"

#include <string.h>

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static void append(struct metrics_writer *writer, json_t *array, json_t *item) {
        if (json_array_append_new(array, item) < 0)
                writer->out_of_memory = true;
}

static void gather_family(struct metrics_writer *writer, const char *type, const char *help) {
        writer->series = json_array();
        append(writer, writer->families,
               json_pack("{s:s, s:s, s:s, s:o}", "name", writer->name, "type", type, "help", help, "series",
                         writer->series));
}

static void gather_series(struct metrics_writer *writer, const struct metrics_label *labels, double value) {
        json_t *object = json_object();

        for (; labels->name; labels++)
                if (json_object_set_new(object, labels->name, json_string(labels->value)) < 0)
                        writer->out_of_memory = true;
        append(writer, writer->series, json_pack("{s:o, s:f}", "labels", object, "value", value));
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

/* In a label's value a backslash, a quotation mark and a line feed are written as two characters. */
static void print_label(FILE *stream, const struct metrics_label *label) {
        (void)fprintf(stream, "%s=\"", label->name);
        for (const char *c = label->value; *c != '\0'; c++) {
                if (*c == '\\' || *c == '"')
                        (void)fputc('\\', stream);
                if (*c == '\n')
                        (void)fputs("\\n", stream);
                else
                        (void)fputc(*c, stream);
        }
        (void)fputc('"', stream);
}

static void print_series(const struct metrics_writer *writer, const struct metrics_label *labels, double value) {
        (void)fputs(writer->name, writer->stream);
        for (const struct metrics_label *label = labels; label->name; label++) {
                (void)fputc(label == labels ? '{' : ',', writer->stream);
                print_label(writer->stream, label);
        }
        /* Microseconds since the epoch have 16 digits. */
        (void)fprintf(writer->stream, "%s %.16g\n", labels->name ? "}" : "", value);
}

/* --------------------------------------------------------------------------------------------------------------- */

void metrics_family(struct metrics_writer *writer, const char *name, const char *help) {
        const char *type = strstr(name, "_total") ? "counter" : "gauge";

        writer->name = name;
        if (writer->stream)
                (void)fprintf(writer->stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
        else
                gather_family(writer, type, help);
}

void metrics_series(struct metrics_writer *writer, const struct metrics_label *labels, double value) {
        if (writer->stream)
                print_series(writer, labels, value);
        else
                gather_series(writer, labels, value);
}
