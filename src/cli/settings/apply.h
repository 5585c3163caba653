#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One GPU's settings: compared with what is wanted, changed where they differ, read back. It calls NVML, which may
 * crash or hang with the driver: run it in a process that can be given up (worker.h).
 */

#include <jansson.h>
#include <sys/types.h>

#include "base/locations.h"
#include "config/config.h"

enum apply_mode {
        APPLY_PLAN,           /* say what would be changed */
        APPLY_COMPARE,        /* change nothing */
        APPLY_CHANGE,         /* change what differs */
        APPLY_CHANGE_IF_IDLE, /* only when no client has the GPU open */
};

struct apply {
        const struct locations *locations;
        const char *nvml; /* NULL: NVIDIA's own */
        struct pci_address address;
        int minor;
        pid_t daemon_pid; /* who is no client; 0: unknown */
        enum apply_mode mode;
        const struct config_settings *wanted;
        const json_t *previous; /* what apply_run() returned last since the GPU was opened, or NULL */
};

/*
 * Returns an object, the "settings" of a GPU in docs/schemas/settings.json and their "problem" (null: none), or NULL
 * when out of memory.
 */
json_t *apply_run(const struct apply *apply);

/* The rows of a GPU of which nothing is known, for that reason; differs: whether that is a fault. */
json_t *apply_rows_unknown(const struct config_settings *wanted, bool differs, const char *reason);
