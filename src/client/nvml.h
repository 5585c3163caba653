#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * NVIDIA's management library (NVML), loaded at run time, to set the driver's own persistence flag where no daemon
 * runs. The library then initialises the GPU, sets the flag through the driver, and closes the GPU. nvml_settings.h
 * uses NVML for other settings.
 */

#include <stdbool.h>
#include <stddef.h>

#include "gpu/pci.h"

#define NVML_LIBRARY "libnvidia-ml.so.1"

struct nvml;

/*
 * Loads the library (a path, or a name for the loader's own search) and starts it. Returns 0; -ENOENT if it cannot be
 * loaded or is not NVML; -EIO if NVML does not start (no driver, another version); -ENOMEM. On failure, error has a
 * sentence.
 */
int nvml_open(struct nvml **ret_nvml, const char *library, char *error, size_t error_size);

/* For CLEANUP(nvml_done). */
void nvml_done(struct nvml **nvml);

/* Sets one GPU's flag. Returns 0; -EPERM, -ENODEV, -EOPNOTSUPP or -EIO with a sentence in error. */
int nvml_set_persistence(struct nvml *nvml, const struct pci_address *address, bool enabled, char *error,
                         size_t error_size);
