/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "sim/control/endpoint.h"
#include "sim/control/server.h"

enum { STALE_MOUNTS_MAX = 16 };

static int make_folder(const char *path) {
        return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* A FUSE mount whose server was killed stays mounted, and every access fails with ENOTCONN. */
static void detach_stale(const char *root) {
        struct stat status;

        for (int i = 0; i < STALE_MOUNTS_MAX && stat(root, &status) < 0 && errno == ENOTCONN; i++)
                (void)umount2(root, MNT_DETACH | UMOUNT_NOFOLLOW);
}

static bool is_served(const char *root) {
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX];

        if (file_rooted(path, root, SERVER_DEFAULT_SOCKET) == 0)
                fd = endpoint_connect(path);
        return fd >= 0;
}

int mount_prepare(const char *root, int *ret_run_fd) {
        char run[PATH_MAX];
        int fd, r;

        detach_stale(root);
        r = make_folder(root);
        if (r < 0)
                return r;
        if (is_served(root))
                return -EBUSY;
        r = file_rooted(run, root, "/run");
        if (r == 0)
                r = make_folder(run);
        if (r < 0)
                return r;
        fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret_run_fd = fd;
        return 0;
}

int mount_show_run(const char *root, int run_fd) {
        char source[64], target[PATH_MAX];
        int r = file_rooted(target, root, "/run");

        if (r < 0)
                return r;
        (void)text_format(source, sizeof(source), "/proc/self/fd/%d", run_fd);
        return mount(source, target, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}
