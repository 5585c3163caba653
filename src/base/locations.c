/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/locations.h"

#include "base/file.h"
#include "base/text.h"

struct locations locations_of(const char *root, bool at_real_paths) {
        bool is_system = !root || root[0] == '\0' || text_equal(root, "/");

        return (struct locations){
                .root = is_system ? "" : root,
                .above_run = is_system ? "/var" : root,
                .nodes_are_devices = is_system && !at_real_paths,
                .kernel_tells = is_system && !at_real_paths,
                .has_nvml = is_system,
                .has_cuda = is_system && !at_real_paths,
                .simulated = !is_system || at_real_paths,
        };
}

int locations_path(char buffer[static PATH_MAX], const struct locations *locations, const char *path) {
        return file_rooted(buffer, locations->root, path);
}
