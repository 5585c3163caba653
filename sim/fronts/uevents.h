#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel's uevents about simulated GPUs, as datagrams with the text that netlink would carry, to a daemon that
 * listens for them below the root (src/daemon/gpus/hotplug.h). A thread sends them in their order: the model must not
 * wait for a receiver. Nobody listens: they are gone, as the kernel's are.
 */

#include "sim/model/model.h"

struct uevents;

/* run_fd is a descriptor of the root's run folder, and stays the caller's. Returns 0 or negative errno. */
int uevents_new(struct uevents **ret_uevents, struct model *model, int run_fd);

/* Tells that the driver was loaded, and which GPUs it has bound. */
void uevents_send_loaded(struct uevents *uevents);

/* After model_stop(). NULL is nothing. */
void uevents_free(struct uevents *uevents);
