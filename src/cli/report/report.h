#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Prints a snapshot. The writers only choose words; cli/node/snapshot.c decides what is known.
 */

#include <jansson.h>

#include "base/locations.h"
#include "cli/node/snapshot.h"
#include "cli/report/table.h"

/* Variables about the terminal, which main() reads. NULL: not set. */
struct report_environment {
        const char *columns;  /* COLUMNS: overrides the width */
        const char *no_color; /* NO_COLOR: unless empty, no colours */
        const char *terminal; /* TERM: "dumb" has no colours and no cursor */
};

/* Call it before anything is printed. */
void report_init(const struct report_environment *environment);

/* What the terminal can do; all 0 for a file or a pipe. */
struct report_style {
        size_t width; /* columns; 0: no limit */
        bool colours;
        bool redraws; /* the cursor can be moved: see screen.h */
};

struct report_style report_style_of(FILE *stream);

/* The table for people, of the selected GPUs. Returns 0 or -ENOMEM. */
int report_text(const struct snapshot *snapshot, const struct report_style *style, FILE *stream);

/* docs/schemas/status.json. NULL: out of memory. */
json_t *report_json(const struct snapshot *snapshot);

/* A string, or null for an empty (unknown) one. */
json_t *report_json_text(const char *text);

/* The time in UTC, or null for 0 (unknown). */
json_t *report_json_time(uint64_t realtime_usec);

/* Prints a JSON document, indented, and takes its reference. Returns 0, or -ENOMEM for NULL. */
int report_json_print(json_t *document, FILE *stream);

/* Prints a sentence on standard output, on a terminal broken between words. */
void report_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { REPORT_NOTHING_SIZE = 640 };

/* Why a snapshot is empty, and what to do. Returns buffer. */
const char *report_nothing(const struct snapshot *snapshot, const struct locations *locations, char *buffer,
                           size_t size);

/* Valid only in the statement that makes it: printf("%s", report_duration(usec).text); */
struct report_text {
        char text[48];
};

/* "2026-11-23 03:16:12" in local time; "-" for 0. */
struct report_text report_time_local(uint64_t realtime_usec);

/* "2026-11-23T03:16:12.345Z". */
struct report_text report_time_utc(uint64_t realtime_usec);

/* "1.47 s", "850 ms", "0.3 ms"; "-" for 0. */
struct report_text report_duration(uint64_t usec);

/*
 * What keeps the GPU initialised: "daemon, kernel flag (inferred), python3(8123), 4 more", with at most n_named_max
 * clients by name; "-" for nothing known. Returns buffer.
 */
const char *report_held_by(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, size_t n_named_max,
                           char *buffer, size_t size);
