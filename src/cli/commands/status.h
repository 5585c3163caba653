#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The inside of `holdfast status`: status.c looks once, status_watch.c goes on looking. */

#include "cli/args/command.h"
#include "cli/args/ids.h"

enum {
        STATUS_SNAPSHOT = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE,
};

struct status_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
        bool watch;
};

/*
 * Which GPUs are meant: an array that the caller frees. Returns 0, -ENOMEM, or as ids_resolve(), with a sentence in
 * error.
 */
int status_select(const struct ids *gpus, const struct snapshot *snapshot, bool **ret_selected, char *error,
                  size_t error_size);

/* The exit status to an error of status_select(). */
int status_of_selection(int error);

/* Shows it again with every change until told to stop. Returns the exit status. */
int status_watch(const struct invocation *invocation);
