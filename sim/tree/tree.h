#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulated file tree: dev, proc, sys, run, with names, modes and texts. It does not depend on FUSE.
 *
 * A node is a number that contains the row of the table, and the GPU (by PCI address) or minor. So nothing needs to be
 * stored for GPUs that are added or removed: a node whose GPU was removed no longer exists.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "sim/model/model.h"

struct tree;

enum { TREE_ROOT = 1 };

int tree_new(struct tree **ret_tree, struct model *model);
void tree_free(struct tree *tree);

/* Counts open device files, for /sys/module/nvidia/refcnt. Any thread may call it. */
void tree_add_open_files(struct tree *tree, int change);

/* Only one thread at a time may call the following functions. Returns 0, or -ENOENT if the node does not exist (any
 * more). */
int tree_lookup(struct tree *tree, uint64_t folder, const char *name, uint64_t *ret_node);
int tree_stat(struct tree *tree, uint64_t node, struct stat *ret_stat);

/* Whether the node exists as long as the tree and never changes: a folder that is not about a GPU. */
bool tree_is_lasting(uint64_t node);

/* Calls the function for each entry of a folder, until it returns false. */
typedef bool (*tree_visitor)(void *user, uint64_t node, const char *name, mode_t mode);
int tree_list(struct tree *tree, uint64_t folder, tree_visitor visit, void *user);

/* Returns the text of a file or the target of a link, which the caller frees. */
int tree_text(struct tree *tree, uint64_t node, char **ret_text, size_t *ret_length);

/* A write to a file of the PCI core, which sleeps (bus.h). tree_is_bus_file() says whether the node is such a file;
 * tree_bus_write() decodes the text, and returns 0 or negative errno. */
struct tree_bus_write {
        bool is_rescan; /* then the other members are unused */
        enum model_bus_file file;
        struct pci_address address;
};
bool tree_is_bus_file(uint64_t node);
int tree_bus_write(struct tree *tree, uint64_t node, const char *text, struct tree_bus_write *ret_write);

/* Other writable files. tree_write() writes the text, and returns 0 or negative errno. */
bool tree_is_writable(uint64_t node);
int tree_write(struct tree *tree, uint64_t node, const char *text);

/* Whether the node is a device file, and its kind and minor. */
bool tree_is_device(uint64_t node, enum model_node *ret_device, unsigned *ret_minor);

/* Returns the inode number of a device file, which is unique on the machine, so descriptors.h can count references. */
uint64_t tree_device_inode(const struct tree *tree, uint64_t node);
/* The same for the node of the GPU with that minor. */
uint64_t tree_gpu_inode(const struct tree *tree, unsigned minor);
