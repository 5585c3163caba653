/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/sysfs.h"

#include <inttypes.h>
#include <linux/pci_regs.h>

#include "base/cleanup.h"
#include "sim/tree/memory.h"

enum { RESOURCES = 13 }; /* lines of `resource`: the six regions, the ROM, and those of virtual functions */

/* The device's memory regions, as for an H100: registers, video memory, and instance memory. */
static const struct bar {
        uint64_t offset, size, flags; /* flags: IORESOURCE_*, combined with those of the register */
} bars[] = {
        /* clang-format off */
        {UINT64_C(0x2000000000), UINT64_C(16) << 20, 0x14220c},
        {0},
        {UINT64_C(0x0000000000), UINT64_C(128) << 30, 0x14220c},
        {0},
        {UINT64_C(0x2040000000), UINT64_C(32) << 20, 0x14220c},
        {0},
        /* clang-format on */
};

/* ---- modules ---- */

void sysfs_module_version(FILE *out, const struct procfs_source *source) {
        fprintf(out, "%s\n", source->scenario->driver_version);
}

void sysfs_module_refcnt(FILE *out, const struct procfs_source *source) {
        fprintf(out, "%u\n", source->n_open_files); /* each open descriptor holds a reference to the module */
}

/* ---- the PCI bus ---- */

void sysfs_id(FILE *out, const struct procfs_source *source) {
        fprintf(out, "0x%04x\n", source->value);
}

void sysfs_class(FILE *out, const struct procfs_source *source) {
        fprintf(out, "0x%06x\n", source->value);
}

void sysfs_revision(FILE *out, const struct procfs_source *source) {
        fprintf(out, "0x%02x\n", source->value);
}

static unsigned interrupt_of(const struct model_gpu_view *gpu) {
        return gpu->probed ? procfs_interrupt(gpu) : 0;
}

void sysfs_pci_irq(FILE *out, const struct procfs_source *source) {
        fprintf(out, "%u\n", interrupt_of(source->gpu));
}

/* The addresses are invented: each bus has its own 1 TiB. */
static uint64_t bar_address(const struct pci_address *address, const struct bar *bar) {
        return ((uint64_t)address->domain << 8 | address->bus) << 40 | bar->offset;
}

void sysfs_pci_resource(FILE *out, const struct procfs_source *source) {
        for (size_t i = 0; i < RESOURCES; i++) {
                const struct bar *bar = i < ARRAY_SIZE(bars) ? &bars[i] : &bars[1];
                uint64_t start = bar->size > 0 ? bar_address(&source->gpu->spec.address, bar) : 0;

                fprintf(out, "0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64 "\n", start,
                        bar->size > 0 ? start + bar->size - 1 : 0, bar->flags);
        }
}

static void put16(unsigned char *bytes, unsigned value) {
        bytes[0] = value & 0xff;
        bytes[1] = value >> 8 & 0xff;
}

static void put32(unsigned char *bytes, uint64_t value) {
        put16(bytes, value & 0xffff);
        put16(bytes + 2, value >> 16 & 0xffff);
}

