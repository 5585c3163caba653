#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The texts of the simulated /proc files, white space and all as the driver prints them
 * (kernel-open/nvidia/nv-procfs.c): clients parse them. Those of /sys are in sysfs.h.
 */

#include <stdio.h>

#include "sim/model/model.h"

/* What a text is about. gpu is the one whose folder the file is in, NULL elsewhere. */
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
