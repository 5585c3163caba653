#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Whether a daemon that stays root needs CAP_DAC_OVERRIDE, which opens what belongs to others: a device node
 * (NVreg_DeviceFileUID with 0660), the keeper's socket, a runtime directory behind a link. With it root could write
 * everywhere, so it is kept only for a reason.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/locations.h"

struct override_question {
        const struct locations *locations;
        gid_t gid;   /* the group that the daemon will have */
        bool writes; /* nodes are opened for writing too: a closed library does */
        bool uses_keeper;
        const char *runtime_directory;
};

/*
 * To be called as root, when the nodes were made. Returns whether it is needed, with the reason as the end of a
 * sentence in ret_reason. In doubt it is.
 */
bool override_is_needed(const struct override_question *question, char ret_reason[static PATH_MAX]);
