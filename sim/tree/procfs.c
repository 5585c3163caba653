/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/procfs.h"

#include <inttypes.h>

#include "base/cleanup.h"

void procfs_devices(FILE *out, const struct procfs_source *source) {
        fputs("Character devices:\n"
              "  1 mem\n"
              "  5 /dev/tty\n"
              "195 nvidia\n"
              "195 nvidia-modeset\n"
              "195 nvidiactl\n"
              "508 nvidia-caps\n"
              "511 nvidia-uvm\n"
              "\n"
              "Block devices:\n"
              "259 blkext\n",
              out);
}

void procfs_version(FILE *out, const struct procfs_source *source) {
        fprintf(out,
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  (holdfast-sim@localhost)  "
                "simulated\n"
                "GCC version:  gcc version 12.2.0 (simulated)\n",
                source->scenario->driver_version);
}

/*
 * First the integers of nv_parms (nv-reg.h), in its order, with their defaults; a parameter whose default changed has
 * two rows. Then the strings (nv-procfs.c, nv_procfs_read_params).
 */
static const struct {
        const char *name;
        uint32_t value;
        struct version_span versions;
} parameters[] = {
        {"ResmanDebugLevel", UINT32_MAX, {0}},
        {"RmLogonRC", 1, {0}},
        {"ModifyDeviceFiles", 1, {0}},
        {"DeviceFileUID", 0, {0}},
        {"DeviceFileGID", 0, {0}},
        {"DeviceFileMode", 0666, {0}},
        {"InitializeSystemMemoryAllocations", 1, {0}},
        {"UsePageAttributeTable", UINT32_MAX, {0}},
        {"EnableMSI", 1, {0}},
        {"EnablePCIeGen3", 0, {0}},
        {"MemoryPoolSize", 0, {0}},
        {"KMallocHeapMaxSize", 0, {0}},
        {"VMallocHeapMaxSize", 0, {0}},
        {"IgnoreMMIOCheck", 0, {0}},
        {"TCEBypassMode", 0, {.until = DRIVER_VERSION(570, 86, 15)}},
        {"EnableStreamMemOPs", 0, {0}},
        {"EnableUserNUMAManagement", 1, {0}},
        {"NvLinkDisable", 0, {0}},
        {"RmProfilingAdminOnly", 1, {0}},
        {"PreserveVideoMemoryAllocations", 0, {.until = DRIVER_VERSION(595, 44, 2)}},
        {"PreserveVideoMemoryAllocations", 2, {.from = DRIVER_VERSION(595, 44, 2)}},
        {"UseKernelSuspendNotifiers", 0, {.from = DRIVER_VERSION(595, 44, 2)}},
        {"EnableS0ixPowerManagement", 0, {0}},
        {"S0ixPowerManagementVideoMemoryThreshold", 256, {0}},
        {"DynamicPowerManagement", 3, {0}},
        {"DynamicPowerManagementVideoMemoryThreshold", 200, {0}},
        {"TegraGpuPgMask", UINT32_MAX, {.from = DRIVER_VERSION(590, 44, 1)}},
        {"RegisterPCIDriver", 1, {0}},
        {"EnablePCIERelaxedOrderingMode", 0, {0}},
        {"EnableResizableBar", 0, {0}},
        {"EnableGpuFirmware", 18, {0}},
        {"EnableGpuFirmwareLogs", 2, {0}},
        {"RmNvlinkBandwidthLinkCount", 0, {.from = DRIVER_VERSION(565, 57, 1)}},
        {"EnableDbgBreakpoint", 0, {0}},
        {"OpenRmEnableUnsupportedGpus", 0, {.until = DRIVER_VERSION(545, 23, 6)}},
        {"OpenRmEnableUnsupportedGpus", 1, {.from = DRIVER_VERSION(545, 23, 6)}},
        {"DmaRemapPeerMmio", 1, {.from = DRIVER_VERSION(515, 48, 7)}},
        {"ImexChannelCount", 2048, {.from = DRIVER_VERSION(550, 40, 53)}},
        {"CreateImexChannel0", 0, {.from = DRIVER_VERSION(555, 42, 2)}},
        {"GrdmaPciTopoCheckOverride", 0, {.from = DRIVER_VERSION(570, 86, 15)}},
        {"EnableSystemMemoryPools", 0x211, {.from = DRIVER_VERSION(590, 44, 1)}},
};

static const struct {
        const char *name;
        struct version_span versions;
} string_parameters[] = {
        {"CoherentGPUMemoryMode", {.from = DRIVER_VERSION(580, 65, 6)}},
        {"RegistryDwords", {0}},
        {"RegistryDwordsPerDevice", {0}},
        {"RmMsg", {0}},
        {"GpuBlacklist", {0}},
        {"TemporaryFilePath", {0}},
        {"ExcludedGpus", {0}},
};

