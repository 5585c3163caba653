#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Limits the process after it has done what needs root: drops privileges, and enters the sandbox. */

#include <stdbool.h>

#include "daemon/process/options.h"
#include "daemon/process/privileges.h"
#include "gpu/backend.h"

struct confine {
        const struct options *options;
        const struct gpu_ops *ops;
        const char *runtime_directory;
        bool onlines_numa; /* a GPU has memory to be brought online; set by confine_drop_privileges() */
};

/* Call this while the process has one thread. Returns 0, or negative errno (logged). */
int confine_drop_privileges(struct confine *confine, const struct privileges *privileges);

/* Call this later, with still one thread, after all sockets are created. Returns 0, or negative errno (logged). */
int confine_enter_sandbox(const struct confine *confine);
