/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/sandbox/sandbox.h"

#include "base/log.h"

int sandbox_enter(const struct sandbox_config *config) {
        log_write(LOG_INFO, "this build has no system call filter (no libseccomp, or sanitizers)");
        return 0;
}

int sandbox_enter_keeper(const char *runtime_directory) {
        log_write(LOG_INFO, "this build has no system call filter (no libseccomp, or sanitizers)");
        return 0;
}
