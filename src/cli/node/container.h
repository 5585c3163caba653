#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Which container a process runs in, read off the names that runtimes give their control groups. Pure: text in, names
 * out. Names that no runtime is known to give are no container.
 */

#include <stdbool.h>

enum {
        CONTAINER_RUNTIME_SIZE = 24,
        CONTAINER_NAME_SIZE = 64,
        CONTAINER_ID_SHOWN = 12, /* digits of an id, as docker ps shows them */
};

struct container {
        char runtime[CONTAINER_RUNTIME_SIZE]; /* "docker", "containerd", "cri-o", "podman", "nspawn", ... */
        char name[CONTAINER_NAME_SIZE];       /* the beginning of the id, or the name of a machine */
};

/* Takes the text of /proc/PID/cgroup. Returns whether it names a container: the innermost. Changes the text. */
bool container_of_cgroup(char *text, struct container *ret_container);
