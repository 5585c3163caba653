#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * PCI addresses, by which a GPU is known: domain:bus:slot.function. Minor numbers are re-used after removal and are
 * therefore no identity.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pci_address {
        uint32_t domain; /* more than 16 bits on Hyper-V */
        uint8_t bus;
        uint8_t slot;
        uint8_t function;
};

enum { PCI_ADDRESS_SIZE = 20 }; /* "00000000:17:00.0", and room */

/*
 * Takes every spelling in use: 0000:17:00.0 (sysfs), 00000000:17:00.0 (NVML), 17:00.0, 17:00, 0000:17:00,
 * PCI:0000:17:00.0, in either case. A missing domain or function is 0. Returns 0 or -EINVAL.
 */
int pci_address_parse(const char *text, struct pci_address *ret_address);

/* "0000:17:00.0" as sysfs has it. Returns buffer. */
const char *pci_address_format(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]);

/* "00000000:17:00.0" as NVML and nvidia-smi have it. Returns buffer. */
const char *pci_address_format_nvml(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]);

/* Order by domain, bus, slot, function: less than, equal to, greater than 0. */
int pci_address_compare(const struct pci_address *a, const struct pci_address *b);
