/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

int file_read_text_at(int directory_fd, const char *path, size_t size, char **ret_text) {
        CLEANUP(free_ptr) char *text = malloc(size);
        ssize_t length;

        if (!text)
                return -ENOMEM;
        length = file_read_at(directory_fd, path, text, size);
        if (length < 0)
                return (int)length;
        *ret_text = take_ptr(text);
        return 0;
}

static int write_all(int fd, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t count = write(fd, bytes, size);

                if (count < 0 && errno != EINTR)
                        return -errno;
                if (count > 0) {
                        bytes += count;
                        size -= (size_t)count;
                }
        }
        return 0;
}

/*
 * The new name survives a crash only after the folder is synced, too. A failure is ignored: readers see the new file
 * anyway.
 */
static void sync_folder_of(const char *path) {
        const char *slash = strrchr(path, '/');
        CLEANUP(fd_done) int fd = -1;
        char folder[PATH_MAX];

        if (!slash)
                (void)text_copy(folder, sizeof(folder), ".");
        else
                (void)text_format(folder, sizeof(folder), "%.*s/", (int)(slash - path), path);
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                (void)fsync(fd);
}

int file_replace(const char *path, const void *bytes, size_t size, mode_t mode) {
        CLEANUP(fd_done) int fd = -1;
        char temporary[PATH_MAX];
        int r;

        r = text_format(temporary, sizeof(temporary), "%s.XXXXXX", path);
        if (r < 0)
                return r;
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_all(fd, bytes, size);
        if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0))
                r = -errno;
        if (r < 0) {
                (void)unlink(temporary);
                return r;
        }
        sync_folder_of(path);
        return 0;
}

bool file_is_at(int fd, const char *path) {
        struct stat ours, current;

        return fstat(fd, &ours) == 0 && lstat(path, &current) == 0 && ours.st_dev == current.st_dev &&
               ours.st_ino == current.st_ino;
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
