/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Records of the kernel log: an unbind is recognised only with an address, in a record of facility 0. */

#include "daemon/gpus/kernel_messages.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        struct pci_address address, again;
        char text[PCI_ADDRESS_SIZE];

        if (!kernel_messages_parse((const char *)bytes, size, &address))
                return 0;
        fuzz_require(size > 1 && bytes[0] >= '0' && bytes[0] <= '7' && bytes[1] == ',');
        fuzz_require(pci_address_parse(pci_address_format(&address, text), &again) == 0);
        fuzz_require(pci_address_compare(&address, &again) == 0);
        return 0;
}
