/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/control/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/fd.h"

enum { BACKLOG = 64 };

/* Returns the address of path, valid while the folder's descriptor is open. */
static int make_address(const char *path, struct sockaddr_un *ret_address, int *ret_folder_fd) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char folder[PATH_MAX], name[PATH_MAX];
        int fd, length;

        if (strlen(path) >= PATH_MAX)
                return -ENAMETOOLONG;
        fd = open(dirname(strcpy(folder, path)), O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", fd,
                          basename(strcpy(name, path)));
        if (length < 0 || (size_t)length >= sizeof(address.sun_path)) {
                (void)fd_close(fd);
                return -ENAMETOOLONG;
        }
        *ret_address = address;
        *ret_folder_fd = fd;
        return 0;
}

static int connect_address(const struct sockaddr_un *address) {
        CLEANUP(fd_done) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
                return -errno;
        return take_fd(&fd);
}

int endpoint_connect(const char *path) {
        CLEANUP(fd_done) int folder_fd = -1;
        struct sockaddr_un address;
        int r = make_address(path, &address, &folder_fd);

        return r < 0 ? r : connect_address(&address);
}

static int bind_address(const struct sockaddr_un *address) {
        CLEANUP(fd_done) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
                return -errno;
        if (chmod(address->sun_path, 0666) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        return take_fd(&fd);
}

int endpoint_listen(const char *path) {
        CLEANUP(fd_done) int folder_fd = -1, living_fd = -1;
        struct sockaddr_un address;
        int r = make_address(path, &address, &folder_fd);

        if (r < 0)
                return r;
        living_fd = connect_address(&address);
        if (living_fd >= 0)
                return -EADDRINUSE;
        if (living_fd == -ECONNREFUSED && unlink(address.sun_path) < 0)
                return -errno;
        return bind_address(&address);
}

static int send_all(int fd, const char *bytes, size_t length) {
        while (length > 0) {
                ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);

                if (count < 0 && errno == EINTR)
                        continue;
                if (count < 0)
                        return -errno;
                bytes += count;
                length -= (size_t)count;
        }
        return 0;
}

int endpoint_send(int fd, const char *text) {
        int r = send_all(fd, text, strlen(text));

        return r < 0 ? r : send_all(fd, "\n", 1);
}
