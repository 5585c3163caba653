/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "sim/tree/memory.h"
#include "sim/tree/rows.h"
#include "sim/tree/sysfs.h"

enum {
        NODE_ROW_BITS = 16, /* a node: key << 16 | row */
        MINORS_MAX = 256,
        SYSFS_SIZE = 4096, /* sysfs reports this size for every file */
};

#define BLOCK_PREFIX "memory"

struct tree {
        struct model *model;
        struct memory_front *memory;
        atomic_int n_open_files;
        uint64_t inode_tag; /* in the inode numbers of this simulator's device files */
        time_t started;
        /* Each look-up of `unbind` returns a new node: the kernel locks a node during a write, which may wait for long.
         * In the real sysfs, such a write does not block other writers. */
        uint64_t n_unbinders;
        bool minors[MINORS_MAX]; /* ever used: user space makes the nodes, so nodes of removed GPUs stay */
        struct model_gpu_view gpus[SCENARIO_GPUS_MAX];
        size_t n_gpus;
};

static uint64_t make_node(enum row_id row, uint64_t key) {
        return key << NODE_ROW_BITS | row;
}

static enum row_id node_row(uint64_t node) {
        return node & ((1U << NODE_ROW_BITS) - 1);
}

static uint64_t node_key(uint64_t node) {
        return node >> NODE_ROW_BITS;
}

static uint64_t address_key(const struct pci_address *address) {
        return (uint64_t)address->domain << 16 | address->bus << 8 | (address->slot & 0x1f) << 3 |
               (address->function & 7);
}

/* Whether this row is about a GPU. */
static bool is_of_gpu(enum row_id row) {
        while (row != ROW_NONE && !rows[row].gpu_name)
                row = rows[row].folder;
        return row != ROW_NONE;
}

static bool is_below(enum row_id row, enum row_id folder) {
        while (row != ROW_NONE && row != folder)
                row = rows[row].folder;
        return row == folder;
}

static void refresh(struct tree *tree) {
        tree->n_gpus = model_list(tree->model, tree->gpus);
        for (size_t i = 0; i < tree->n_gpus; i++)
                if (tree->gpus[i].minor < MINORS_MAX)
                        tree->minors[tree->gpus[i].minor] = true;
}

static const struct model_gpu_view *find_gpu(const struct tree *tree, uint64_t node) {
        if (!is_of_gpu(node_row(node)))
                return NULL;
        for (size_t i = 0; i < tree->n_gpus; i++)
                if (address_key(&tree->gpus[i].spec.address) == node_key(node))
                        return &tree->gpus[i];
        return NULL;
}

/* Whether the node exists: for a GPU's node, whether it and the folders above it are shown for that GPU. */
static bool node_exists(const struct tree *tree, uint64_t node) {
        const struct model_gpu_view *gpu = find_gpu(tree, node);
        enum row_id row = node_row(node);

        if (row == ROW_NONE || row >= N_ROWS)
                return false;
        if (row == ROW_DEV_GPU)
                return node_key(node) < MINORS_MAX && tree->minors[node_key(node)];
        if (is_below(row, ROW_MEMORY_BLOCK))
                return memory_state(tree->memory, node_key(node)) != MEMORY_NONE;
        if (row == ROW_MEMORY_PROBE && !model_scenario(tree->model)->memory_probe)
                return false;
        if (!is_of_gpu(row))
                return node_key(node) == 0 || row == ROW_DRIVER_UNBIND;
        for (; gpu && row != ROW_NONE; row = rows[row].folder)
                if (rows[row].shown && !rows[row].shown(gpu))
                        return false;
        return gpu;
}

int tree_new(struct tree **ret_tree, struct model *model) {
        struct tree *tree = calloc(1, sizeof(*tree));
        uint32_t random;

        if (!tree || memory_new(&tree->memory, model) < 0) {
                free(tree);
                return -ENOMEM;
        }
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                random = (uint32_t)time(NULL);
        tree->model = model;
        tree->inode_tag = UINT64_C(0x4846) << 48 | (uint64_t)random << 16;
        tree->started = time(NULL);
        *ret_tree = tree;
        return 0;
}

void tree_free(struct tree *tree) {
        if (tree)
                memory_free(tree->memory);
        free(tree);
}

void tree_add_open_files(struct tree *tree, int change) {
        (void)atomic_fetch_add(&tree->n_open_files, change);
}

/* ---- folders ---- */

static bool list_minors(const struct tree *tree, tree_visitor visit, void *user) {
        char name[ROW_NAME_SIZE];

        for (unsigned minor = 0; minor < MINORS_MAX; minor++) {
                if (!tree->minors[minor])
                        continue;
                (void)text_format(name, sizeof(name), "nvidia%u", minor);
                if (!visit(user, make_node(ROW_DEV_GPU, minor), name, rows[ROW_DEV_GPU].mode))
                        return false;
        }
        return true;
}

