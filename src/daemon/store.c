/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/store.h"

#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/notify.h"

/* How long a busy manager is waited for before a close goes on: then it is the manager that tears the GPU down. */
enum { FORGET_TIMEOUT_MSEC = 2000 };

static void replace(char *text, char from, char to) {
        for (; *text != '\0'; text++)
                if (*text == from)
                        *text = to;
}

void store_name(char *buffer, size_t size, const char *kind, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE];

        (void)text_format(buffer, size, "%s-%s", kind, pci_address_format(address, text));
        replace(buffer, ':', '.');
}

bool store_name_parse(const char *name, const char *kind, struct pci_address *ret_address) {
        char text[PCI_ADDRESS_SIZE];
        size_t length = strlen(kind);
        char *last;

        if (!text_starts_with(name, kind) || name[length] != '-' || !text_copy(text, sizeof(text), name + length + 1))
                return false;
        last = strrchr(text, '.');
        if (!last)
                return false;
        *last = '\0';
        replace(text, '.', ':');
        *last = '.';
        return pci_address_parse(text, ret_address) == 0;
}

static void keep(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind, int fd) {
        char name[64];
        int r;

        store_name(name, sizeof(name), kind, address);
        r = notify_store(name, fd);
        if (r < 0)
                (void)log_errno(LOG_WARNING, r, "cannot leave %s with the service manager: a restart will drop it",
                                name);
}

static void forget(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind) {
        char name[64];

        store_name(name, sizeof(name), kind, address);
        notify_forget(name, FORGET_TIMEOUT_MSEC);
}

struct gpu_keeper store_keeper = {
        .keep = keep,
        .forget = forget,
};
