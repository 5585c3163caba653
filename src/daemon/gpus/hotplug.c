/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/hotplug_private.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

bool hotplug_judge(const char *action, const char *subsystem, const char *driver, const char *device,
                   enum hotplug_action *ret_action, struct pci_address *ret_address) {
        const char *slot;

        if (!action || !subsystem)
                return false;
        *ret_action = HOTPLUG_CHANGED;
        if (text_equal(subsystem, "module"))
                return device && text_equal(device, "/module/nvidia");
        if (!text_equal(subsystem, "pci"))
                return false;
        if (text_equal(action, "bind") || text_equal(action, "add"))
                return !driver || text_equal(driver, "nvidia");
        if (!text_equal(action, "unbind") && !text_equal(action, "remove"))
                return false;
        /* The driver is not checked, since "remove" does not name it: the registry knows which devices are GPUs. */
        slot = device ? strrchr(device, '/') : NULL;
        if (pci_address_parse(slot ? slot + 1 : (device ? device : ""), ret_address) < 0)
                return false;
        *ret_action = HOTPLUG_REMOVED;
        return true;
}

/* The value, if the line is "NAME=value" with this name; otherwise NULL. */
static const char *value_of(const char *line, const char *name) {
        size_t length = strlen(name);

        return text_starts_with(line, name) && line[length] == '=' ? line + length + 1 : NULL;
}

bool hotplug_parse(const char *bytes, size_t size, enum hotplug_action *ret_action, struct pci_address *ret_address) {
        struct {
                const char *name;
                const char *value;
        } wanted[] = {{"ACTION", NULL}, {"SUBSYSTEM", NULL}, {"DRIVER", NULL}, {"DEVPATH", NULL}};

        if (size == 0 || bytes[size - 1] != '\0')
                return false;
        for (const char *line = bytes; line < bytes + size; line += strlen(line) + 1)
                for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
                        if (value_of(line, wanted[i].name))
                                wanted[i].value = value_of(line, wanted[i].name);
        return hotplug_judge(wanted[0].value, wanted[1].value, wanted[2].value, wanted[3].value, ret_action,
                             ret_address);
}

int hotplug_listen(struct hotplug *hotplug, struct event_base *loop, int fd, event_callback_fn on_readable) {
        hotplug->readable = event_new(loop, fd, EV_READ | EV_PERSIST, on_readable, hotplug);
        return hotplug->readable && event_add(hotplug->readable, NULL) == 0 ? 0 : -ENOMEM;
}

void hotplug_free(struct hotplug *hotplug) {
        if (!hotplug)
                return;
        if (hotplug->readable)
                event_free(hotplug->readable);
        hotplug->end(hotplug);
}
