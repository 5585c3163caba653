/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"

#define PROC_DRIVER "/proc/driver/nvidia"

enum {
        GPU_FILE_SIZE_MAX = 4096, /* the driver prints a dozen lines */
};

/* ---- the `information` file -------------------------------------------------- */

/* Where the text after a label is stored: a member of struct gpu_info, and its size. */
struct text_field {
        const char *label;
        size_t offset;
        size_t size;
};

#define TEXT_FIELD(label_text, member)                                                                                 \
        {                                                                                                              \
                .label = label_text, .offset = offsetof(struct gpu_info, member),                                      \
                .size = sizeof(((struct gpu_info *)0)->member)                                                         \
        }

static const struct text_field text_fields[] = {
        TEXT_FIELD("GPU UUID", uuid),
        TEXT_FIELD("Model", model),
        TEXT_FIELD("Video BIOS", video_bios),
};

static void take_field(struct gpu_info *info, const char *label, const char *value) {
        uint64_t minor;

        for (size_t i = 0; i < ARRAY_SIZE(text_fields); i++)
                if (text_equal(label, text_fields[i].label))
                        (void)text_copy((char *)info + text_fields[i].offset, text_fields[i].size, value);

        if (strchr(info->uuid, '?')) /* drivers before 590; later ones print no line instead */
                info->uuid[0] = '\0';
        if (text_equal(label, "Device Minor") && text_parse_u64(value, 10, INT16_MAX, &minor) == 0)
                info->minor = (int)minor;
        if (text_equal(label, "GPU Excluded"))
                info->excluded = text_equal_nocase(value, "yes");
}

static void clear_fields(struct gpu_info *info) {
        *info = (struct gpu_info){
                .address = info->address,
                .minor = GPU_MINOR_UNKNOWN,
        };
}

void gpu_info_parse(char *text, struct gpu_info *info) {
        char *line, *rest = NULL;

        clear_fields(info);
        for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                /* The white space around the colon depends on the label (nv-procfs.c). */
                char *colon = strchr(line, ':');

                if (!colon)
                        continue;
                *colon = '\0';
                take_field(info, text_trim(line), text_trim(colon + 1));
        }
}

/* Builds the path of gpus/NAME/FILE. Returns 0 or negative errno. */
static int gpu_file(char path[static PATH_MAX], const struct locations *locations, const char *name, const char *file) {
        char relative[sizeof(PROC_DRIVER) + NAME_MAX + 32];
        int r = text_format(relative, sizeof(relative), PROC_DRIVER "/gpus/%s/%s", name, file);

        return r < 0 ? r : locations_path(path, locations, relative);
}

static int read_information(const struct locations *locations, const char *name, struct gpu_info *info) {
        char path[PATH_MAX], text[GPU_FILE_SIZE_MAX];
        ssize_t length;
        int r;

        r = gpu_file(path, locations, name, "information");
        if (r < 0)
                return r;
        length = file_read(path, text, sizeof(text));
        if (length < 0)
                return (int)length;
        gpu_info_parse(text, info);
        info->lacks_numa =
                gpu_file(path, locations, name, "numa_status") == 0 && access(path, F_OK) < 0 && errno == ENOENT;
        return 0;
}

int inventory_read_gpu(const struct locations *locations, const struct pci_address *address, struct gpu_info *ret_gpu) {
        struct gpu_info info = {.address = *address};
        char name[PCI_ADDRESS_SIZE];
        int r;

        r = read_information(locations, pci_address_format(address, name), &info);
        if (r == -ENOENT || r == -ENOTDIR)
                return -ENODEV;
        if (r < 0)
                return r;
        *ret_gpu = info;
        return 0;
}

/* ---- the folder of all GPUs -------------------------------------------------- */

struct gpu_list {
        struct gpu_info *gpus;
        size_t n;
};

static void gpu_list_done(struct gpu_list *list) {
        free(list->gpus);
}

static int gpu_list_add(struct gpu_list *list, const struct gpu_info *info) {
        struct gpu_info *gpus = array_grown(list->gpus, list->n, sizeof(*gpus));

        if (!gpus)
                return -ENOMEM;
        list->gpus = gpus;
        list->gpus[list->n++] = *info;
        return 0;
}

