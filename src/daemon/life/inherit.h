#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What we are handed at the start: by the service manager a socket and a descriptor of the kernel log, by a keeper GPUs
 * that a daemon before us has held.
 */

#include <stdbool.h>

#include "daemon/gpus/registry.h"
#include "daemon/manager/keeper_link.h"

struct inherit {
        struct registry *registry;
        struct keeper_link *keeper;
        bool adopts;   /* the backend goes on with what another process has opened */
        int listen_fd; /* -1: none; until the server has it */
        int log_fd;    /* -1: none; until the registry has it. One that root has opened is there before */
};

/*
 * A descriptor of a GPU that a daemon before us has held. Those of one GPU come one by one: each is handed in alone,
 * and they meet in the registry. Returns whether it is one of a GPU's; then the descriptor is the registry's. userdata
 * is a struct inherit.
 */
bool inherit_gpu(const char *name, int fd, void *userdata);

/* Takes everything that the service manager passes. */
void inherit_passed(struct inherit *inherit);

/* Closes what nobody took. */
void inherit_done(struct inherit *inherit);
