/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: the libraries' files, the device nodes. */

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "gpu/abi.h"
#include "gpu/nodes.h"

static void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

/* ---- versions ---------------------------------------------------------------- */

/* Where distributions, NVIDIA's installer and the container toolkit have the libraries. */
static const char *const library_folders[] = {
        "/usr/lib",   "/usr/lib/aarch64-linux-gnu", "/usr/lib/nvidia", "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64", "/usr/local/nvidia/lib64",
};

static const char *const library_names[] = {
        "libnvidia-cfg.so.",
        "libnvidia-ml.so.",
};

/* "595.45.04" of "libnvidia-ml.so.595.45.04"; NULL for ".so.1" and for all else. */
static const char *version_in(const char *file, const char *library) {
        const char *version;

        if (!text_starts_with(file, library))
                return NULL;
        version = file + strlen(library);
        return strchr(version, '.') && version[strspn(version, "0123456789.")] == '\0' ? version : NULL;
}

/* What programs load: the file that NAME.so.1 leads to. Returns false when there is no such link. */
static bool read_link(int folder_fd, const char *library, char *buffer, size_t size) {
        char link[64];
        const char *name;
        ssize_t length = -1;

        if (text_format(link, sizeof(link), "%s1", library) == 0)
                length = readlinkat(folder_fd, link, buffer, size - 1);
        if (length <= 0)
                return false;
        buffer[length] = '\0';
        name = strrchr(buffer, '/');
        if (name)
                memmove(buffer, name + 1, strlen(name + 1) + 1);
        return version_in(buffer, library) != NULL;
}

struct comparison {
        const char *driver_version;
        const char *folder; /* with the root */
        size_t n_found;
        struct finding *finding;
};

static void compare(struct comparison *comparison, const char *file, const char *library) {
        comparison->n_found++;
        if (text_equal(version_in(file, library), comparison->driver_version))
                return;
        finding_set(comparison->finding, VERDICT_PROBLEM,
                    "a library has another version than the loaded driver, %s: programs fail with a mismatch",
                    comparison->driver_version);
        finding_quote(comparison->finding, "%s/%s", comparison->folder, file);
}

static void compare_library(struct comparison *comparison, DIR *dir, const char *library) {
        char target[256];
        struct dirent *entry;

        if (read_link(dirfd(dir), library, target, sizeof(target))) {
                compare(comparison, target, library);
                return;
        }
        rewinddir(dir);
        while ((entry = readdir(dir)))
                if (version_in(entry->d_name, library))
                        compare(comparison, entry->d_name, library);
}

static void compare_folder(struct comparison *comparison, const char *root, const char *folder) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char path[PATH_MAX];
        struct stat status;

        /* A link leads to a folder of the list: /usr/lib64 to /usr/lib. */
        if (file_rooted(path, root, folder) < 0 || lstat(path, &status) < 0 || !S_ISDIR(status.st_mode))
                return;
        dir = opendir(path);
        if (!dir)
                return;
        comparison->folder = path;
        for (size_t i = 0; i < ARRAY_SIZE(library_names); i++)
                compare_library(comparison, dir, library_names[i]);
}

void probe_versions(const struct examination *examination, struct finding *finding) {
        const char *version = examination->snapshot->driver_version;
        struct comparison comparison = {.driver_version = version, .finding = finding};

        if (version[0] == '\0') {
                finding_set(finding, VERDICT_UNKNOWN,
                            "the driver's version is not known: %s/proc/driver/nvidia/version", examination->root);
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(library_folders); i++)
                compare_folder(&comparison, examination->root, library_folders[i]);
        if (comparison.n_found == 0)
                finding_set(finding, VERDICT_UNKNOWN, "no libnvidia-ml or libnvidia-cfg is in the usual folders");
        else if (finding->verdict == VERDICT_OK)
                finding_quote(finding, "%zu librar%s of version %s", comparison.n_found,
                              comparison.n_found == 1 ? "y" : "ies", version);
        else
                finding_cure_unit(finding, examination,
                                  "systemctl stop UNIT && modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia && "
                                  "modprobe nvidia && systemctl start UNIT");
}

/* ---- nodes ------------------------------------------------------------------- */

struct inspection {
        const char *root;
        struct node_parameters parameters;
        struct finding *finding;
        size_t n_right;
        char remove[320]; /* commands for what is another device's, for what is missing, for what has a wrong mode */
        char make[320];
        char change[320];
};

static void append(char *buffer, size_t size, const char *begin, const char *text) {
        size_t length = strlen(buffer);

        (void)text_format(buffer + length, size - length, "%s%s", length == 0 ? begin : " ", text);
}

