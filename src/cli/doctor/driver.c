/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: GPUs on the PCI bus, the driver's module, the driver. */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"

#define PCI_DEVICES "/sys/bus/pci/devices"

enum {
        BUS_GPUS_MAX = 64,
        DRIVER_NAME_SIZE = 32,
};

/* An NVIDIA GPU on the PCI bus, with any driver or none. */
struct bus_gpu {
        struct pci_address address;
        char driver[DRIVER_NAME_SIZE]; /* empty: none */
};

struct bus {
        size_t n;
        struct bus_gpu gpus[BUS_GPUS_MAX];
};

/* ---- the bus ----------------------------------------------------------------- */

static bool attribute_begins(int folder_fd, const char *device, const char *attribute, const char *text) {
        char path[64], value[32];

        return text_format(path, sizeof(path), "%.32s/%s", device, attribute) == 0 &&
               file_read_at(folder_fd, path, value, sizeof(value)) >= 0 && text_starts_with(value, text);
}

/* Class 03 is a display controller; an NVIDIA board also has audio and USB functions. */
static bool is_gpu(int folder_fd, const char *device) {
        return attribute_begins(folder_fd, device, "vendor", "0x10de") &&
               attribute_begins(folder_fd, device, "class", "0x03");
}

static void read_driver(int folder_fd, const char *device, char driver[static DRIVER_NAME_SIZE]) {
        char path[64], target[256];
        const char *name;
        ssize_t length = -1;

        driver[0] = '\0';
        if (text_format(path, sizeof(path), "%.32s/driver", device) == 0)
                length = readlinkat(folder_fd, path, target, sizeof(target) - 1);
        if (length <= 0)
                return;
        target[length] = '\0';
        name = strrchr(target, '/');
        (void)text_copy(driver, DRIVER_NAME_SIZE, name ? name + 1 : target);
}

/* Returns 0 or negative errno. */
static int bus_read(struct bus *bus, const struct locations *locations) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char path[PATH_MAX];
        struct dirent *entry;

        bus->n = 0;
        if (locations_path(path, locations, PCI_DEVICES) < 0)
                return -ENAMETOOLONG;
        dir = opendir(path);
        if (!dir)
                return -errno;
        while (bus->n < BUS_GPUS_MAX && (entry = readdir(dir))) {
                struct bus_gpu *gpu = &bus->gpus[bus->n];

                if (pci_address_parse(entry->d_name, &gpu->address) < 0 || !is_gpu(dirfd(dir), entry->d_name))
                        continue;
                read_driver(dirfd(dir), entry->d_name, gpu->driver);
                bus->n++;
        }
        return 0;
}

static bool bus_has(const struct bus *bus, const struct pci_address *address) {
        for (size_t i = 0; i < bus->n; i++)
                if (pci_address_compare(&bus->gpus[i].address, address) == 0)
                        return true;
        return false;
}

void probe_gpu_on_bus(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        struct bus bus;
        int r;

        r = bus_read(&bus, examination->locations);
        if (r < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "the PCI bus cannot be read: %s%s: %s",
                            examination->locations->root, PCI_DEVICES, strerror(-r));
                return;
        }
        each_gpu(gpu, snapshot) {
                if (bus_has(&bus, &gpu->info.address))
                        continue;
                finding_set(finding, VERDICT_PROBLEM,
                            "a GPU that the driver or the daemon lists is missing on the PCI bus");
                finding_quote(finding, "%s: not in %s%s", gpu->label, examination->locations->root, PCI_DEVICES);
        }
        if (bus.n == 0 && finding->verdict == VERDICT_OK) {
                finding_set(finding, VERDICT_PROBLEM, "there is no NVIDIA GPU on the PCI bus");
                finding_quote(finding, "no device of vendor 0x10de and class 0x03.... in %s%s",
                              examination->locations->root, PCI_DEVICES);
        }
        if (finding->verdict == VERDICT_PROBLEM)
                finding_cure(finding, "echo 1 > /sys/bus/pci/rescan");
        else
                finding_quote(finding, "%zu NVIDIA GPU%s in %s%s", bus.n, text_plural(bus.n),
                              examination->locations->root, PCI_DEVICES);
}

/* ---- the module -------------------------------------------------------------- */

/* Whether depmod knows nvidia.ko, compressed or not. Returns 1, 0 or negative errno. */
static int has_module(const char *path) {
        CLEANUP(stream_done) FILE *stream = fopen(path, "re");
        CLEANUP(free_ptr) char *line = NULL;
        size_t room = 0;

        if (!stream)
                return -errno;
        while (getline(&line, &room, stream) >= 0) {
                line[strcspn(line, ":")] = '\0'; /* the modules that this one needs follow */
                if (strstr(line, "/nvidia.ko"))
                        return 1;
        }
        return 0;
}

