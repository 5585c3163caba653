#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration read again, and applied to whatever it says something of. */

#include "daemon/life/progress.h"
#include "daemon/manager/keeper_link.h"
#include "daemon/process/settings.h"
#include "daemon/serve/methods.h"

struct reload {
        struct settings *settings;
        struct registry *registry;
        struct methods *methods;
        struct keeper_link *keeper;
        const struct progress *progress;
};

/* With an error in the file, which is logged, what is in force stays. */
void reload(const struct reload *parts);
