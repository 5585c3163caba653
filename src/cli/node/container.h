#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The container in which a process runs, from the names that runtimes give their control groups. Reads no files. A
 * group with an unknown kind of name is no container.
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

/* Finds the innermost container in the text of /proc/PID/cgroup, and changes the text. Returns whether there is one. */
bool container_of_cgroup(char *text, struct container *ret_container);
