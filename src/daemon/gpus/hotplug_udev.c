/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include <errno.h>
#include <stdlib.h>

#include <libudev.h>

#include "base/cleanup.h"
#include "daemon/gpus/hotplug_private.h"

struct udev_source {
        struct hotplug hotplug;
        struct udev *udev;
        struct udev_monitor *monitor;
};

static void source_end(struct hotplug *hotplug) {
        struct udev_source *source = container_of(hotplug, struct udev_source, hotplug);

        if (source->monitor)
                udev_monitor_unref(source->monitor);
        if (source->udev)
                udev_unref(source->udev);
        free(source);
}

static void tell(const struct udev_source *source, struct udev_device *device) {
        const struct hotplug_callbacks *callbacks = &source->hotplug.callbacks;
        struct pci_address address;
        enum hotplug_action action;

        if (hotplug_judge(udev_device_get_action(device), udev_device_get_subsystem(device),
                          udev_device_get_property_value(device, "DRIVER"), udev_device_get_devpath(device), &action,
                          &address))
                callbacks->on_event(action, &address, callbacks->userdata);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct udev_source *source = container_of(userdata, struct udev_source, hotplug);
        const struct hotplug_callbacks *callbacks = &source->hotplug.callbacks;

        for (unsigned i = 0; i < HOTPLUG_EVENTS_MAX; i++) {
                struct udev_device *device;

                errno = 0;
                device = udev_monitor_receive_device(source->monitor);
                if (!device && errno == ENOBUFS) /* events were lost */
                        callbacks->on_event(HOTPLUG_CHANGED, NULL, callbacks->userdata);
                if (!device)
                        return;
                tell(source, device);
                udev_device_unref(device);
        }
}

/*
 * "kernel": the kernel's own events reach every network namespace; those that udev sends after its rules do not. If a
 * rule has not created a device node yet, the quick retries of the open find it later.
 */
static int source_start(struct udev_source *source) {
        source->udev = udev_new();
        if (!source->udev)
                return -ENOMEM;
        source->monitor = udev_monitor_new_from_netlink(source->udev, "kernel");
        if (!source->monitor)
                return -EPROTONOSUPPORT;
        if (udev_monitor_filter_add_match_subsystem_devtype(source->monitor, "pci", NULL) < 0 ||
            udev_monitor_filter_add_match_subsystem_devtype(source->monitor, "module", NULL) < 0 ||
            udev_monitor_enable_receiving(source->monitor) < 0)
                return -EPROTONOSUPPORT;
        return 0;
}

int hotplug_new_udev(struct hotplug **ret_hotplug, struct event_base *loop, const struct hotplug_callbacks *callbacks) {
        struct udev_source *source = calloc(1, sizeof(*source));
        int r;

        if (!source)
                return -ENOMEM;
        source->hotplug = (struct hotplug){.callbacks = *callbacks, .end = source_end};
        r = source_start(source);
        if (r >= 0)
                r = hotplug_listen(&source->hotplug, loop, udev_monitor_get_fd(source->monitor), on_readable);
        if (r < 0) {
                hotplug_free(&source->hotplug);
                return r;
        }
        *ret_hotplug = &source->hotplug;
        return 0;
}
