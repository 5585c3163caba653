#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A snapshot, printed. The writers only choose words: what is known was decided in cli/node/snapshot.c.
 */

#include <jansson.h>

#include "base/locations.h"
#include "cli/node/snapshot.h"
#include "cli/report/table.h"

/* What the environment says of the terminal, which only main() reads. NULL: nothing. */
struct report_environment {
        const char *columns;  /* COLUMNS: overrides the width */
        const char *no_color; /* NO_COLOR: unless empty, no colours */
        const char *terminal; /* TERM: "dumb" has no colours and no cursor */
};

/* Before anything is printed. */
void report_init(const struct report_environment *environment);

/* How a report looks where it goes: what a terminal can do, or nothing of it. */
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

/* A string, or null for an empty one, which is not known. */
json_t *report_json_text(const char *text);

/* The time in UTC, or null for 0, which is not known. */
json_t *report_json_time(uint64_t realtime_usec);

/* Any of our JSON documents, indented, with a newline; owns the reference. NULL is out of memory: -ENOMEM. */
int report_json_print(json_t *document, FILE *stream);

/* A sentence on standard output: one line for programs, broken between words on a terminal. */
void report_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { REPORT_NOTHING_SIZE = 640 };

/* Why there is nothing to tell of an empty snapshot, and what to do. Returns buffer. */
const char *report_nothing(const struct snapshot *snapshot, const struct locations *locations, char *buffer,
                           size_t size);

/* To be used where it is made: printf("%s", report_duration(usec).text); it is gone after that statement. */
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
 * Who keeps the GPU initialised, in words: "daemon, kernel flag (inferred), python3(8123), 4 more", with so many
 * clients by name; "-" for nobody that we know of. Returns buffer.
 */
const char *report_held_by(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, size_t n_named_max,
                           char *buffer, size_t size);
