#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Writes metrics in Prometheus' text format, or collects them for JSON. A family is a metric's name and help; its
 * series are values with different labels.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct metrics_label {
        const char *name;
        const char *value;
};

struct metrics_writer {
        FILE *stream;     /* for text; NULL: JSON */
        json_t *families; /* for JSON, the owner's */
        const char *name; /* of the family that is being written */
        json_t *series;   /* of that family, for JSON */
        bool out_of_memory;
};

/* A name that ends in _total is a counter's, as in Prometheus' conventions; all others are gauges. */
void metrics_family(struct metrics_writer *writer, const char *name, const char *help);

/* A series of the last family. labels: ended by one without a name. */
void metrics_series(struct metrics_writer *writer, const struct metrics_label *labels, double value);
