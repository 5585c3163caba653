#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What we receive at the start: from the service manager a socket and a descriptor of the kernel log; from a keeper the
 * GPUs that a previous daemon held.
 */

#include <stdbool.h>

#include "daemon/gpus/registry.h"
#include "daemon/manager/keeper_link.h"

struct inherit {
        struct registry *registry;
        struct keeper_link *keeper;
        bool adopts;   /* the backend can adopt what another process has opened */
        int listen_fd; /* -1: none, or the server has it */
        int log_fd;    /* -1: none, or the registry has it; set before inherit_passed() if we could open the log */
};

/*
 * Hands the registry a descriptor of a GPU that a previous daemon held. The registry combines those of one GPU. Returns
 * true if it did; then the registry owns fd. userdata is a struct inherit.
 */
bool inherit_gpu(const char *name, int fd, void *userdata);

/* Takes all descriptors that the service manager has passed, and closes those that nobody needs. */
void inherit_passed(struct inherit *inherit);

/* Closes what is left. */
void inherit_done(struct inherit *inherit);
