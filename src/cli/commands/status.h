#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The inside of `holdfast status`: status.c looks once, status_watch.c goes on looking. */

#include "cli/args/command.h"

enum {
        STATUS_SNAPSHOT = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE,
};

struct status_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
        bool watch;
};

/* As ids_select(), but here "all" includes what the administrator excluded: it is to be seen. */
int status_select(const struct ids *gpus, struct snapshot *snapshot, char *error, size_t error_size);

/* Shows it again with every change until told to stop. Returns the exit status. */
int status_watch(const struct invocation *invocation);
