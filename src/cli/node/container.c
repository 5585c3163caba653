/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/container.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

enum { ID_LENGTH_MIN = 32 }; /* ids have 64 hexadecimal digits; LXD's and others' random names fewer */

/* A group's name: prefix, id or name, suffix. The first row that fits decides. */
static const struct {
        const char *prefix;
        const char *suffix;
        const char *runtime;
        bool is_id; /* hexadecimal: "crio-conmon-..." is a container's monitor, not a container */
} names[] = {
        {"docker-", ".scope", "docker", true},
        {"cri-containerd-", ".scope", "containerd", true},
        {"crio-", ".scope", "cri-o", true},
        {"crio-", "", "cri-o", true},
        {"libpod-", ".scope", "podman", true},
        {"libpod-", "", "podman", true},
        {"systemd-nspawn@", ".service", "nspawn", false},
        {"machine-", ".scope", "machine", false},
        {"lxc.payload.", "", "lxc", false},
};

/* If a group's name is only an id, the outer group's name identifies the runtime. */
static const struct {
        const char *prefix; /* of the outer group's name */
        const char *runtime;
} parents[] = {
        /* clang-format off */
        {"docker", "docker"},
        {"libpod_parent", "podman"},
        {"kubepods", "kubernetes"},
        {"pod", "kubernetes"},
        {"lxc", "lxc"},
        /* clang-format on */
};

static bool is_id(const char *text) {
        size_t length = strspn(text, "0123456789abcdef");

        return length >= ID_LENGTH_MIN && text[length] == '\0';
}

static void take(struct container *container, const char *runtime, const char *name, bool id) {
        text_set(container->runtime, "%s", runtime);
        (void)text_copy(container->name, id ? CONTAINER_ID_SHOWN + 1 : sizeof(container->name), name);
}

/* Cuts off prefix and suffix. Returns whether both are there with something between them. */
static bool match(const char *group, const char *prefix, const char *suffix, char middle[static 256]) {
        size_t length = strlen(group), prefix_length = strlen(prefix), suffix_length = strlen(suffix);

        if (length <= prefix_length + suffix_length || !text_starts_with(group, prefix) ||
            !text_equal(group + length - suffix_length, suffix))
                return false;
        (void)text_copy(middle, 256, group + prefix_length);
        length -= prefix_length + suffix_length;
        if (length < 256)
                middle[length] = '\0';
        return true;
}

static bool take_bare_id(const char *group, const char *parent, struct container *container) {
        if (!is_id(group))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(parents); i++)
                if (text_starts_with(parent, parents[i].prefix)) {
                        take(container, parents[i].runtime, group, true);
                        return true;
                }
        return false;
}

static bool take_group(const char *group, const char *parent, struct container *container) {
        const char *colon = strrchr(group, ':'); /* runc's own driver: "slice:cri-containerd:id" */
        char middle[256];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (match(group, names[i].prefix, names[i].suffix, middle) && (!names[i].is_id || is_id(middle))) {
                        take(container, names[i].runtime, middle, names[i].is_id);
                        return true;
                }
        if (colon && is_id(colon + 1) && strstr(group, ":cri-containerd:")) {
                take(container, "containerd", colon + 1, true);
                return true;
        }
        return take_bare_id(group, parent, container);
}

bool container_of_cgroup(char *text, struct container *ret_container) {
        struct container container;
        bool found = false;
        char *line, *rest_lines = NULL;

        for (line = strtok_r(text, "\n", &rest_lines); line; line = strtok_r(NULL, "\n", &rest_lines)) {
                char *path = strchr(line, '/'), *group, *rest = NULL;
                const char *parent = "";

                for (group = path ? strtok_r(path, "/", &rest) : NULL; group; group = strtok_r(NULL, "/", &rest)) {
                        found = take_group(group, parent, &container) || found;
                        parent = group;
                }
        }
        if (found) {
                (void)text_printable(container.name);
                *ret_container = container;
        }
        return found;
}