static void note_missing(struct inspection *inspection, const char *path, int error, const char *arguments) {
        finding_set(inspection->finding, VERDICT_PROBLEM, "a device node is missing, or is another device's");
        finding_quote(inspection->finding, "%s: %s", path, strerror(error));
        append(inspection->make, sizeof(inspection->make), "nvidia-modprobe ", arguments);
}

/* Below a root nodes may be any files. UVM's major is dynamic: -1. */
static bool is_right_device(const struct inspection *inspection, const struct stat *status, int node_minor) {
        if (file_root_is_simulated(inspection->root))
                return true;
        return S_ISCHR(status->st_mode) && (node_minor < 0 || (major(status->st_rdev) == NV_MAJOR &&
                                                               minor(status->st_rdev) == (unsigned)node_minor));
}

static void check_mode(struct inspection *inspection, const char *path, const struct stat *status) {
        unsigned wanted = inspection->parameters.mode, found = status->st_mode & 0777;

        if (!inspection->parameters.ours || (wanted & ~found) == 0) {
                inspection->n_right++;
                return;
        }
        if (inspection->finding->verdict == VERDICT_OK)
                finding_set(inspection->finding, VERDICT_PROBLEM, "a device node cannot be opened by all who should");
        finding_quote(inspection->finding, "%s has mode 0%o; %s/proc/driver/nvidia/params says 0%o", path, found,
                      inspection->root, wanted);
        if (inspection->change[0] == '\0')
                (void)text_format(inspection->change, sizeof(inspection->change), "chmod 0%o", wanted);
        append(inspection->change, sizeof(inspection->change), "", path);
}

static void inspect(struct inspection *inspection, const char *name, int node_minor, const char *arguments) {
        char relative[64], path[PATH_MAX];
        struct stat status;

        (void)text_format(relative, sizeof(relative), "/dev/%s", name);
        if (file_rooted(path, inspection->root, relative) < 0)
                return;
        if (stat(path, &status) < 0) {
                note_missing(inspection, path, errno, arguments);
                return;
        }
        if (!is_right_device(inspection, &status, node_minor)) {
                finding_set(inspection->finding, VERDICT_PROBLEM, "a device node is missing, or is another device's");
                finding_quote(inspection->finding, "%s is %s%u:%u", path,
                              S_ISCHR(status.st_mode) ? "character device " : "no character device, ",
                              major(status.st_rdev), minor(status.st_rdev));
                append(inspection->remove, sizeof(inspection->remove), "rm ", path);
                append(inspection->make, sizeof(inspection->make), "nvidia-modprobe ", arguments);
                return;
        }
        check_mode(inspection, path, &status);
}

static bool has_uvm(const char *root) {
        char path[PATH_MAX], text[16384];

        return file_rooted(path, root, "/proc/devices") == 0 && file_read(path, text, sizeof(text)) > 0 &&
               strstr(text, " nvidia-uvm\n");
}

void probe_nodes(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        struct inspection inspection = {.root = examination->root, .finding = finding};

        if (!snapshot->driver_loaded) {
                finding_set(finding, VERDICT_UNKNOWN,
                            "without the driver nobody knows which device nodes there should be");
                return;
        }
        if (node_parameters_read(examination->root, &inspection.parameters) < 0)
                inspection.parameters.ours = false; /* then any mode may be meant */
        inspect(&inspection, "nvidiactl", NV_MINOR_CTL, "-c 255");
        for (size_t i = 0; i < snapshot->n_gpus; i++) {
                const struct gpu_info *info = &snapshot->gpus[i].info;
                char name[32], arguments[32];

                if (!snapshot->gpus[i].in_driver || info->excluded || info->minor < 0)
                        continue;
                (void)text_format(name, sizeof(name), "nvidia%d", info->minor);
                (void)text_format(arguments, sizeof(arguments), "-c %d", info->minor);
                inspect(&inspection, name, info->minor, arguments);
        }
        if (has_uvm(examination->root))
                inspect(&inspection, "nvidia-uvm", -1, "-u");
        if (finding->verdict == VERDICT_OK)
                finding_quote(finding, "%zu nodes in %s/dev as they should be", inspection.n_right, examination->root);
        else
                finding_cure(finding, "%s%s%s%s%s", inspection.remove, inspection.remove[0] != '\0' ? " && " : "",
                             inspection.make, inspection.make[0] != '\0' && inspection.change[0] != '\0' ? " && " : "",
                             inspection.change);
}
