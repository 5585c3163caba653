#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds whether a daemon that stays root needs CAP_DAC_OVERRIDE to use files of other users: device nodes
 * (NVreg_DeviceFileUID with 0660), the keeper's socket, a runtime directory behind a link. With this capability root
 * could write everywhere, so it is kept only if it is needed.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/locations.h"

struct override_question {
        const struct locations *locations;
        gid_t gid;   /* the group that the daemon will have */
        bool writes; /* nodes are also opened for writing, as a closed library does */
        bool uses_keeper;
        const char *runtime_directory;
};

/*
 * Call this as root, after the device nodes were created. Returns true if the capability is needed or that cannot be
 * known; ret_reason is then the reason, as the end of a sentence.
 */
bool override_is_needed(const struct override_question *question, char ret_reason[static PATH_MAX]);
