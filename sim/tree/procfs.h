#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The texts of the simulated /proc files, exactly as the driver prints them, including white space
 * (kernel-open/nvidia/nv-procfs.c), because clients parse them. Those of /sys are in sysfs.h.
 */

#include <stdio.h>

#include "sim/model/model.h"

/* The input for a text. gpu is the GPU in whose folder the file is, NULL elsewhere. */
struct procfs_source {
        const struct scenario *scenario;
        const struct model_gpu_view *gpu;
        unsigned n_open_files;
        bool block_online; /* of a memory block */
        unsigned value;    /* the row's (rows.h) */
};

typedef void (*procfs_text)(FILE *out, const struct procfs_source *source);

/* /proc */
void procfs_devices(FILE *out, const struct procfs_source *source);
void procfs_version(FILE *out, const struct procfs_source *source);
void procfs_params(FILE *out, const struct procfs_source *source);
void procfs_information(FILE *out, const struct procfs_source *source);
/* The number of the GPU's interrupt. */
unsigned procfs_interrupt(const struct model_gpu_view *gpu);
void procfs_power(FILE *out, const struct procfs_source *source);
void procfs_numa_status(FILE *out, const struct procfs_source *source);
