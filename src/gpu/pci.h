#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * PCI addresses, domain:bus:slot.function. They identify GPUs. Minor numbers do not, because they are reused after a
 * removal.
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

enum { PCI_ADDRESS_SIZE = 20 }; /* enough for "00000000:17:00.0" */

/*
 * Accepts all common spellings: 0000:17:00.0 (sysfs), 00000000:17:00.0 (NVML), 17:00.0, 17:00, 0000:17:00,
 * PCI:0000:17:00.0, in either case. A missing domain or function is 0. Returns 0 or -EINVAL.
 */
int pci_address_parse(const char *text, struct pci_address *ret_address);

/* Writes "0000:17:00.0", as in sysfs. Returns buffer. */
const char *pci_address_format(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]);

/* Writes "00000000:17:00.0", as NVML and nvidia-smi do. Returns buffer. */
const char *pci_address_format_nvml(const struct pci_address *address, char buffer[static PCI_ADDRESS_SIZE]);

/* Compares by domain, bus, slot and function. Returns less than, equal to, or greater than 0. */
int pci_address_compare(const struct pci_address *a, const struct pci_address *b);
