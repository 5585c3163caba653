/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"

int file_rooted(char buffer[static PATH_MAX], const char *root, const char *path) {
        return text_format(buffer, PATH_MAX, "%s%s", root ? root : "", path);
}

ssize_t file_read_at(int directory_fd, const char *path, char *buffer, size_t size) {
        CLEANUP(fd_done) int fd = openat(directory_fd, path, O_RDONLY | O_CLOEXEC);
        size_t length = 0;

        if (fd < 0)
                return -errno;
        for (;;) {
                ssize_t count = read(fd, buffer + length, size - length);

                if (count < 0 && errno == EINTR)
                        continue;
                if (count < 0)
                        return -errno;
                if (count == 0)
                        break;
                length += (size_t)count;
                if (length == size)
                        return -EFBIG;
        }
        buffer[length] = '\0';
        return (ssize_t)length;
}

ssize_t file_read(const char *path, char *buffer, size_t size) {
        return file_read_at(AT_FDCWD, path, buffer, size);
}

int file_write(const char *path, const char *text) {
        CLEANUP(fd_done) int fd = open(path, O_WRONLY | O_CLOEXEC);
        size_t length = strlen(text);
        ssize_t count;

        if (fd < 0)
                return -errno;
        do
                count = write(fd, text, length);
        while (count < 0 && errno == EINTR);
        if (count < 0)
                return -errno;
        return (size_t)count == length ? 0 : -EIO;
}
