// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/*
 * GPUs without hardware: a PCI host bridge in its own domain. The configuration space of its devices contains only the
 * vendor NVIDIA and the class "3D controller". For the kernel they are ordinary PCI devices: they have folders in
 * sysfs, send uevents, and can be bound, unbound, removed (.../remove) and found again (/sys/bus/pci/rescan). Their
 * driver is nvidia.c. It is a separate module because GPUs stay when their driver is exchanged.
 */

#include <linux/module.h>
#include <linux/pci.h>

enum {
        DOMAIN = 1, /* 0 is the machine's own */
        BUS = 0x17,
        GPU_COUNT = 2,
        DEVICE_ID = 0x2330,
        CLASS_AND_REVISION = PCI_CLASS_DISPLAY_3D << 16 | 0xa1,
};

static struct pci_sysdata bridge = {.domain = DOMAIN, .node = NUMA_NO_NODE};
static struct resource bus_numbers = {.name = "stand-in GPUs", .start = BUS, .end = BUS, .flags = IORESOURCE_BUS};
static struct pci_bus *root_bus;

static u32 config_word(unsigned int offset) {
        switch (offset) {
        case PCI_VENDOR_ID:
                return DEVICE_ID << 16 | PCI_VENDOR_ID_NVIDIA;
        case PCI_CLASS_REVISION:
                return CLASS_AND_REVISION;
        default:
                return 0; /* a plain header, no memory, no interrupt, no capability */
        }
}

static int read_config(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *value) {
        bool there = PCI_FUNC(devfn) == 0 && PCI_SLOT(devfn) < GPU_COUNT;
        u32 word = there ? config_word(where & ~3) : ~0U;

        *value = (word >> 8 * (where & 3)) & (~0U >> (32 - 8 * size));
        return there ? PCIBIOS_SUCCESSFUL : PCIBIOS_DEVICE_NOT_FOUND;
}

static int write_config(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 value) {
        return PCIBIOS_SUCCESSFUL; /* everything is read-only */
}

static struct pci_ops config_space = {.read = read_config, .write = write_config};

static int __init gpus_init(void) {
        LIST_HEAD(resources);

        pci_add_resource(&resources, &bus_numbers);
        pci_lock_rescan_remove();
        root_bus = pci_scan_root_bus(NULL, BUS, &config_space, &bridge, &resources);
        if (root_bus)
                pci_bus_add_devices(root_bus);
        else
                pci_free_resource_list(&resources);
        pci_unlock_rescan_remove();
        return root_bus ? 0 : -ENODEV;
}

static void __exit gpus_exit(void) {
        pci_lock_rescan_remove();
        pci_stop_root_bus(root_bus);
        pci_remove_root_bus(root_bus);
        pci_unlock_rescan_remove();
}

module_init(gpus_init);
module_exit(gpus_exit);
MODULE_DESCRIPTION("PCI devices that look like GPUs, for tests");
MODULE_LICENSE("Dual MIT/GPL");
