#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Ownership shown at the declaration: a variable marked CLEANUP(f) is given up by f(&variable) when its scope ends,
 * on every path. take_ptr() moves a pointer out, so that the scope's end finds NULL and does nothing.
 */

#include <stdbool.h>
#include <stdlib.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

static inline void free_ptr(void *pointer_to_pointer) {
        free(*(void **)pointer_to_pointer);
}

/* Moves the pointer's value out and leaves NULL behind. */
#define take_ptr(pointer)                                                                                              \
        ({                                                                                                             \
                __typeof__(pointer) taken_ = (pointer);                                                                \
                (pointer) = NULL;                                                                                      \
                taken_;                                                                                                \
        })

/* Reads a flag and takes it down. */
static inline bool take_bool(bool *flag) {
        bool taken = *flag;

        *flag = false;
        return taken;
}

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* container_of: the struct that embeds *member. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - __builtin_offsetof(type, member)))
