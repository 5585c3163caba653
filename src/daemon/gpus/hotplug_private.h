#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Internals of hot-plug, for both sources of uevents only. */

#include "daemon/gpus/hotplug.h"

/*
 * The number of events that are read before anything else is served. It must be large: an "unbind" must be noticed
 * before the driver's own notice of the next bind, which arrives on another descriptor.
 */
enum { HOTPLUG_EVENTS_MAX = 256 };

struct hotplug {
        struct hotplug_callbacks callbacks;
        struct event *readable;
        void (*end)(struct hotplug *hotplug); /* ends the source, and frees the struct that this is embedded in */
};

int hotplug_listen(struct hotplug *hotplug, struct event_base *loop, int fd, event_callback_fn on_readable);
