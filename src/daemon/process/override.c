/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/override.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"
#include "daemon/manager/keeper.h"
#include "gpu/nodes.h"

enum { EXECUTE = 1, WRITE = 2, READ = 4 };

/* Whether root without capabilities and supplementary groups has these accesses to a file of that owner and mode. */
static bool root_has(uid_t uid, gid_t gid, mode_t mode, gid_t own_gid, mode_t accesses) {
        unsigned shift = 0;

        if (uid == 0)
                shift = 6;
        else if (gid == own_gid)
                shift = 3;
        return (mode >> shift & accesses) == accesses;
}

static bool refuses(const struct override_question *question, const char *path, mode_t accesses,
                    char ret_reason[static PATH_MAX]) {
        struct stat status;

        if (stat(path, &status) < 0 || root_has(status.st_uid, status.st_gid, status.st_mode, question->gid, accesses))
                return false;
        (void)text_format(ret_reason, PATH_MAX, "%s belongs to uid %u, with mode %04o", path, (unsigned)status.st_uid,
                          (unsigned)(status.st_mode & 07777));
        return true;
}

static mode_t node_accesses(const struct override_question *question) {
        return question->writes ? READ | WRITE : READ;
}

/* Checks /dev/nvidiactl, /dev/nvidia-uvm, /dev/nvidiaN, and other nodes of the driver. */
static bool nodes_refuse(const struct override_question *question, char ret_reason[static PATH_MAX]) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char folder[PATH_MAX], path[PATH_MAX];
        const struct dirent *entry;

        if (locations_path(folder, question->locations, "/dev") < 0)
                return false;
        dir = opendir(folder);
        while (dir && (entry = readdir(dir)))
                if (text_starts_with(entry->d_name, "nvidia") && entry->d_type != DT_DIR &&
                    text_format(path, sizeof(path), "%s/%s", folder, entry->d_name) == 0 &&
                    refuses(question, path, node_accesses(question), ret_reason))
                        return true;
        return false;
}

/* Checks nodes that other programs create later, by the owner and mode in the module's parameters. */
static bool later_nodes_refuse(const struct override_question *question, char ret_reason[static PATH_MAX]) {
        struct node_parameters parameters;

        if (node_parameters_read(question->locations, &parameters) < 0) {
                (void)text_format(ret_reason, PATH_MAX,
                                  "no driver is loaded yet, so the owner of its nodes is unknown");
                return true;
        }
        if (root_has(parameters.uid, parameters.gid, parameters.mode, question->gid, node_accesses(question)))
                return false;
        (void)text_format(ret_reason, PATH_MAX, "NVreg_DeviceFileUID and NVreg_DeviceFileMode are %u and %04o",
                          (unsigned)parameters.uid, (unsigned)parameters.mode);
        return true;
}

static bool keeper_refuses(const struct override_question *question, char ret_reason[static PATH_MAX]) {
        char path[PATH_MAX];

        return question->uses_keeper && locations_path(path, question->locations, KEEPER_PATH) == 0 &&
               refuses(question, path, WRITE, ret_reason);
}

bool override_is_needed(const struct override_question *question, char ret_reason[static PATH_MAX]) {
        return nodes_refuse(question, ret_reason) || later_nodes_refuse(question, ret_reason) ||
               keeper_refuses(question, ret_reason) ||
               refuses(question, question->runtime_directory, WRITE | EXECUTE, ret_reason);
}
