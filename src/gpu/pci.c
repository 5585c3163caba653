/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

enum {
        DIGITS_DOMAIN_MAX = 8,
        DIGITS_BUS_MAX = 2,
        DIGITS_SLOT_MAX = 2,
        DIGITS_FUNCTION_MAX = 1,

        SLOT_MAX = 0x1f, /* five bits (PCI Local Bus Specification 3.2.2.3.2) */
        FUNCTION_MAX = 7,
};

static bool parse_hex(const char *text, size_t digits_max, uint32_t maximum, uint32_t *ret_value) {
        uint64_t value;

        if (strlen(text) > digits_max || text_parse_u64(text, 16, maximum, &value) < 0)
                return false;
        *ret_value = (uint32_t)value;
        return true;
}

/* Cuts off the text after the last separator and returns it. NULL: there is no separator. */
static char *cut_last(char *text, char separator) {
        char *found = strrchr(text, separator);

        if (!found)
                return NULL;
        *found = '\0';
        return found + 1;
}

int pci_address_parse(const char *text, struct pci_address *ret_address) {
        char buffer[PCI_ADDRESS_SIZE];
        char *function, *slot, *bus;
        const char *domain;
        uint32_t domain_value, bus_value, slot_value, function_value = 0;

        if (strncasecmp(text, "pci:", 4) == 0)
                text += 4;
        if (!text_copy(buffer, sizeof(buffer), text))
                return -EINVAL;

        function = cut_last(buffer, '.');
        slot = cut_last(buffer, ':');
        if (!slot)
                return -EINVAL;
        bus = cut_last(buffer, ':');
        domain = bus ? buffer : "0";
        if (!bus)
                bus = buffer;

        if (!parse_hex(domain, DIGITS_DOMAIN_MAX, UINT32_MAX, &domain_value) ||
            !parse_hex(bus, DIGITS_BUS_MAX, UINT8_MAX, &bus_value) ||
            !parse_hex(slot, DIGITS_SLOT_MAX, SLOT_MAX, &slot_value) ||
            (function && !parse_hex(function, DIGITS_FUNCTION_MAX, FUNCTION_MAX, &function_value)))
                return -EINVAL;

        *ret_address = (struct pci_address){
                .domain = domain_value,
                .bus = (uint8_t)bus_value,
                .slot = (uint8_t)slot_value,
                .function = (uint8_t)function_value,
        };
        return 0;
}

const char *pci_address_format(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]) {
        (void)snprintf(buffer, PCI_ADDRESS_SIZE, "%04x:%02x:%02x.%x", (unsigned)address->domain, (unsigned)address->bus,
                       (unsigned)address->slot, (unsigned)address->function & 0xf);
        return buffer;
}

/* NVML prints hexadecimal digits in upper case, sysfs in lower case. */
const char *pci_address_format_nvml(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]) {
        (void)snprintf(buffer, PCI_ADDRESS_SIZE, "%08X:%02X:%02X.%X", (unsigned)address->domain, (unsigned)address->bus,
                       (unsigned)address->slot, (unsigned)address->function & 0xf);
        return buffer;
}

static int compare(uint32_t a, uint32_t b) {
        return (a > b) - (a < b);
}

int pci_address_compare(const struct pci_address *a, const struct pci_address *b) {
        int order = compare(a->domain, b->domain);

        if (order == 0)
                order = compare(a->bus, b->bus);
        if (order == 0)
                order = compare(a->slot, b->slot);
        if (order == 0)
                order = compare(a->function, b->function);
        return order;
}
