/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: the libraries' files, the device nodes. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/program.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "gpu/abi.h"
#include "gpu/nodes.h"

/* ---- versions ---------------------------------------------------------------- */

enum {
        CACHE_TEXT_SIZE = 4 << 20, /* a desktop has some thousand libraries, a line each */
        LDCONFIG_TIMEOUT_USEC = 5 * USEC_PER_SEC,
        LINKS_MAX = 40, /* the kernel's limit */
};

static const char *const library_names[] = {
        "libnvidia-cfg.so.",
        "libnvidia-ml.so.",
};

struct comparison {
        const struct locations *locations;
        const char *driver_version;
        size_t n_found;
        struct finding *finding;
};

/* "595.45.04" of "/usr/lib/libnvidia-ml.so.595.45.04"; NULL for ".so.1" and for all else. */
static const char *version_in(const char *path) {
        const char *name = strrchr(path, '/');

        for (size_t i = 0; name && i < ARRAY_SIZE(library_names); i++) {
                const char *version = name + 1 + strlen(library_names[i]);

                if (text_starts_with(name + 1, library_names[i]) && strchr(version, '.') &&
                    version[strspn(version, "0123456789.")] == '\0')
                        return version;
        }
        return NULL;
}

/* Follows the links at the end of the path, within the root. Debian's alternatives are two links. */
static int follow_links(const struct locations *locations, char path[static PATH_MAX]) {
        for (unsigned i = 0; i < LINKS_MAX; i++) {
                char rooted[PATH_MAX], target[PATH_MAX];
                char *name = path;
                ssize_t length;

                if (locations_path(rooted, locations, path) < 0)
                        return -ENAMETOOLONG;
                length = readlink(rooted, target, sizeof(target) - 1);
                if (length < 0)
                        return errno == EINVAL ? 0 : -errno; /* no link */
                target[length] = '\0';
                if (target[0] != '/' && strrchr(path, '/'))
                        name = strrchr(path, '/') + 1;
                if (!text_copy(name, PATH_MAX - (size_t)(name - path), target))
                        return -ENAMETOOLONG;
        }
        return -ELOOP;
}

static void compare(struct comparison *comparison, const char *library) {
        char path[PATH_MAX];
        const char *version;

        if (!text_copy(path, sizeof(path), library) || follow_links(comparison->locations, path) < 0 ||
            !(version = version_in(path)))
                return;
        comparison->n_found++;
        if (text_equal(version, comparison->driver_version))
                return;
        finding_set(
                comparison->finding, VERDICT_PROBLEM,
                "a library has a different version than the loaded driver, %s: programs fail with a version mismatch",
                comparison->driver_version);
        finding_quote(comparison->finding, "%s%s", comparison->locations->root, path);
}

static bool is_of_interest(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(library_names); i++)
                if (text_starts_with(name, library_names[i]))
                        return true;
        return false;
}

/*
 * The lines of `ldconfig -p` are "\tNAME (KIND) => PATH". Of neighbours with the same name and kind, the loader takes
 * the first.
 */
static void compare_listed(struct comparison *comparison, char *text) {
        const char *before = "";
        char *rest = NULL;

        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                char *arrow = strstr(line, " => ");

                if (!arrow || line[0] != '\t' || !is_of_interest(line + 1))
                        continue;
                *arrow = '\0';
                if (!text_equal(line, before))
                        compare(comparison, arrow + strlen(" => "));
                before = line;
        }
}

/*
 * Finds the libraries in the loader's cache, as programs do. ldconfig reads every version of its format. Returns 0 or
 * negative errno.
 */
static int compare_libraries(struct comparison *comparison) {
        CLEANUP(free_ptr) char *text = malloc(CACHE_TEXT_SIZE);
        char cache[PATH_MAX];
        const char *const arguments[] = {"/sbin/ldconfig", "-C", cache, "-p", NULL};
        int r;

        if (!text)
                return -ENOMEM;
        r = locations_path(cache, comparison->locations, "/etc/ld.so.cache");
        if (r == 0)
                r = program_run(arguments, LDCONFIG_TIMEOUT_USEC, text, CACHE_TEXT_SIZE);
        if (r == 0)
                compare_listed(comparison, text);
        return r;
}

