#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Looks at things that may hang, in a child process that can be given up. A read below /proc can wait for another
 * process' memory, for a file system whose server is dead, or for a driver; no signal ends some of these waits, so a
 * thread would keep the whole process from ending.
 *
 *      this process                    child (fork; it has no descriptor but the pipe)
 *        <------ answer --------       item 0
 *        <------ answer --------       item 1
 *        nothing for 2 s               item 2 hangs: killed, and left behind if it cannot die
 *                                      another child goes on with item 3
 *
 * Only for programs with one thread: the child is a copy that goes on running.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
        ASIDE_STALL_MSEC = 2000,  /* an item that takes longer is left out */
        ASIDE_TOTAL_MSEC = 10000, /* then all that remain are left out */
};

/* What the child has to tell about one item. */
struct aside_answer {
        char *bytes;
        size_t size;
        size_t room;
};

struct aside {
        size_t n;          /* items */
        size_t stalls_max; /* so many items may hang, and the next ones are looked at nevertheless */
        bool in_any_order; /* several children may look at items at the same time */
        /* In the child: reads the item and reports on it. Returns 0, or negative errno, which ends the whole run. */
        int (*look)(void *userdata, size_t item, struct aside_answer *answer);
        /* Here: takes an answer that is not empty. Called in the order of the items, unless in_any_order. Returns as
         * look does. */
        int (*take)(void *userdata, size_t item, const char *bytes, size_t size);
        void *userdata;
};

struct aside_gap {
        size_t n_left;     /* items that were left out */
        size_t first_left; /* the first of them, if there is one */
};

/* Looks at all items. Returns 0, also when some had to be left out: *ret_gap says so; or negative errno. */
int aside_run(const struct aside *aside, struct aside_gap *ret_gap);

/* In look(): appends to the answer. Returns 0 or -ENOMEM. */
int aside_tell(struct aside_answer *answer, const void *bytes, size_t size);

/* file_read() aside. Returns as it does; -ETIMEDOUT when the read hangs. */
ssize_t aside_read_file(const char *path, char *buffer, size_t size);
