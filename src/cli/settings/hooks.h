#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Hooks: the administrator's executables, run as root after events of a GPU, one after another by name. Their output
 * goes to our standard error. Call it in a process of its own, since it waits for them.
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
        uint64_t limit_usec; /* after which a hook is killed */
};

/*
 * Runs all hooks. `tell` receives a reference to each result, a row of "hooks" in docs/schemas/settings.json: {"name",
 * "event", "failure"}.
 */
void hooks_run(const struct hook_call *call, void (*tell)(void *userdata, json_t *row), void *userdata);
