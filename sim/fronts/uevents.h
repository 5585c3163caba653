#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Sends uevents about simulated GPUs as datagrams with the text of the kernel's netlink messages, to a daemon that
 * listens below the root (src/daemon/gpus/hotplug.h). A separate thread sends them in order, since the model must not
 * wait for a receiver. If no process listens, they are lost, as the kernel's are.
 */

#include "sim/model/model.h"

struct uevents;

/* run_fd is a descriptor of the root's run folder, and stays the caller's. Returns 0 or negative errno. */
int uevents_new(struct uevents **ret_uevents, struct model *model, int run_fd);

/* Sends the events for the loaded driver and the GPUs that it has bound. */
void uevents_send_loaded(struct uevents *uevents);

/* Call this after model_stop(). NULL is ignored. */
void uevents_free(struct uevents *uevents);
