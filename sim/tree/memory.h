#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel's memory blocks of GPU memory that user space brings online. A block appears, offline, when its address is
 * written to `probe`; writes to its `state` bring it online or offline. Only one thread at a time may use this.
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

/* Gets the n-th block in ascending order, from 0. Returns whether it exists. */
bool memory_nth(const struct memory_front *memory, size_t n, uint64_t *ret_block);

/* A write to `probe`, or to a block's `state`. Returns 0 or the kernel's negative errno. */
int memory_probe(struct memory_front *memory, const char *text);
int memory_set_state(struct memory_front *memory, uint64_t block, const char *text);
