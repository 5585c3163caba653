#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What both sources of uevents have in common. */

#include "daemon/gpus/hotplug.h"

/*
 * As many as are read in one go, before anything else is served: an "unbind" is to be heard before the driver's own
 * notice of the bind that followed it, which takes another way.
 */
enum { HOTPLUG_EVENTS_MAX = 256 };

struct hotplug {
        struct hotplug_callbacks callbacks;
        struct event *readable;
        void (*end)(struct hotplug *hotplug); /* ends the source, and frees the struct that this is embedded in */
};

int hotplug_listen(struct hotplug *hotplug, struct event_base *loop, int fd, event_callback_fn on_readable);
