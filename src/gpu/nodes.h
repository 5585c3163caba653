#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Creates missing device nodes. The kernel creates none for this driver (no class, no devtmpfs). So user space has to
 * do it after a boot without a display: udev rules, nvidia-modprobe, or a program that runs as root. This code uses
 * nvidia-modprobe if it is installed, or else the owner and mode that the module's parameters specify. The driver
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
        bool ours; /* programs may create the nodes; false: the administrator does */
        uid_t uid;
        gid_t gid;
        mode_t mode;
};

/* Reads them, from /proc/driver/nvidia/params. Returns 0, or negative errno (-ENOENT: no driver). */
int node_parameters_read(const struct locations *locations, struct node_parameters *ret_parameters);

/* The two ways to create a node, replaceable by tests. Each returns 0, or logs the reason and returns negative
 * errno. */
struct node_ops {
        int (*run)(const char *const arguments[]); /* arguments of nvidia-modprobe; ends with NULL */
        int (*make)(const struct locations *locations, const struct node *node,
                    const struct node_parameters *parameters);
};

extern const struct node_ops node_system_ops;

/*
 * Which nodes to create. The minor number of a GPU is in its `information` file. From 590 on, the driver logs a line
 * each time when this file is read for a GPU that was never initialised, so we read as few as possible.
 */
struct node_selection {
        enum {
                NODES_ALL,
                NODES_OF_GPU, /* /dev/nvidiactl and the node of that GPU; reads no other GPU's file */
                NODES_OF_UVM, /* /dev/nvidia-uvm; reads no GPU's file */
        } kind;
        struct pci_address gpu; /* NODES_OF_GPU */
};

/*
 * Creates missing nodes: /dev/nvidiactl, /dev/nvidiaN of every GPU that the driver lists, and /dev/nvidia-uvm, as
 * selected (NULL: all). Never replaces anything, and never follows a symbolic link. Call it as root, before any thread
 * starts. Does nothing if nodes are not devices, if no driver is loaded, or if ModifyDeviceFiles is 0. Works in a child
 * process. Returns 0; -EIO if something failed in the child; -ETIMEDOUT if the child did not end within 7 s; or
 * another negative errno (all are logged). The daemon can continue after a failure: it tries again later to open GPUs
 * whose node is missing.
 */
int nodes_make(const struct locations *locations, const struct node_selection *selection);

/*
 * The same in this process, also if nodes are not devices, and with the caller's functions. Returns 0, or the negative
 * errno of a failure (all are logged); the other nodes are still tried.
 */
int nodes_make_with(const struct locations *locations, const struct node_selection *selection,
                    const struct node_ops *ops);
