#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What /proc tells about one process: whose it is, what it runs, since when, and in which container. */

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
        uid_t uid;                          /* real, of whoever started it */
        char user[PROCESS_USER_SIZE];       /* its name, or the number where it has none; empty: not known */
        char command[PROCESS_COMMAND_SIZE]; /* with arguments, printable, cut; empty: not known */
        uint64_t start_realtime_usec;       /* 0: not known */
        bool contained;
        struct container container;
        bool hanging; /* a read about it hangs, so some of this is missing */
};

/*
 * Fills in what can be read of processes whose pids are set; what cannot stays empty. A process decides what is behind
 * its own command line, so the read may hang (base/aside.h). Returns 0 or negative errno.
 */
int processes_read(struct process *processes, size_t n);
