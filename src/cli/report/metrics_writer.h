#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Metrics, written as they come: in Prometheus' text format, or gathered for JSON. A family is a name with its meaning;
 * its series are values that differ in their labels.
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

/* Counters are those that end in _total, as Prometheus' conventions have it; all others are gauges. */
void metrics_family(struct metrics_writer *writer, const char *name, const char *help);

/* Of the family begun last. labels: ended by one without a name. */
void metrics_series(struct metrics_writer *writer, const struct metrics_label *labels, double value);
