#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The fields of `holdfast query`: nvidia-smi's names and meanings for what can be known without opening a GPU, and our
 * own under "holdfast.". One table row a field.
 */

#include <stdint.h>

#include "cli/node/snapshot.h"

enum field_kind {
        FIELD_TEXT,
        FIELD_NUMBER,
        FIELD_NONE,          /* "[N/A]": there is no value now */
        FIELD_NOT_SUPPORTED, /* "[Not Supported]": what runs here cannot tell it */
};

struct field_value {
        enum field_kind kind;
        uint64_t number;
        char text[512];
};

/* A question as a whole: one time stamp for all rows. */
struct field_context {
        const struct snapshot *snapshot;
        uint64_t now_realtime_usec;
};

struct field {
        const char *name;
        const char *alias; /* another name of it, or NULL */
        const char *help;
        const char *unit;  /* "ms", or NULL */
        unsigned snapshot; /* enum snapshot_flags that it needs */
        void (*read)(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value);
};

extern const struct field fields[];
extern const size_t n_fields;

/* By name or alias; NULL when there is none. */
const struct field *field_find(const char *name);
