#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Hooks: the administrator's own executables, run as root when something happened to a GPU, one after another by name.
 * What they print goes to our standard error. Call it in a process of its own: it waits for them.
 */

#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/pci.h"

#define HOOKS_FOLDER "/etc/holdfast/hooks.d"

enum hook_event {
        HOOK_HELD,
        HOOK_RELEASED,
        HOOK_FAILED,
        HOOK_LEASE_BEGUN,
        HOOK_LEASE_ENDED,
};

struct hook_call {
        char folder[PATH_MAX];
        char address[PCI_ADDRESS_SIZE];
        char uuid[64];
        size_t index;
        enum hook_event event;
        char reason[256];
        uint64_t limit_usec; /* for each hook; then it is killed */
};

/*
 * Runs them all. `tell` takes what came of each, a row of "hooks" in docs/schemas/settings.json: {"name", "event",
 * "failure"}, a reference of its own.
 */
void hooks_run(const struct hook_call *call, void (*tell)(void *userdata, json_t *row), void *userdata);
