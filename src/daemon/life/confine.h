#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the process may still do once it has what it needs root for: as whom it goes on, and in which sandbox. */

#include <stdbool.h>

#include "daemon/process/options.h"
#include "daemon/process/privileges.h"
#include "gpu/backend.h"

struct confine {
        const struct options *options;
        const struct gpu_ops *ops;
        const char *runtime_directory;
        bool onlines_numa; /* GPU memory is there to be onlined, when it was looked for */
};

/* While the process has one thread. Returns 0, or negative errno (logged). */
int confine_drop_privileges(struct confine *confine, const struct privileges *privileges);

/* Thereafter, likewise, and when every socket is made. */
int confine_enter_sandbox(const struct confine *confine);
