#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Compares one GPU's settings with what is wanted, changes those that differ, and reads them back. It calls NVML, which
 * may crash, or hang with the driver: run it in a process that can be given up (worker.h).
 */

#include <jansson.h>
#include <sys/types.h>

#include "base/locations.h"
#include "config/config.h"

enum apply_mode {
        APPLY_PLAN,           /* only report what would be changed */
        APPLY_COMPARE,        /* change nothing */
        APPLY_CHANGE,         /* change what differs */
        APPLY_CHANGE_IF_IDLE, /* only when no client has the GPU open */
};

struct apply {
        const struct locations *locations;
        const char *nvml; /* NULL: NVIDIA's own */
        struct pci_address address;
        int minor;
        pid_t daemon_pid; /* which is no client; 0: unknown */
        enum apply_mode mode;
        const struct config_settings *wanted;
        const json_t *previous; /* what apply_run() returned last for this open of the GPU, or NULL */
};

/*
 * Returns an object, the "settings" of a GPU in docs/schemas/settings.json and their "problem" (null: none), or NULL
 * when out of memory.
 */
json_t *apply_run(const struct apply *apply);

/* The rows of a GPU of which nothing is known. differs: report them as different from the wanted ones. */
json_t *apply_rows_unknown(const struct config_settings *wanted, bool differs, const char *reason);
