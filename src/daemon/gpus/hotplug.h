#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPUs that come and go, as the kernel tells it in uevents: PCI devices added, bound, unbound, removed, and the nvidia
 * module itself. With a root, where there is no kernel to tell, a simulated driver sends the same text as datagrams to
 * <runtime directory>/uevents.
 *
 *      real system   netlink, through libudev (hotplug_udev.c), which checks that the kernel is the sender
 *      with a root   a Unix datagram socket (hotplug_socket.c)
 */

#include <event2/event.h>

#include "gpu/pci.h"

enum hotplug_action {
        HOTPLUG_CHANGED, /* something came: scan again */
        HOTPLUG_REMOVED, /* this device was unbound or removed */
};

struct hotplug;

struct hotplug_callbacks {
        /* address: which, with HOTPLUG_REMOVED. */
        void (*on_event)(enum hotplug_action action, const struct pci_address *address, void *userdata);
        void *userdata;
};

/* Returns 0, or negative errno: nobody reports changes, so that the registry has to poll. Logs nothing. */
int hotplug_new_udev(struct hotplug **ret_hotplug, struct event_base *loop, const struct hotplug_callbacks *callbacks);
int hotplug_new_socket(struct hotplug **ret_hotplug, struct event_base *loop, const char *path,
                       const struct hotplug_callbacks *callbacks);
void hotplug_free(struct hotplug *hotplug);

/*
 * A uevent's meaning for us. action, subsystem, driver and device (a path or a PCI address) as the kernel names them;
 * NULL for what it does not tell. Returns whether it concerns us; *ret_address is set with HOTPLUG_REMOVED.
 */
bool hotplug_judge(const char *action, const char *subsystem, const char *driver, const char *device,
                   enum hotplug_action *ret_action, struct pci_address *ret_address);

/*
 * Reads a uevent's text ("add@/devices/...\0ACTION=add\0SUBSYSTEM=pci\0...", as the kernel sends it) and judges it. Any
 * bytes at all may come.
 */
bool hotplug_parse(const char *bytes, size_t size, enum hotplug_action *ret_action, struct pci_address *ret_address);
