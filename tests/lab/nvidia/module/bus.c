// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/*
 * Fake GPUs that NVIDIA's driver accepts: a PCI host bridge in its own domain, with GPUs at the first slots of its bus.
 * Their registers are plain memory, a part of RAM that the kernel does not use (memmap=... on its command line). Only
 * the two registers that the driver reads before it initialises a GPU have a value.
 *
 * ../../module/gpus.c has simpler GPUs, without memory, for the stand-in driver.
 */

#include "control.h"

#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

static unsigned int count = 4;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "GPUs");
static unsigned long window_start = 0x40000000;
module_param(window_start, ulong, 0444);
MODULE_PARM_DESC(window_start, "address of the GPUs' memory");
static unsigned long window_size = 0x20000000;
module_param(window_size, ulong, 0444);
MODULE_PARM_DESC(window_size, "size of the GPUs' memory");

enum {
        DEVICE_ID = 0x2330, /* an H100 */
        SUBSYSTEM_ID = 0x16c1,
        CLASS_AND_REVISION = PCI_CLASS_DISPLAY_3D << 16 | 0xa1,
        WORDS = 64, /* of configuration space */
        MSI_CAPABILITY = 0x50,
        INTERRUPT_LINE = 11,
        BAR_SIZE = 1 << 24,
        BAR_64_PREFETCHABLE = PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,

        /* Registers that identify the chip, as offsets in BAR 0. */
        PMC_BOOT_0 = 0x0,
        PMC_BOOT_0_VALUE = 0x180000a1,
        PMC_BOOT_42 = 0xa00,
        PMC_BOOT_42_VALUE = 0x180a1000,
        REGISTERS_SIZE = 0x10000, /* the part of BAR 0 that is cleared */
};

static struct {
        u32 value[WORDS];
        u32 writable[WORDS];
} config[LAB_GPUS_MAX];

static struct pci_sysdata bridge = {.domain = LAB_PCI_DOMAIN, .node = NUMA_NO_NODE};
static struct resource bus_numbers = {
        .name = "fake GPUs",
        .start = LAB_PCI_BUS,
        .end = LAB_PCI_BUS,
        .flags = IORESOURCE_BUS,
};
static struct resource window = {.name = "fake GPUs", .flags = IORESOURCE_MEM};
static struct pci_bus *root_bus;

/* ---- configuration space ---- */

static void set_word(unsigned int slot, unsigned int offset, u32 value, u32 writable) {
        config[slot].value[offset / 4] = value;
        config[slot].writable[offset / 4] = writable;
}

static void fill(unsigned int slot) {
        set_word(slot, PCI_VENDOR_ID, DEVICE_ID << 16 | PCI_VENDOR_ID_NVIDIA, 0);
        set_word(slot, PCI_COMMAND, PCI_STATUS_CAP_LIST << 16,
                 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
                         PCI_COMMAND_INTX_DISABLE);
        set_word(slot, PCI_CLASS_REVISION, CLASS_AND_REVISION, 0);
        set_word(slot, PCI_CACHE_LINE_SIZE, 0, 0xffff);
        set_word(slot, PCI_BASE_ADDRESS_0, 0, ~(BAR_SIZE - 1));
        set_word(slot, PCI_BASE_ADDRESS_1, BAR_64_PREFETCHABLE, ~(BAR_SIZE - 1));
        set_word(slot, PCI_BASE_ADDRESS_2, 0, ~0U); /* the upper half of BAR 1 */
        set_word(slot, PCI_BASE_ADDRESS_3, BAR_64_PREFETCHABLE, ~(BAR_SIZE - 1));
        set_word(slot, PCI_BASE_ADDRESS_4, 0, ~0U);
        set_word(slot, PCI_SUBSYSTEM_VENDOR_ID, SUBSYSTEM_ID << 16 | PCI_VENDOR_ID_NVIDIA, 0);
        set_word(slot, PCI_CAPABILITY_LIST, MSI_CAPABILITY, 0);
        set_word(slot, PCI_INTERRUPT_LINE, 1 << 8 | INTERRUPT_LINE, 0xff); /* pin INTA */
        set_word(slot, MSI_CAPABILITY, PCI_MSI_FLAGS_64BIT << 16 | PCI_CAP_ID_MSI,
                 (PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE) << 16);
        set_word(slot, MSI_CAPABILITY + PCI_MSI_ADDRESS_LO, 0, ~3U);
        set_word(slot, MSI_CAPABILITY + PCI_MSI_ADDRESS_HI, 0, ~0U);
        set_word(slot, MSI_CAPABILITY + PCI_MSI_DATA_64, 0, 0xffff);
}

