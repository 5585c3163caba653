/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Replaces hotplug_udev.c where libudev is missing: changes are not reported. */

#include <errno.h>

#include "daemon/gpus/hotplug.h"

int hotplug_new_udev(struct hotplug **ret_hotplug, struct event_base *loop, const struct hotplug_callbacks *callbacks) {
        return -EOPNOTSUPP;
}