/* Opens the folder of GPUs. *ret_dir is NULL if the driver is loaded without it, because no GPU was ever probed. */
static int open_gpus(const struct locations *locations, DIR **ret_dir) {
        char path[PATH_MAX];
        DIR *dir;
        int r;

        r = locations_path(path, locations, PROC_DRIVER "/gpus");
        if (r < 0)
                return r;
        dir = opendir(path); /* close-on-exec by definition */
        if (!dir && errno != ENOENT)
                return -errno;
        if (!dir) {
                r = locations_path(path, locations, PROC_DRIVER);
                if (r < 0)
                        return r;
                if (access(path, F_OK) < 0)
                        return -errno;
        }
        *ret_dir = dir;
        return 0;
}

static int add_entry(struct gpu_list *list, const struct locations *locations, const char *name, bool addresses_only) {
        struct gpu_info info = {.minor = GPU_MINOR_UNKNOWN};

        if (pci_address_parse(name, &info.address) < 0)
                return 0; /* "." and "..", or something that a later driver puts there */
        /* If the file cannot be read, for example while the GPU is being removed, list only the address. */
        if (!addresses_only)
                (void)read_information(locations, name, &info);
        return gpu_list_add(list, &info);
}

static int compare_gpus(const void *a, const void *b) {
        const struct gpu_info *first = a, *second = b;

        return pci_address_compare(&first->address, &second->address);
}

static int read_folder(const struct locations *locations, bool addresses_only, struct gpu_info **ret_gpus,
                       size_t *ret_n) {
        CLEANUP(gpu_list_done) struct gpu_list list = {0};
        CLEANUP(dir_done) DIR *dir = NULL;
        struct dirent *entry;
        int r;

        r = open_gpus(locations, &dir);
        if (r < 0)
                return r;
        while (dir && (errno = 0, entry = readdir(dir))) {
                r = add_entry(&list, locations, entry->d_name, addresses_only);
                if (r < 0)
                        return r;
        }
        if (dir && errno != 0)
                return -errno;

        if (list.n > 0)
                qsort(list.gpus, list.n, sizeof(list.gpus[0]), compare_gpus);
        *ret_gpus = take_ptr(list.gpus);
        *ret_n = list.n;
        return 0;
}

int inventory_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n) {
        return read_folder(locations, false, ret_gpus, ret_n);
}

int inventory_read_addresses(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n) {
        return read_folder(locations, true, ret_gpus, ret_n);
}

/* ---- sysfs ---- */

/* Reads the first character of a link. Returns 0 or negative errno. */
static int try_link(const struct locations *locations, const char *name, const char *suffix) {
        char path[PATH_MAX], relative[64], target[1];
        int r;

        text_set(relative, "/sys/bus/pci/devices/%s%s", name, suffix);
        r = locations_path(path, locations, relative);
        if (r < 0)
                return r;
        return readlink(path, target, sizeof(target)) < 0 ? -errno : 0;
}

int inventory_is_bound(const struct locations *locations, const struct pci_address *address) {
        char name[PCI_ADDRESS_SIZE];
        int r;

        r = try_link(locations, pci_address_format(address, name), "/driver");
        if (r != -ENOENT)
                return r < 0 ? r : 1;
        r = try_link(locations, name, "");
        return r == -EINVAL ? 0 : r; /* a folder instead of a link, as in a test's tree */
}

/* ---- the driver's version ---------------------------------------------------- */

/* "595.45.04": only digits and at least one dot. The other words of the line have other characters. */
static bool looks_like_version(const char *word) {
        return strspn(word, "0123456789.") == strlen(word) && strchr(word, '.') != NULL && word[0] != '.';
}

int inventory_driver_version(const struct locations *locations, char *buffer, size_t size) {
        char path[PATH_MAX], text[GPU_FILE_SIZE_MAX];
        char *word, *rest = NULL;
        ssize_t length;
        int r;

        r = locations_path(path, locations, PROC_DRIVER "/version");
        if (r < 0)
                return r;
        length = file_read(path, text, sizeof(text));
        if (length < 0)
                return (int)length;

        text[strcspn(text, "\n")] = '\0'; /* the second line has the compiler's version */
        for (word = strtok_r(text, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest))
                if (looks_like_version(word))
                        return text_copy(buffer, size, word) ? 0 : -EBADMSG;
        return -EBADMSG;
}

bool inventory_driver_is_before(const struct locations *locations, unsigned major, unsigned minor, unsigned patch) {
        const unsigned other[] = {major, minor, patch};
        unsigned version[ARRAY_SIZE(other)] = {0}; /* "555.42" is 555.42.0 */
        char text[32];

        if (inventory_driver_version(locations, text, sizeof(text)) < 0 ||
            sscanf(text, "%u.%u.%u", &version[0], &version[1], &version[2]) < 2)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(other); i++)
                if (version[i] != other[i])
                        return version[i] < other[i];
        return false;
}
