#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Creates missing device nodes. The kernel creates none for this driver (no class, no devtmpfs), so after a boot
 * without a display user space has to do it: udev rules, nvidia-modprobe, or a program that runs as root. This code
 * uses nvidia-modprobe if it is installed, or else the owner and mode that the module's parameters specify. The driver
 * itself is not loaded: that is the administrator's or udev's choice.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/locations.h"
#include "gpu/pci.h"

struct node {
        char path[32]; /* "/dev/nvidia3" */
        unsigned major;
        unsigned minor;
};

/* The module's parameters for its nodes: NVreg_ModifyDeviceFiles, NVreg_DeviceFileUID, GID and Mode. */
struct node_parameters {
        bool ours; /* they may be made; otherwise the administrator makes them */
        uid_t uid;
        gid_t gid;
        mode_t mode;
};

/* Reads them, from /proc/driver/nvidia/params. Returns 0, or negative errno (-ENOENT: no driver). */
int node_parameters_read(const struct locations *locations, struct node_parameters *ret_parameters);

/* The two ways to create a node, replaceable by tests. Each returns 0, or logs the reason and returns negative
 * errno. */
struct node_ops {
        int (*run)(const char *const arguments[]); /* nvidia-modprobe's; ends with NULL */
        int (*make)(const struct locations *locations, const struct node *node,
                    const struct node_parameters *parameters);
};

extern const struct node_ops node_system_ops;

/*
 * Which nodes. A GPU's minor number is in its `information` file, and a driver from 590 on logs a line each time that
 * the file of a GPU is read which was never initialised: so the fewer the better.
 */
struct node_selection {
        enum {
                NODES_ALL,
                NODES_OF_GPU, /* /dev/nvidiactl and that GPU's; no other GPU's file is read */
                NODES_OF_UVM, /* /dev/nvidia-uvm; no GPU's file is read */
        } kind;
        struct pci_address gpu; /* NODES_OF_GPU */
};

/*
 * Makes what is missing of /dev/nvidiactl, /dev/nvidiaN of every GPU that the driver lists, and /dev/nvidia-uvm, as far
 * as it is selected (NULL: all); never over anything that is there, and never through a symbolic link. To be called
 * with root's rights, before any thread starts. Does nothing where nodes are no devices, without a driver, and
 * where ModifyDeviceFiles is 0. Returns 0, or the first negative errno; each was logged with
 * what to do and is no reason to stop: GPUs whose node is missing are tried again later.
 */
int nodes_make(const struct locations *locations, const struct node_selection *selection);

/* The same wherever the nodes are, and with ways of the caller's. */
int nodes_make_with(const struct locations *locations, const struct node_selection *selection,
                    const struct node_ops *ops);
