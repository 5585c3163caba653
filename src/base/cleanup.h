#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Ownership that is visible at the declaration: for a variable marked CLEANUP(f), f(&variable) is called when its scope
 * ends, on every path. take_ptr() moves a pointer out and leaves NULL, for which f does nothing.
 */

#include <stdbool.h>
#include <stdlib.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

static inline void free_ptr(void *pointer_to_pointer) {
        free(*(void **)pointer_to_pointer);
}

/* Returns the pointer's value and sets the pointer to NULL. */
#define take_ptr(pointer)                                                                                              \
        ({                                                                                                             \
                __typeof__(pointer) taken_ = (pointer);                                                                \
                (pointer) = NULL;                                                                                      \
                taken_;                                                                                                \
        })

/* Returns the flag's value and sets the flag to false. */
static inline bool take_bool(bool *flag) {
        bool taken = *flag;

        *flag = false;
        return taken;
}

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The struct that contains *pointer as its member. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - __builtin_offsetof(type, member)))