void probe_versions(const struct examination *examination, struct finding *finding) {
        const char *version = examination->snapshot->driver_version;
        struct comparison comparison = {
                .locations = examination->locations, .driver_version = version, .finding = finding};

        if (version[0] == '\0') {
                finding_set(finding, VERDICT_UNKNOWN,
                            "the driver's version is not known: %s/proc/driver/nvidia/version",
                            examination->locations->root);
                return;
        }
        if (compare_libraries(&comparison) < 0)
                finding_set(finding, VERDICT_UNKNOWN, "ldconfig cannot read the loader's cache, %s/etc/ld.so.cache",
                            examination->locations->root);
        else if (comparison.n_found == 0)
                finding_set(finding, VERDICT_UNKNOWN, "the loader knows no libnvidia-ml and no libnvidia-cfg");
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
        const struct locations *locations;
        struct node_parameters parameters;
        struct finding *finding;
        size_t n_right;
        char remove[320]; /* commands: for nodes of another device, missing nodes, nodes with a wrong mode */
        char make[320];
        char change[320];
};

static void append(char *buffer, size_t size, const char *begin, const char *text) {
        text_append(buffer, size, "%s%s", buffer[0] == '\0' ? begin : " ", text);
}

static void note_missing(struct inspection *inspection, const char *path, int error, const char *arguments) {
        finding_set(inspection->finding, VERDICT_PROBLEM, "a device node is missing, or is another device's");
        finding_quote(inspection->finding, "%s: %s", path, strerror(error));
        append(inspection->make, sizeof(inspection->make), "nvidia-modprobe ", arguments);
}

/* node_minor: -1 for UVM, whose numbers are dynamic. */
static bool is_right_device(const struct inspection *inspection, const struct stat *status, int node_minor) {
        if (!inspection->locations->nodes_are_devices)
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
                finding_set(inspection->finding, VERDICT_PROBLEM,
                            "a device node cannot be opened by all permitted users");
        finding_quote(inspection->finding, "%s has mode 0%o; %s/proc/driver/nvidia/params says 0%o", path, found,
                      inspection->locations->root, wanted);
        if (inspection->change[0] == '\0')
                text_set(inspection->change, "chmod 0%o", wanted);
        append(inspection->change, sizeof(inspection->change), "", path);
}

static void inspect(struct inspection *inspection, const char *name, int node_minor, const char *arguments) {
        char relative[64], path[PATH_MAX];
        struct stat status;

        text_set(relative, "/dev/%s", name);
        if (locations_path(path, inspection->locations, relative) < 0)
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

static bool has_uvm(const struct locations *locations) {
        char path[PATH_MAX], text[16384];

        return locations_path(path, locations, "/proc/devices") == 0 && file_read(path, text, sizeof(text)) > 0 &&
               strstr(text, " nvidia-uvm\n");
}

void probe_nodes(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        struct inspection inspection = {.locations = examination->locations, .finding = finding};

        if (!snapshot->driver_loaded) {
                finding_set(finding, VERDICT_UNKNOWN, "unknown without the driver: which device nodes should exist");
                return;
        }
        if (node_parameters_read(examination->locations, &inspection.parameters) < 0)
                inspection.parameters.ours = false; /* any mode may be intended */
        inspect(&inspection, "nvidiactl", NV_MINOR_CTL, "-c 255");
        each_gpu(gpu, snapshot) {
                const struct gpu_info *info = &gpu->info;
                char name[32], arguments[32];

                if (!gpu->in_driver || info->excluded || info->minor < 0)
                        continue;
                text_set(name, "nvidia%d", info->minor);
                text_set(arguments, "-c %d", info->minor);
                inspect(&inspection, name, info->minor, arguments);
        }
        if (has_uvm(examination->locations))
                inspect(&inspection, "nvidia-uvm", -1, "-u");
        if (finding->verdict == VERDICT_OK)
                finding_quote(finding, "%zu nodes in %s/dev as they should be", inspection.n_right,
                              examination->locations->root);
        else
                finding_cure(finding, "%s%s%s%s%s", inspection.remove, inspection.remove[0] != '\0' ? " && " : "",
                             inspection.make, inspection.make[0] != '\0' && inspection.change[0] != '\0' ? " && " : "",
                             inspection.change);
}
