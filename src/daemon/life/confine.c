/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/confine.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/process/override.h"
#include "daemon/process/settings.h"
#include "daemon/sandbox/sandbox.h"
#include "gpu/numa.h"

/*
 * Known only if the driver is loaded. If it is loaded later, the daemon cannot online memory
 * (docs/decisions/0002-numa-as-root.md).
 */
static bool has_numa_memory(const struct locations *locations) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        bool found = false;
        size_t n = 0;

        if (inventory_read_addresses(locations, &gpus, &n) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                found |= numa_is_present(locations, &gpus[i].address);
        return found;
}

int confine_drop_privileges(struct confine *confine, const struct privileges *resolved) {
        const struct options *options = confine->options;
        struct privileges privileges = *resolved;
        const struct override_question question = {
                .locations = &options->locations,
                .gid = privileges.gid == (gid_t)-1 ? getegid() : privileges.gid,
                .writes = confine->ops->closed_library,
                .uses_keeper = options->keeper_from != KEEPER_NONE,
                .runtime_directory = confine->runtime_directory,
        };

        confine->onlines_numa = privileges.onlines_numa = has_numa_memory(&options->locations);
        if (privileges_stay_root(&privileges))
                privileges.opens_others = override_is_needed(&question, privileges.override_reason);
        return privileges_drop(&privileges);
}

int confine_enter_sandbox(const struct confine *confine) {
        char config_file[PATH_MAX];
        const struct sandbox_config config = {
                .closed_library = confine->ops->closed_library,
                .onlines_numa = confine->onlines_numa,
                .root = confine->options->locations.root,
                .config_path = settings_path(confine->options, config_file) < 0 ? NULL : config_file,
                .runtime_directory = confine->runtime_directory,
        };

        return confine->options->sandbox ? sandbox_enter(&config) : 0;
}
