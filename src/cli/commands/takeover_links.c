/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/commands/takeover_links.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/locations.h"
#include "base/text.h"

const struct takeover_link takeover_links[] = {
        {TAKEOVER_DROP_IN, HOLDFAST_TAKEOVER_DIR "/50-holdfast.conf"},
        {"/etc/systemd/system/nvidia-persistenced.socket", HOLDFAST_TAKEOVER_DIR "/nvidia-persistenced.socket"},
};

const size_t n_takeover_links = ARRAY_SIZE(takeover_links);

static int say(int error, char *buffer, size_t size, const char *what, const char *path) {
        (void)text_format(buffer, size, "%s %s: %s", what, path, strerror(-error));
        return error;
}

/* Returns whether the path is a link to the target: 1 or 0, also when there is nothing; or negative errno. */
static int is_ours(const struct takeover_link *link, const char *path) {
        char target[PATH_MAX];
        ssize_t length = readlink(path, target, sizeof(target) - 1);

        if (length < 0)
                return errno == ENOENT || errno == EINVAL ? 0 : -errno;
        target[length] = '\0';
        return text_equal(target, link->target);
}

bool takeover_links_are_made(const struct locations *locations) {
        char path[PATH_MAX];

        return locations_path(path, locations, takeover_links[0].path) == 0 && is_ours(&takeover_links[0], path) == 1;
}

static int make_folder_of(const char *path) {
        char folder[PATH_MAX];

        text_set(folder, "%s", path);
        *strrchr(folder, '/') = '\0';
        return mkdir(folder, 0755) == 0 || errno == EEXIST ? 0 : -errno;
}

/* Makes the link under a temporary name; rename() then replaces an existing file atomically. */
static int make_link(const char *target, const char *path) {
        char temporary[PATH_MAX];
        int r;

        r = text_format(temporary, sizeof(temporary), "%s.new", path);
        if (r < 0)
                return r;
        (void)unlink(temporary);
        if (symlink(target, temporary) < 0)
                return -errno;
        if (rename(temporary, path) == 0)
                return 0;
        r = -errno;
        (void)unlink(temporary);
        return r;
}

static int make_one(const struct takeover_link *link, const struct locations *locations, char *error, size_t size) {
        char path[PATH_MAX], target[PATH_MAX];
        int r;

        if (locations_path(path, locations, link->path) < 0 || locations_path(target, locations, link->target) < 0)
                return say(-ENAMETOOLONG, error, size, "cannot link", link->path);
        if (access(target, R_OK) < 0)
                return say(-errno, error, size, "Holdfast is not completely installed:", target);
        r = is_ours(link, path);
        if (r == 1)
                return 0;
        if (r == 0 && faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return say(-EEXIST, error, size,
                           "another file is in the place of a link; check it and move it away:", path);
        r = make_folder_of(path);
        if (r == 0)
                r = make_link(link->target, path);
        return r < 0 ? say(r, error, size, "cannot link", path) : 0;
}

int takeover_links_make(const struct locations *locations, char *error, size_t error_size) {
        for (size_t i = 0; i < n_takeover_links; i++) {
                int r = make_one(&takeover_links[i], locations, error, error_size);

                if (r < 0)
                        return r;
        }
        return 0;
}

int takeover_links_remove(const struct locations *locations, char *error, size_t error_size) {
        char path[PATH_MAX];
        int r = 0;

        for (size_t i = 0; i < n_takeover_links && r >= 0; i++) {
                r = locations_path(path, locations, takeover_links[i].path);
                if (r == 0)
                        r = is_ours(&takeover_links[i], path);
                if (r == 1 && unlink(path) < 0)
                        r = -errno;
        }
        if (r < 0)
                return say(r, error, error_size, "cannot remove", path);
        (void)locations_path(path, locations, TAKEOVER_DROP_IN);
        *strrchr(path, '/') = '\0';
        (void)rmdir(path); /* fails if it has other files */
        return 0;
}
