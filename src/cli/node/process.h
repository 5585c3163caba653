#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A process, from /proc: its user, its command, its start, and its container. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/node/container.h"

enum {
        PROCESS_USER_SIZE = 40,
        PROCESS_COMMAND_SIZE = 256,
};

struct process {
        pid_t pid;
        bool uid_known;
        uid_t uid;                          /* the real one */
        char user[PROCESS_USER_SIZE];       /* its name, or else the number; empty: unknown */
        char command[PROCESS_COMMAND_SIZE]; /* with arguments, printable, cut; empty: unknown */
        uint64_t start_realtime_usec;       /* 0: not known */
        bool contained;
        struct container container;
        bool hanging; /* a read hangs, so some of this is missing */
};

/*
 * Fills in processes whose pids are set, as far as /proc can be read. The read of a command line may hang, since it is
 * in the process' own memory (base/aside.h). Returns 0 or negative errno.
 */
int processes_read(struct process *processes, size_t n);
