#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Where /dev, /proc, /sys, /run and /etc are, and what may be expected there. main() decides it once and passes it
 * down; no other code asks whether the driver is a real one.
 *
 *      the system          ""     its nodes are devices, and its kernel tells of GPUs
 *      --root DIR          DIR    neither: a simulated driver, or a tree with the files of one
 *      HOLDFAST_ROOT=/     ""     neither: a simulator's files, mounted over the system's own
 */

#include <limits.h>
#include <stdbool.h>

struct locations {
        const char *root;       /* in front of each path; "" for none */
        const char *above_run;  /* in front of "/run": "/var", as NVIDIA's clients have it, or the root */
        bool nodes_are_devices; /* with the driver's numbers; else a node is whatever file is at its path */
        bool kernel_tells;      /* the kernel reports added and removed GPUs; else datagrams below /run do */
        bool has_nvml;          /* the loader's libnvidia-ml.so.1 speaks to this driver; else an option names one */
        bool has_cuda;          /* likewise libcuda.so.1 */
        bool simulated;         /* to be said of measurements, and not to be acted upon */
        const char *programs;   /* folders of programs, with ":" between; NULL: /usr/bin:/bin */
};

/*
 * root: a folder's path, "/", "", or NULL. at_real_paths: a simulator's files are at the system's own paths. The string
 * must live as long as the result. The caller fills in `programs`.
 */
struct locations locations_of(const char *root, bool at_real_paths);

/* Puts the root in front of an absolute path: "/srv/sim/proc/devices". Returns 0 or -ENAMETOOLONG. */
int locations_path(char buffer[static PATH_MAX], const struct locations *locations, const char *path);