static bool list_blocks(const struct tree *tree, tree_visitor visit, void *user) {
        char name[ROW_NAME_SIZE];
        uint64_t block;

        for (size_t i = 0; memory_nth(tree->memory, i, &block); i++) {
                (void)text_format(name, sizeof(name), BLOCK_PREFIX "%" PRIu64, block);
                if (!visit(user, make_node(ROW_MEMORY_BLOCK, block), name, rows[ROW_MEMORY_BLOCK].mode))
                        return false;
        }
        return true;
}

/* A GPU's folder contains only that GPU's files. */
static bool list_gpus(const struct tree *tree, uint64_t folder, enum row_id row, tree_visitor visit, void *user) {
        const struct model_gpu_view *only = find_gpu(tree, folder);
        char name[ROW_NAME_SIZE];

        for (size_t i = 0; i < tree->n_gpus; i++) {
                const struct model_gpu_view *gpu = &tree->gpus[i];

                if ((only && gpu != only) || !rows[row].shown(gpu))
                        continue;
                rows[row].gpu_name(gpu, name);
                if (!visit(user, make_node(row, address_key(&gpu->spec.address)), name, rows[row].mode))
                        return false;
        }
        return true;
}

static bool list_row(const struct tree *tree, uint64_t folder, enum row_id row, tree_visitor visit, void *user) {
        uint64_t node = make_node(row, node_key(folder));

        if (row == ROW_DEV_GPU)
                return list_minors(tree, visit, user);
        if (row == ROW_MEMORY_BLOCK)
                return list_blocks(tree, visit, user);
        if (rows[row].gpu_name)
                return list_gpus(tree, folder, row, visit, user);
        return !node_exists(tree, node) || visit(user, node, rows[row].name, rows[row].mode);
}

int tree_list(struct tree *tree, uint64_t folder, tree_visitor visit, void *user) {
        refresh(tree);
        if (!node_exists(tree, folder))
                return -ENOENT;
        for (enum row_id row = ROW_ROOT; row < N_ROWS; row++)
                if (rows[row].folder == node_row(folder) && !list_row(tree, folder, row, visit, user))
                        break;
        return 0;
}

struct search {
        const char *name;
        uint64_t node;
};

static bool match_name(void *user, uint64_t node, const char *name, mode_t mode) {
        struct search *search = user;

        if (!text_equal(search->name, name))
                return true;
        search->node = node;
        return false;
}

/* There are hundreds of blocks, and each is looked up several times, so listing all of them would be too slow. */
static bool is_block(const struct tree *tree, uint64_t folder, const char *name, uint64_t *ret_node) {
        uint64_t block;

        if (node_row(folder) != ROW_SYS_MEMORY || !text_starts_with(name, BLOCK_PREFIX) ||
            text_parse_u64(name + strlen(BLOCK_PREFIX), 10, UINT32_MAX, &block) < 0)
                return false;
        *ret_node = make_node(ROW_MEMORY_BLOCK, block);
        return node_exists(tree, *ret_node);
}

int tree_lookup(struct tree *tree, uint64_t folder, const char *name, uint64_t *ret_node) {
        struct search search = {.name = name};
        int r;

        if (is_block(tree, folder, name, ret_node))
                return 0;
        r = tree_list(tree, folder, match_name, &search);

        if (r < 0 || search.node == 0)
                return -ENOENT;
        *ret_node = search.node;
        if (node_row(search.node) == ROW_DRIVER_UNBIND)
                *ret_node = make_node(ROW_DRIVER_UNBIND, ++tree->n_unbinders);
        return 0;
}

/* ---- one node ---- */

int tree_text(struct tree *tree, uint64_t node, char **ret_text, size_t *ret_length) {
        const struct row *row = &rows[node_row(node)];
        struct procfs_source source = {.scenario = model_scenario(tree->model)};
        char *text = NULL;
        size_t length;
        FILE *out;

        refresh(tree);
        if (!node_exists(tree, node) || (!row->text && !row->fixed))
                return -ENOENT;
        source.gpu = find_gpu(tree, node);
        source.block_online = memory_state(tree->memory, node_key(node)) == MEMORY_ONLINE;
        source.n_open_files = (unsigned)atomic_load(&tree->n_open_files);
        source.value = row->value;
        out = open_memstream(&text, &length);
        if (!out)
                return -ENOMEM;
        if (row->fixed)
                (void)fputs(row->fixed, out);
        else
                row->text(out, &source);
        if (fclose(out) != 0) {
                free(text);
                return -ENOMEM;
        }
        *ret_text = text;
        *ret_length = length;
        return 0;
}

