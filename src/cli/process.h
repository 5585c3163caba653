#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What /proc tells about one process: whose it is, what it runs, since when, and in which container. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/container.h"

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
};

/* Reads what can be read; what cannot stays empty. */
void process_read(pid_t pid, struct process *ret_process);
