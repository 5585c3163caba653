#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulated file tree: dev, proc, sys, run. It has names, modes and texts, and does not depend on FUSE.
 *
 * A node is a number that tells all about itself: which row of the table it is, and for which GPU (by PCI address) or
 * minor. So nothing needs remembering when GPUs come and go: a node whose GPU is gone is just not there any more.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "sim/model/model.h"

struct tree;

enum { TREE_ROOT = 1 };

int tree_new(struct tree **ret_tree, struct model *model);
void tree_free(struct tree *tree);

/* Keeps count of open device files, for /sys/module/nvidia/refcnt. Any thread. */
void tree_add_open_files(struct tree *tree, int change);

/* The rest is for one thread at a time. Returns 0 or -ENOENT where the node is not, or no longer. */
int tree_lookup(struct tree *tree, uint64_t folder, const char *name, uint64_t *ret_node);
int tree_stat(struct tree *tree, uint64_t node, struct stat *ret_stat);

/* Whether the node is there as long as the tree is, and always the same: a folder that is about no GPU. */
bool tree_is_lasting(uint64_t node);

/* What a folder holds: called for each, until it returns false. */
typedef bool (*tree_visitor)(void *user, uint64_t node, const char *name, mode_t mode);
int tree_list(struct tree *tree, uint64_t folder, tree_visitor visit, void *user);

/* The text of a file or the target of a link, to be freed by the caller. */
int tree_text(struct tree *tree, uint64_t node, char **ret_text, size_t *ret_length);

/* Whether a write to the file is the PCI core's, which sleeps (bus.h), and what it asks for. Returns 0 or negative
 * errno.
 */
struct tree_bus_write {
        bool is_rescan; /* then the rest is unused */
        enum model_bus_file file;
        struct pci_address address;
};
bool tree_is_bus_file(uint64_t node);
int tree_bus_write(struct tree *tree, uint64_t node, const char *text, struct tree_bus_write *ret_write);

/* Whether the file is one to write to, and a write of that text to another one. Returns 0 or negative errno. */
bool tree_is_writable(uint64_t node);
int tree_write(struct tree *tree, uint64_t node, const char *text);

/* Whether the node is a device file, and which. */
bool tree_is_device(uint64_t node, enum model_node *ret_device, unsigned *ret_minor);

/* The inode number of a device file: unlike any other on the machine, so that descriptors.h can count references to it.
 */
uint64_t tree_device_inode(const struct tree *tree, uint64_t node);
/* The same for the GPU with that minor. */
uint64_t tree_gpu_inode(const struct tree *tree, unsigned minor);