static bool is_there(unsigned int devfn) {
        return PCI_FUNC(devfn) == 0 && lab_gpu_is_present(PCI_SLOT(devfn));
}

static u32 size_mask(int size) {
        return ~0U >> (32 - 8 * size);
}

static int read_config(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *value) {
        bool there = is_there(devfn);
        u32 word = ~0U;

        if (there)
                word = where / 4 < WORDS ? config[PCI_SLOT(devfn)].value[where / 4] : 0;
        *value = (word >> 8 * (where & 3)) & size_mask(size);
        return there ? PCIBIOS_SUCCESSFUL : PCIBIOS_DEVICE_NOT_FOUND;
}

static int write_config(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 value) {
        unsigned int shift = 8 * (where & 3);
        u32 mask, *word;

        if (!is_there(devfn))
                return PCIBIOS_DEVICE_NOT_FOUND;
        if (where / 4 >= WORDS)
                return PCIBIOS_SUCCESSFUL;
        mask = size_mask(size) << shift & config[PCI_SLOT(devfn)].writable[where / 4];
        word = &config[PCI_SLOT(devfn)].value[where / 4];
        *word = (*word & ~mask) | (value << shift & mask);
        return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops config_space = {.read = read_config, .write = write_config};

/* ---- the bus ---- */

static int fill_registers(struct pci_dev *pci) {
        void __iomem *registers = ioremap(pci_resource_start(pci, 0), REGISTERS_SIZE);

        if (!registers)
                return -ENOMEM;
        memset_io(registers, 0, REGISTERS_SIZE);
        writel(PMC_BOOT_0_VALUE, registers + PMC_BOOT_0);
        writel(PMC_BOOT_42_VALUE, registers + PMC_BOOT_42);
        iounmap(registers);
        return 0;
}

/* Fills the registers first: a driver may read them as soon as the GPU is added. */
static int add_devices(void) {
        struct pci_dev *pci;
        int r;

        pci_assign_unassigned_bus_resources(root_bus);
        list_for_each_entry(pci, &root_bus->devices, bus_list) {
                r = fill_registers(pci);
                if (r < 0)
                        return r;
        }
        pci_bus_add_devices(root_bus);
        return 0;
}

static void remove_bus(void) {
        pci_stop_root_bus(root_bus);
        pci_remove_root_bus(root_bus);
}

static int add_bus(void) {
        LIST_HEAD(resources);
        int r;

        window.start = window_start;
        window.end = window_start + window_size - 1;
        pci_add_resource(&resources, &bus_numbers);
        /* Not part of iomem_resource, in which the range is "Reserved" and has no room for the BARs. */
        pci_add_resource(&resources, &window);
        root_bus = pci_scan_root_bus(NULL, LAB_PCI_BUS, &config_space, &bridge, &resources);
        if (!root_bus) {
                pci_free_resource_list(&resources);
                return -ENODEV;
        }
        r = add_devices();
        if (r < 0)
                remove_bus();
        return r;
}

static int __init lab_gpus_init(void) {
        unsigned int slot;
        int r = lab_control_start(count);

        if (r < 0)
                return r;
        for (slot = 0; slot < count; slot++)
                fill(slot);
        pci_lock_rescan_remove();
        r = add_bus();
        pci_unlock_rescan_remove();
        if (r < 0)
                lab_control_stop();
        return r;
}

static void __exit lab_gpus_exit(void) {
        pci_lock_rescan_remove();
        remove_bus();
        pci_unlock_rescan_remove();
        lab_control_stop();
}

module_init(lab_gpus_init);
module_exit(lab_gpus_exit);
MODULE_DESCRIPTION("PCI devices that NVIDIA's driver takes for GPUs, for tests");
MODULE_LICENSE("Dual MIT/GPL");
