#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reads the configuration again, and applies it. */

#include "daemon/life/progress.h"
#include "daemon/manager/keeper_link.h"
#include "daemon/process/settings.h"
#include "daemon/serve/methods.h"

struct reload {
        struct settings *settings;
        struct registry *registry;
        struct methods *methods;
        struct keeper_link *keeper;
        struct progress *progress;
};

/* If the file has an error, that is logged and the current configuration stays in effect. */
void reload(const struct reload *parts);
