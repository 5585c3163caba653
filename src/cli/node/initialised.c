/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/initialised.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"

enum { POWER_SIZE_MAX = 4096 }; /* the driver prints a dozen lines */

int initialised_read(const struct locations *locations, const struct pci_address *address, bool *ret_initialised) {
        static const char label[] = "Runtime D3 status:";
        char path[PATH_MAX], relative[64], name[PCI_ADDRESS_SIZE], text[POWER_SIZE_MAX];
        ssize_t length;
        char *status;
        int r;

        text_set(relative, "/proc/driver/nvidia/gpus/%s/power", pci_address_format(address, name));
        r = locations_path(path, locations, relative);
        if (r < 0)
                return r;
        length = file_read(path, text, sizeof(text));
        if (length == -ENOENT || length == -ENOTDIR)
                return -ENODEV;
        if (length < 0)
                return (int)length;
        status = strstr(text, label);
        if (!status)
                return -EBADMSG;
        status += strlen(label);
        status[strcspn(status, "\n")] = '\0';
        /* "?" is what the driver prints while RM has no object of the GPU (dynamic-power.c, rm_get_power_info). */
        *ret_initialised = !text_equal(text_trim(status), "?");
        return 0;
}

static bool exists(const struct locations *locations, const char *path) {
        char rooted[PATH_MAX];

        return locations_path(rooted, locations, path) == 0 && access(rooted, F_OK) == 0;
}

/* False also if the folder does not exist or cannot be read. */
static bool has_entries(const struct locations *locations, const char *path) {
        CLEANUP(dir_done) DIR *folder = NULL;
        const struct dirent *entry;
        char rooted[PATH_MAX];

        if (locations_path(rooted, locations, path) < 0)
                return false;
        folder = opendir(rooted);
        while (folder && (entry = readdir(folder)))
                if (entry->d_name[0] != '.')
                        return true;
        return false;
}

bool initialised_has_interrupts(const struct locations *locations, const struct pci_address *address) {
        char path[64], name[PCI_ADDRESS_SIZE];

        text_set(path, "/sys/bus/pci/devices/%s/msi_irqs", pci_address_format(address, name));
        return has_entries(locations, path);
}

bool initialised_has_uvm(const struct locations *locations, const char *uuid) {
        char path[64 + GPU_UUID_SIZE];

        return uuid[0] != '\0' && text_format(path, sizeof(path), "/proc/driver/nvidia-uvm/gpus/%s", uuid) == 0 &&
               exists(locations, path);
}
