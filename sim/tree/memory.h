#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel's memory blocks, as far as they are GPUs' memory that is left to user space: none is there until its
 * address is written to `probe`, then it is offline, and on- or offline as is written to its `state`. For one thread at
 * a time.
 */

#include "sim/model/model.h"

#define MEMORY_BLOCK_BYTES (UINT64_C(128) << 20)

enum memory_state {
        MEMORY_NONE, /* no such block */
        MEMORY_OFFLINE,
        MEMORY_ONLINE,
};

struct memory_front;

int memory_new(struct memory_front **ret_memory, struct model *model);
void memory_free(struct memory_front *memory);

enum memory_state memory_state(const struct memory_front *memory, uint64_t block);

/* The n-th block in ascending order, from 0. Returns whether there is one. */
bool memory_nth(const struct memory_front *memory, size_t n, uint64_t *ret_block);

/* What a write to `probe`, or to a block's `state`, does. Returns 0 or negative errno, as the kernel. */
int memory_probe(struct memory_front *memory, const char *text);
int memory_set_state(struct memory_front *memory, uint64_t block, const char *text);
