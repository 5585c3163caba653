#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reads things that may hang, in a child process that can be abandoned. A read in /proc can wait for the memory of
 * another process, for a file system whose server is dead, or for a driver. No signal ends some of these waits, so a
 * thread that hangs in one would prevent the whole process from ending.
 *
 *      this process                    child (fork; it has no descriptor but the pipe)
 *        <------ answer --------       item 0
 *        <------ answer --------       item 1
 *        nothing for 2 s               item 2 hangs: the child is killed, and left behind if it cannot die
 *                                      another child continues with item 3
 *
 * Only for programs with one thread: the child continues as a copy of this process, without exec.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
        ASIDE_STALL_MSEC = 2000,  /* an item that takes longer is skipped */
        ASIDE_TOTAL_MSEC = 10000, /* after this time, all remaining items are skipped */
};

/* What the child reports about one item. */
struct aside_answer {
        char *bytes;
        size_t size;
        size_t room;
};

struct aside {
        size_t n;          /* items */
        size_t stalls_max; /* so many items may hang; after one more, no further child is started */
        bool in_any_order; /* several children may read items at the same time */
        /* Runs in the child: reads the item and reports about it. Returns 0, or negative errno, which ends the whole
         * run. */
        int (*look)(void *userdata, size_t item, struct aside_answer *answer);
        /* Runs in this process: receives an answer that is not empty. Called in the order of the items, unless
         * in_any_order. Returns like look. */
        int (*take)(void *userdata, size_t item, const char *bytes, size_t size);
        void *userdata;
};

struct aside_gap {
        size_t n_left;     /* skipped items */
        size_t first_left; /* the first of them; valid if n_left is not 0 */
};

/* Reads all items. Returns 0, also if some were skipped (*ret_gap), or negative errno. */
int aside_run(const struct aside *aside, struct aside_gap *ret_gap);

/* For look(): appends to the answer. Returns 0 or -ENOMEM. */
int aside_tell(struct aside_answer *answer, const void *bytes, size_t size);

/* Like file_read(), but in a child process. Also returns -ETIMEDOUT if the read hangs. */
ssize_t aside_read_file(const char *path, char *buffer, size_t size);