static void put_header(unsigned char *config, unsigned vendor, unsigned device, unsigned class, unsigned revision) {
        put16(config + PCI_VENDOR_ID, vendor);
        put16(config + PCI_DEVICE_ID, device);
        put16(config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        put16(config + PCI_STATUS, PCI_STATUS_CAP_LIST);
        put32(config + PCI_CLASS_REVISION, class << 8 | revision);
}

static void put_capability(unsigned char *config, unsigned offset, unsigned id, unsigned next) {
        config[offset] = (unsigned char)id;
        config[offset + 1] = (unsigned char)next;
}

/* Power management, message-signalled interrupts, and PCI Express: an endpoint that supports a function-level reset,
 * with 16 lanes of the fifth generation. */
static void put_capabilities(unsigned char *config, unsigned type) {
        enum { POWER = 0x60, MSI = 0x68, EXPRESS = 0x78 };
        enum { FUNCTION_LEVEL_RESET = 1 << 28, LINK = 16 << 4 | 5 };

        config[PCI_CAPABILITY_LIST] = POWER;
        put_capability(config, POWER, PCI_CAP_ID_PM, MSI);
        put_capability(config, MSI, PCI_CAP_ID_MSI, EXPRESS);
        put_capability(config, EXPRESS, PCI_CAP_ID_EXP, 0);
        put16(config + EXPRESS + PCI_EXP_FLAGS, type << 4 | 2);
        put32(config + EXPRESS + PCI_EXP_DEVCAP, FUNCTION_LEVEL_RESET);
        put32(config + EXPRESS + PCI_EXP_LNKCAP, LINK);
        put16(config + EXPRESS + PCI_EXP_LNKSTA, LINK);
}

/* The part of the configuration space that the pciaccess code in NVIDIA's programs reads. Writes are ignored. */
void sysfs_pci_config(FILE *out, const struct procfs_source *source) {
        unsigned char config[SYSFS_CONFIG_SIZE] = {0};

        put_header(config, MODEL_PCI_VENDOR, MODEL_PCI_DEVICE, MODEL_PCI_CLASS, MODEL_PCI_REVISION);
        for (size_t i = 0; i < ARRAY_SIZE(bars); i++) {
                uint64_t value = bar_address(&source->gpu->spec.address, &bars[i]) | (bars[i].flags & 0xf);

                if (bars[i].size > 0)
                        put32(config + PCI_BASE_ADDRESS_0 + 4 * i, value);
                if (bars[i].size > 0 && (bars[i].flags & PCI_BASE_ADDRESS_MEM_TYPE_64))
                        put32(config + PCI_BASE_ADDRESS_0 + 4 * i + 4, value >> 32);
        }
        put16(config + PCI_SUBSYSTEM_VENDOR_ID, MODEL_PCI_VENDOR);
        put16(config + PCI_SUBSYSTEM_ID, MODEL_PCI_SUBSYSTEM);
        config[PCI_INTERRUPT_LINE] = (unsigned char)interrupt_of(source->gpu);
        config[PCI_INTERRUPT_PIN] = 1;
        put_capabilities(config, PCI_EXP_TYPE_ENDPOINT);
        fwrite(config, sizeof(config), 1, out);
}

/* ---- the bridge above a GPU ---- */

struct pci_address sysfs_bridge_of(const struct pci_address *gpu) {
        return (struct pci_address){.domain = gpu->domain, .bus = gpu->bus - 1, .slot = (gpu->slot + 1) & 0x1f};
}

/* The part that `nvidia-smi drain -r` reads, which takes the link down. Writes are ignored. */
void sysfs_bridge_config(FILE *out, const struct procfs_source *source) {
        unsigned char config[SYSFS_CONFIG_SIZE] = {0};

        put_header(config, SYSFS_BRIDGE_VENDOR, SYSFS_BRIDGE_DEVICE, SYSFS_BRIDGE_CLASS, 0);
        config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
        config[PCI_PRIMARY_BUS] = sysfs_bridge_of(&source->gpu->spec.address).bus;
        config[PCI_SECONDARY_BUS] = config[PCI_SUBORDINATE_BUS] = source->gpu->spec.address.bus;
        put_capabilities(config, PCI_EXP_TYPE_ROOT_PORT);
        fwrite(config, sizeof(config), 1, out);
}

/* ---- links ---- */

static void put_place(FILE *out, const char *before, const struct procfs_source *source, bool with_gpu) {
        struct pci_address bridge = sysfs_bridge_of(&source->gpu->spec.address);
        char bridge_text[PCI_ADDRESS_SIZE], text[PCI_ADDRESS_SIZE];

        fprintf(out, "%s" SYSFS_PLACES "/%s", before, pci_address_format(&bridge, bridge_text));
        if (with_gpu)
                fprintf(out, "/%s", pci_address_format(&source->gpu->spec.address, text));
}

void sysfs_link_device(FILE *out, const struct procfs_source *source) {
        put_place(out, "../", source, true);
}

void sysfs_link_bridge(FILE *out, const struct procfs_source *source) {
        put_place(out, "../", source, false);
}

void sysfs_link_bound(FILE *out, const struct procfs_source *source) {
        put_place(out, "../../", source, true);
}

/* ---- memory ---- */

void sysfs_memory_block_size(FILE *out, const struct procfs_source *source) {
        fprintf(out, "%" PRIx64 "\n", MEMORY_BLOCK_BYTES);
}

void sysfs_block_state(FILE *out, const struct procfs_source *source) {
        fputs(source->block_online ? "online\n" : "offline\n", out);
}

/* For an online block, its zone; otherwise the possible zones. */
void sysfs_block_valid_zones(FILE *out, const struct procfs_source *source) {
        fputs(source->block_online ? "Movable\n" : "Normal Movable\n", out);
}
