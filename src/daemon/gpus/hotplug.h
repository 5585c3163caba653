#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Reports GPUs that come and go, from the kernel's uevents: PCI devices added, bound, unbound or removed, and the
 * nvidia module itself. With another root directory (base/locations.h) a simulated driver sends the same text as
 * datagrams to <runtime directory>/uevents.
 *
 *      real system    netlink, through libudev (hotplug_udev.c), which checks that the kernel is the sender
 *      another root   a Unix datagram socket (hotplug_socket.c)
 */

#include <event2/event.h>

#include "gpu/pci.h"

enum hotplug_action {
        HOTPLUG_CHANGED, /* GPUs may have come or gone: scan again */
        HOTPLUG_REMOVED, /* this device was unbound or removed */
};

struct hotplug;

struct hotplug_callbacks {
        /* address: the device, with HOTPLUG_REMOVED only. */
        void (*on_event)(enum hotplug_action action, const struct pci_address *address, void *userdata);
        void *userdata;
};

/* Return 0 or negative errno; after a failure nothing reports changes, so the registry must poll. They log nothing. */
int hotplug_new_udev(struct hotplug **ret_hotplug, struct event_base *loop, const struct hotplug_callbacks *callbacks);
int hotplug_new_socket(struct hotplug **ret_hotplug, struct event_base *loop, const char *path,
                       const struct hotplug_callbacks *callbacks);
void hotplug_free(struct hotplug *hotplug);

/*
 * Interprets a uevent. action, subsystem, driver and device (a path or a PCI address) are the kernel's texts; NULL: the
 * uevent does not have it. Returns whether the uevent concerns us; *ret_address is set with HOTPLUG_REMOVED.
 */
bool hotplug_judge(const char *action, const char *subsystem, const char *driver, const char *device,
                   enum hotplug_action *ret_action, struct pci_address *ret_address);

/*
 * Reads a uevent's text ("add@/devices/...\0ACTION=add\0SUBSYSTEM=pci\0...", as the kernel sends it) and interprets it.
 * The bytes may be anything.
 */
bool hotplug_parse(const char *bytes, size_t size, enum hotplug_action *ret_action, struct pci_address *ret_address);
