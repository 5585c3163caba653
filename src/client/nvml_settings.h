#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reads and writes a GPU's settings through NVML. Each function is looked up when it is needed, so a library that lacks
 * one can still be used for the others. NVML does not report locked clocks; they can only be set.
 */

#include "client/nvml.h"
#include "config/setting.h"

struct nvml_gpu {
        struct nvml *nvml;
        void *device;
};

/* Finds the GPU. gpu is valid until nvml_done(). Returns 0, or negative errno with a sentence in error. */
int nvml_gpu_open(struct nvml_gpu *gpu, struct nvml *nvml, const struct pci_address *address, char *error,
                  size_t error_size);

/* Returns 0; -ENODATA if NVML does not report this setting; another negative errno with a sentence in error. */
int nvml_setting_read(const struct nvml_gpu *gpu, enum setting setting, struct setting_value *ret_value, char *error,
                      size_t error_size);

/*
 * The range of values that the GPU accepts, in the unit of struct setting_value. Returns 0, or -ENODATA if it is
 * unknown.
 */
int nvml_setting_range(const struct nvml_gpu *gpu, enum setting setting, unsigned *ret_low, unsigned *ret_high);

/* Returns 0, or negative errno with a sentence in error. Not for settings that need a reset, nor for percentages. */
int nvml_setting_write(const struct nvml_gpu *gpu, enum setting setting, const struct setting_value *value, char *error,
                       size_t error_size);