bool tree_is_bus_file(uint64_t node) {
        switch (node_row(node)) {
        case ROW_DRIVER_BIND:
        case ROW_DRIVER_UNBIND:
        case ROW_PCI_REMOVE:
        case ROW_PCI_RESCAN:
        case ROW_PCI_RESET:
                return true;
        default:
                return false;
        }
}

/* A write to a file of the driver contains the GPU's address; a write to a GPU's own file is just 1. */
int tree_bus_write(struct tree *tree, uint64_t node, const char *text, struct tree_bus_write *ret_write) {
        enum row_id row = node_row(node);
        const struct model_gpu_view *gpu;

        *ret_write = (struct tree_bus_write){.is_rescan = row == ROW_PCI_RESCAN};
        if (row == ROW_DRIVER_BIND || row == ROW_DRIVER_UNBIND) {
                ret_write->file = row == ROW_DRIVER_BIND ? MODEL_BUS_BIND : MODEL_BUS_UNBIND;
                return pci_address_parse(text, &ret_write->address) < 0 ? -ENODEV : 0;
        }
        if (!text_equal(text, "1"))
                return -EINVAL;
        if (row == ROW_PCI_RESCAN)
                return 0;
        refresh(tree);
        gpu = find_gpu(tree, node);
        if (!gpu)
                return -ENODEV;
        ret_write->file = row == ROW_PCI_RESET ? MODEL_BUS_RESET : MODEL_BUS_REMOVE;
        ret_write->address = gpu->spec.address;
        return 0;
}

bool tree_is_writable(uint64_t node) {
        return (rows[node_row(node)].mode & S_IWUSR) && is_below(node_row(node), ROW_SYS);
}

int tree_write(struct tree *tree, uint64_t node, const char *text) {
        if (node_row(node) == ROW_MEMORY_PROBE)
                return memory_probe(tree->memory, text);
        if (node_row(node) == ROW_BRIDGE_CONFIG)
                return 0;
        if (node_row(node) == ROW_BLOCK_STATE)
                return memory_set_state(tree->memory, node_key(node), text);
        return -EACCES;
}

static off_t node_size(struct tree *tree, uint64_t node) {
        CLEANUP(free_ptr) char *target = NULL;
        size_t length;

        if (S_ISLNK(rows[node_row(node)].mode))
                return tree_text(tree, node, &target, &length) == 0 ? (off_t)length : 0;
        if (node_row(node) == ROW_PCI_CONFIG || node_row(node) == ROW_BRIDGE_CONFIG)
                return SYSFS_CONFIG_SIZE;
        return S_ISREG(rows[node_row(node)].mode) && is_below(node_row(node), ROW_SYS) ? SYSFS_SIZE : 0;
}

int tree_stat(struct tree *tree, uint64_t node, struct stat *ret_stat) {
        enum model_node device;
        unsigned minor;

        refresh(tree);
        if (!node_exists(tree, node))
                return -ENOENT;
        *ret_stat = (struct stat){
                .st_ino = tree_is_device(node, &device, &minor) ? tree_device_inode(tree, node) : node,
                .st_mode = rows[node_row(node)].mode,
                .st_nlink = S_ISDIR(rows[node_row(node)].mode) ? 2 : 1,
                .st_size = node_size(tree, node),
                .st_blksize = SYSFS_SIZE,
                .st_atim.tv_sec = tree->started,
                .st_mtim.tv_sec = tree->started,
                .st_ctim.tv_sec = tree->started,
        };
        return 0;
}

bool tree_is_lasting(uint64_t node) {
        enum row_id row = node_row(node);

        return S_ISDIR(rows[row].mode) && !is_of_gpu(row) && !is_below(row, ROW_MEMORY_BLOCK);
}

bool tree_is_device(uint64_t node, enum model_node *ret_device, unsigned *ret_minor) {
        switch (node_row(node)) {
        case ROW_DEV_CTL:
                *ret_device = MODEL_NODE_CTL;
                *ret_minor = NV_MINOR_CTL;
                return true;
        case ROW_DEV_GPU:
                *ret_device = MODEL_NODE_GPU;
                *ret_minor = (unsigned)node_key(node);
                return true;
        case ROW_DEV_UVM:
                *ret_device = MODEL_NODE_UVM;
                *ret_minor = 0;
                return true;
        default:
                return false;
        }
}

uint64_t tree_device_inode(const struct tree *tree, uint64_t node) {
        return tree->inode_tag | (node_row(node) << 8) | node_key(node);
}

uint64_t tree_gpu_inode(const struct tree *tree, unsigned minor) {
        return tree_device_inode(tree, make_node(ROW_DEV_GPU, minor));
}
