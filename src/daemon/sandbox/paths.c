/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/sandbox/paths.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/sandbox/landlock.h"

/* ---- the table ---- */

static bool always(const struct sandbox_config *config) {
        return true;
}

static bool if_library(const struct sandbox_config *config) {
        return config->closed_library;
}

static bool if_numa(const struct sandbox_config *config) {
        return config->onlines_numa;
}

/* Other users can read in /etc only what everybody can; root could read /etc/shadow. */
static bool if_not_root(const struct sandbox_config *config) {
        return geteuid() != 0;
}

static const struct {
        const char *path;
        unsigned accesses;
        bool (*is_needed)(const struct sandbox_config *config);
} table[] = {
        /* GPUs, callers, the driver */
        {"/dev", LANDLOCK_READ | LANDLOCK_IOCTL, always},
        {"/proc", LANDLOCK_READ, always},
        {"/sys", LANDLOCK_READ, always},
        {"/run/udev", LANDLOCK_READ, always},
        {"/sys/devices/system/memory", LANDLOCK_WRITE, if_numa},
        /* for the standard descriptors of a keeper that is forked later */
        {"/dev/null", LANDLOCK_WRITE, always},
        /* at a reload: group names, and libraries and files that look them up; the log's time zone */
        {"/etc/group", LANDLOCK_READ, always},
        {"/etc/ld.so.cache", LANDLOCK_READ, always},
        {"/etc/localtime", LANDLOCK_READ, always},
        {"/etc/nsswitch.conf", LANDLOCK_READ, always},
        {"/etc/passwd", LANDLOCK_READ, always},
        {"/lib", LANDLOCK_READ, always},
        {"/lib64", LANDLOCK_READ, always},
        {"/usr", LANDLOCK_READ, always},
        {"/etc", LANDLOCK_READ, if_not_root},
        /* we do not know what a closed library reads; it opens device nodes for writing */
        {"/", LANDLOCK_READ | LANDLOCK_IOCTL, if_library},
        {"/dev", LANDLOCK_WRITE, if_library},
};

/* ---- as rules ---- */

static int permit_rooted(struct landlock *landlock, const char *root, const char *path, unsigned accesses) {
        char rooted[PATH_MAX];

        if (text_format(rooted, sizeof(rooted), "%s%s", root, path) < 0)
                return -ENAMETOOLONG;
        return landlock_permit(landlock, rooted, accesses);
}

static int permit_folder_of(struct landlock *landlock, const char *path, unsigned accesses) {
        char copy[PATH_MAX];

        if (!text_copy(copy, sizeof(copy), path))
                return -ENAMETOOLONG;
        return landlock_permit(landlock, dirname(copy), accesses);
}

/*
 * A root other than / belongs to a simulated driver, or contains a driver's files. A file system may be mounted there
 * later. It is then subject to the rule for the parent folder, not to the rule for the directory that it hides.
 */
static int permit_root(struct landlock *landlock, const char *root) {
        int r = landlock_permit(landlock, root, LANDLOCK_READ | LANDLOCK_IOCTL);

        return r < 0 ? r : permit_folder_of(landlock, root, LANDLOCK_READ | LANDLOCK_IOCTL);
}

static int permit_table(struct landlock *landlock, const struct sandbox_config *config) {
        bool rooted = config->root && config->root[0] != '\0';
        int r = rooted ? permit_root(landlock, config->root) : 0;

        for (size_t i = 0; i < ARRAY_SIZE(table) && r >= 0; i++) {
                if (!table[i].is_needed(config))
                        continue;
                r = landlock_permit(landlock, table[i].path, table[i].accesses);
                if (r >= 0 && rooted) /* path may be a link to another place */
                        r = permit_rooted(landlock, config->root, table[i].path, table[i].accesses);
        }
        return r;
}

/* Permits the folder, because editors replace the file; and the folder that a link leads to. */
static int permit_config(struct landlock *landlock, const char *path) {
        char real[PATH_MAX];
        int r;

        if (!path)
                return 0;
        r = permit_folder_of(landlock, path, LANDLOCK_READ);
        if (r >= 0 && realpath(path, real))
                r = permit_folder_of(landlock, real, LANDLOCK_READ);
        return r;
}

/*
 * A keeper that is forked later inherits these rules. It locks the pid file, and removes what a killed daemon left. It
 * may not write: in a mount namespace of his own, a user could mount a file of root below this folder, and pass us a
 * descriptor of that mount. Landlock would then permit writing to root's file (decision 13).
 */
static int permit_runtime_directory(struct landlock *landlock, const char *path, unsigned more) {
        return path ? landlock_permit(landlock, path, LANDLOCK_READ | LANDLOCK_REMOVE | more) : 0;
}

static int permit_all(struct landlock *landlock, const struct sandbox_config *config) {
        int r = permit_table(landlock, config);

        if (r >= 0)
                r = permit_config(landlock, config->config_path);
        if (r >= 0)
                r = permit_runtime_directory(landlock, config->runtime_directory, LANDLOCK_MAKE_SOCKET);
        return r;
}

static int report_failure(int r) { /* probably refused by the service manager's filter */
        return log_errno(LOG_INFO, r, "files are not limited: Landlock cannot be used");
}

static int begin(struct landlock *ret_landlock) {
        int r = landlock_begin(ret_landlock);

        if (r == -ENOSYS || r == -EOPNOTSUPP)
                log_write(LOG_DEBUG, "this kernel has no Landlock: files are not limited");
        else if (r < 0)
                (void)report_failure(r);
        return r;
}

static void enter(struct landlock *landlock, int r) {
        if (r >= 0)
                r = landlock_enter(landlock);
        if (r < 0)
                (void)report_failure(r);
        else
                log_write(LOG_INFO, "Files are limited by Landlock (version %u)", landlock->version);
}

void sandbox_limit_paths(const struct sandbox_config *config) {
        CLEANUP(landlock_done) struct landlock landlock = LANDLOCK_INIT;

        if (begin(&landlock) >= 0)
                enter(&landlock, permit_all(&landlock, config));
}

void sandbox_limit_keeper_paths(const char *runtime_directory) {
        CLEANUP(landlock_done) struct landlock landlock = LANDLOCK_INIT;

        if (begin(&landlock) >= 0)
                enter(&landlock, permit_runtime_directory(&landlock, runtime_directory, 0));
}
