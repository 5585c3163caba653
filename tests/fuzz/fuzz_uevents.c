/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Uevents, which arrive from a socket below a root: a removed device has an address. */

#include "daemon/gpus/hotplug.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        enum hotplug_action action = HOTPLUG_CHANGED;
        struct pci_address address, again;
        char text[PCI_ADDRESS_SIZE];

        if (!hotplug_parse((const char *)bytes, size, &action, &address) || action != HOTPLUG_REMOVED)
                return 0;
        fuzz_require(pci_address_parse(pci_address_format(&address, text), &again) == 0);
        fuzz_require(pci_address_compare(&address, &again) == 0);
        return 0;
}