void probe_driver_module(const struct examination *examination, struct finding *finding) {
        char relative[160], path[PATH_MAX];
        struct utsname kernel;
        int r;

        if (examination->snapshot->driver_loaded)
                return;
        (void)uname(&kernel);
        text_set(relative, "/lib/modules/%s/modules.dep", kernel.release);
        r = locations_path(path, examination->locations, relative);
        if (r == 0)
                r = has_module(path);
        if (r < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "the kernel's list of modules cannot be read: %s: %s", path,
                            strerror(-r));
                return;
        }
        finding_quote(finding, "%s: %s", path, r > 0 ? "names nvidia.ko" : "names no nvidia.ko");
        if (r > 0)
                return;
        finding_set(finding, VERDICT_PROBLEM, "there is no NVIDIA module for the running kernel, %s", kernel.release);
        finding_cure(finding, "dkms autoinstall -k %s && modprobe nvidia", kernel.release);
}

/* ---- the driver -------------------------------------------------------------- */

static void quote_bus_gpu(const struct bus_gpu *gpu, struct finding *finding) {
        char address[PCI_ADDRESS_SIZE];

        finding_quote(finding, "%s is on the PCI bus, %s%s", pci_address_format(&gpu->address, address),
                      gpu->driver[0] ? "driven by " : "with no driver", gpu->driver);
}

static void report_not_loaded(const struct examination *examination, const struct bus *bus, struct finding *finding) {
        bool nouveau = false;

        finding_set(finding, VERDICT_PROBLEM, "the NVIDIA driver is not loaded");
        finding_quote(finding, "%s/proc/driver/nvidia: %s", examination->locations->root, strerror(ENOENT));
        for (size_t i = 0; i < bus->n; i++) {
                quote_bus_gpu(&bus->gpus[i], finding);
                nouveau |= text_equal(bus->gpus[i].driver, "nouveau");
        }
        finding_cure(finding, nouveau ? "modprobe -r nouveau && modprobe nvidia" : "modprobe nvidia");
}

/* A GPU with another driver, mostly vfio-pci, is only noted: that is on purpose. One without a driver is a problem. */
static void report_unbound(const struct examination *examination, const struct bus *bus, struct finding *finding) {
        for (size_t i = 0; i < bus->n; i++) {
                const struct bus_gpu *gpu = &bus->gpus[i];
                const struct snapshot_gpu *row = snapshot_find(examination->snapshot, &gpu->address);
                bool elsewhere = gpu->driver[0] != '\0' && !text_equal(gpu->driver, "nvidia");
                char address[PCI_ADDRESS_SIZE];

                if (row && row->in_driver)
                        continue;
                quote_bus_gpu(gpu, finding);
                if (elsewhere && finding->verdict == VERDICT_OK)
                        finding_set(finding, VERDICT_NOTE, "a GPU was given to another driver");
                if (elsewhere)
                        continue;
                finding_set(finding, VERDICT_PROBLEM, "the driver is loaded but does not list every GPU");
                finding_cure(finding, "echo %s > /sys/bus/pci/drivers/nvidia/bind",
                             pci_address_format(&gpu->address, address));
        }
}

void probe_driver_loaded(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        char untold[SNAPSHOT_GAP_SIZE];
        struct bus bus;

        if (bus_read(&bus, examination->locations) < 0)
                bus.n = 0; /* gpu-on-bus reports it */
        if (snapshot->inventory_error < 0) {
                finding_set(finding, VERDICT_UNKNOWN,
                            "the driver's list of GPUs cannot be read: %s/proc/driver/nvidia: %s",
                            examination->locations->root, strerror(-snapshot->inventory_error));
                return;
        }
        if (!snapshot->driver_loaded) {
                report_not_loaded(examination, &bus, finding);
                return;
        }
        finding_quote(finding, "%s/proc/driver/nvidia/version: %s", examination->locations->root,
                      snapshot->driver_version);
        report_unbound(examination, &bus, finding);
        if (finding->verdict != VERDICT_OK || !snapshot_untold(snapshot, untold, sizeof(untold)))
                return;
        finding_set(finding, VERDICT_PROBLEM, "%s", untold);
        finding_cure(
                finding,
                "journalctl --dmesg --grep 'NVRM|Xid'    # find the GPU that hangs; end its job, or reboot the node");
}