void procfs_params(FILE *out, const struct procfs_source *source) {
        uint64_t version = version_parse(source->scenario->driver_version);

        for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
                if (version_in(version, &parameters[i].versions))
                        fprintf(out, "%s: %" PRIu32 "\n", parameters[i].name, parameters[i].value);
        for (size_t i = 0; i < ARRAY_SIZE(string_parameters); i++)
                if (version_in(version, &string_parameters[i].versions))
                        fprintf(out, "%s: \"\"\n", string_parameters[i].name);
}

unsigned procfs_interrupt(const struct model_gpu_view *gpu) {
        return 64 + gpu->minor;
}

/* The driver reads the UUID from the GPU at the first initialisation after the bind. */
static void print_uuid(FILE *out, const struct procfs_source *source) {
        if (source->gpu->ever_initialised)
                fprintf(out, "GPU UUID: \t %s\n", source->gpu->spec.uuid);
        else if (!scenario_driver_has(source->scenario, DRIVER_HIDES_UNKNOWN_UUID))
                fputs("GPU UUID: \t GPU-\?\?\?\?\?\?\?\?-\?\?\?\?-\?\?\?\?-\?\?\?\?-\?\?\?\?\?\?\?\?\?\?\?\?\n", out);
}

static void print_video_bios(FILE *out, bool known) {
        uint32_t revision = MODEL_BIOS_REVISION;

        if (known)
                fprintf(out, "Video BIOS: \t %02x.%02x.%02x.%02x.%02x\n", revision >> 24, revision >> 16 & 0xff,
                        revision >> 8 & 0xff, revision & 0xff, MODEL_BIOS_OEM_REVISION);
        else
                fputs("Video BIOS: \t \?\?.\?\?.\?\?.\?\?.\?\?\n", out);
}

void procfs_information(FILE *out, const struct procfs_source *source) {
        const struct model_gpu_view *gpu = source->gpu;
        const struct pci_address *address = &gpu->spec.address;
        bool known = gpu->ever_initialised; /* cached from the first initialisation on */

        fprintf(out, "Model: \t\t %s\n", gpu->spec.model);
        fprintf(out, "IRQ:   \t\t %u\n", procfs_interrupt(gpu));
        print_uuid(out, source);
        print_video_bios(out, known);
        fprintf(out, "Bus Type: \t PCIe\n");
        fprintf(out, "DMA Size: \t 52 bits\n");
        fprintf(out, "DMA Mask: \t 0xfffffffffffff\n");
        fprintf(out, "Bus Location: \t %04x:%02x:%02x.%x\n", address->domain, address->bus, address->slot,
                address->function);
        fprintf(out, "Device Minor: \t %u\n", gpu->minor);
        fprintf(out, "GPU Firmware: \t %s\n", known ? source->scenario->driver_version : "N/A");
        fprintf(out, "GPU Excluded:\t %s\n", gpu->spec.excluded ? "Yes" : "No");
}

/*
 * "?" if RM has no object for the GPU, because it is not initialised (dynamic-power.c, rm_get_power_info). That
 * function takes RM's locks, so a read during a teardown waits, and then prints "?". Here it prints this at once.
 */
void procfs_power(FILE *out, const struct procfs_source *source) {
        bool initialised = source->gpu->initialised && !source->gpu->tearing_down;

        fprintf(out, "Runtime D3 status:          %s\n", initialised ? "Disabled by default" : "?");
        if (scenario_driver_has(source->scenario, DRIVER_SHOWS_RAIL_GATING))
                fprintf(out, "Tegra iGPU Rail-Gating:     Disabled\n");
        fprintf(out, "Video Memory:               %s\n\n", initialised ? "Active" : "?");
        fprintf(out, "GPU Hardware Support:\n");
        fprintf(out, " Video Memory Self Refresh: %s\n", initialised ? "Not Supported" : "?");
        fprintf(out, " Video Memory Off:          %s\n\n", initialised ? "Not Supported" : "?");
        fprintf(out, "S0ix Power Management:\n");
        fprintf(out, " Platform Support:          Not Supported\n");
        fprintf(out, " Status:                    %s\n\n", initialised ? "Disabled" : "?");
        fprintf(out, "Notebook Dynamic Boost:     %s\n", initialised ? "Not Supported" : "?");
}

void procfs_numa_status(FILE *out, const struct procfs_source *source) {
        const struct model_numa *numa = &source->gpu->numa;

        fprintf(out, "Node:      %d\n", numa->node);
        fprintf(out, "Status:    %s\n",
                numa->status < ARRAY_SIZE(scenario_numa_words) ? scenario_numa_words[numa->status] : "invalid");
        if (!source->gpu->initialised)
                return;
        fprintf(out, "Address:   %" PRIx64 "\n", numa->memory_address);
        fprintf(out, "Size:      %" PRIx64 "\n", numa->memory_size);
}
