#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Where /dev, /proc, /sys, /run and /etc are, and what can be expected there. main() decides this once and passes it
 * on; no other code asks whether the driver is real.
 *
 *      the system          ""     nodes are devices, and the kernel reports changes of GPUs
 *      --root DIR          DIR    a simulated driver, or a tree with a driver's files: do not expect devices or reports
 *      HOLDFAST_ROOT=/     ""     a simulator's files, mounted over those of the system: the same
 */

#include <limits.h>
#include <stdbool.h>

struct locations {
        const char *root;       /* prefix of each path; "": none */
        const char *above_run;  /* prefix of "/run": the root, or "/var" without one (NVIDIA's clients use /var/run) */
        bool nodes_are_devices; /* they have the driver's numbers; false: a node may be any file at its path */
        bool kernel_tells;      /* the kernel reports added and removed GPUs; false: a simulator does, below /run */
        bool has_nvml;          /* the loader's libnvidia-ml.so.1 uses this driver; false: an option must name one */
        bool has_cuda;          /* the same for libcuda.so.1 */
        bool simulated;         /* only to mark measurements; it must not change what the program does */
        const char *programs;   /* folders of programs, separated by ":"; NULL: /usr/bin:/bin */
};

/*
 * root: a folder's path, "/", "", or NULL. at_real_paths: a simulator's files are at the system's own paths. The string
 * must live as long as the result. The caller sets `programs`.
 */
struct locations locations_of(const char *root, bool at_real_paths);

/* Puts the root in front of an absolute path: "/srv/sim/proc/devices". Returns 0 or -ENAMETOOLONG. */
int locations_path(char buffer[static PATH_MAX], const struct locations *locations, const char *path);
