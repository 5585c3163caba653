/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/text.h"

struct block {
        uint64_t number;
        bool online;
};

struct memory_front {
        struct model *model;
        struct block *blocks; /* ascending */
        size_t n_blocks;
};

int memory_new(struct memory_front **ret_memory, struct model *model) {
        struct memory_front *memory = calloc(1, sizeof(*memory));

        if (!memory)
                return -ENOMEM;
        memory->model = model;
        *ret_memory = memory;
        return 0;
}

void memory_free(struct memory_front *memory) {
        if (memory)
                free(memory->blocks);
        free(memory);
}

static int compare_blocks(const void *left, const void *right) {
        const struct block *a = left, *b = right;

        return (a->number > b->number) - (a->number < b->number);
}

static struct block *find(const struct memory_front *memory, uint64_t number) {
        const struct block key = {.number = number};

        if (memory->n_blocks == 0)
                return NULL;
        return bsearch(&key, memory->blocks, memory->n_blocks, sizeof(key), compare_blocks);
}

enum memory_state memory_state(const struct memory_front *memory, uint64_t block) {
        const struct block *found = find(memory, block);

        if (!found)
                return MEMORY_NONE;
        return found->online ? MEMORY_ONLINE : MEMORY_OFFLINE;
}

bool memory_nth(const struct memory_front *memory, size_t n, uint64_t *ret_block) {
        if (n >= memory->n_blocks)
                return false;
        *ret_block = memory->blocks[n].number;
        return true;
}

/* ---- probe ---- */

/* Whether it is in the memory of a GPU, which exists for the kernel only while the GPU is initialised. */
static bool is_gpu_memory(const struct memory_front *memory, uint64_t address) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(memory->model, views);

        for (size_t i = 0; i < n_views; i++) {
                const struct model_numa *numa = &views[i].numa;

                if (views[i].initialised && numa->status != NV_NUMA_DISABLED && !numa->auto_online &&
                    address - numa->memory_address < numa->memory_size)
                        return true;
        }
        return false;
}

static int add(struct memory_front *memory, uint64_t number) {
        struct block *blocks = array_grown(memory->blocks, memory->n_blocks, sizeof(*blocks));

        if (!blocks)
                return -ENOMEM;
        memory->blocks = blocks;
        blocks[memory->n_blocks++] = (struct block){.number = number};
        qsort(blocks, memory->n_blocks, sizeof(*blocks), compare_blocks);
        return 0;
}

int memory_probe(struct memory_front *memory, const char *text) {
        uint64_t address;

        if (!text_starts_with(text, "0x") || text_parse_u64(text + 2, 16, UINT64_MAX, &address) < 0)
                return -EINVAL;
        if (address % MEMORY_BLOCK_BYTES != 0 || !is_gpu_memory(memory, address))
                return -EINVAL;
        return find(memory, address / MEMORY_BLOCK_BYTES) ? -EEXIST : add(memory, address / MEMORY_BLOCK_BYTES);
}

/* ---- state ---- */

int memory_set_state(struct memory_front *memory, uint64_t block, const char *text) {
        struct block *found = find(memory, block);

        if (!found)
                return -ENODEV;
        if (!text_equal(text, "online_movable") && !text_equal(text, "offline"))
                return -EINVAL; /* the kernel supports other values, which are wrong for memory that must be removable
                                 */
        found->online = text_equal(text, "online_movable");
        return 0;
}
