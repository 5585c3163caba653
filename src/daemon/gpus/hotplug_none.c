/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* In the place of hotplug_udev.c where libudev is missing: nobody tells of changes. */

#include <errno.h>

#include "daemon/gpus/hotplug.h"

int hotplug_new_udev(struct hotplug **ret_hotplug, struct event_base *loop, const struct hotplug_callbacks *callbacks) {
        return -EOPNOTSUPP;
}
