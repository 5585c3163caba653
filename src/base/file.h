#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reading and writing whole small files, for example in /proc and /sys, and paths below another root directory. */

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* For CLEANUP(dir_done), CLEANUP(stream_done). */
static inline void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

static inline void stream_done(FILE **stream) {
        if (*stream)
                (void)fclose(*stream);
}

/*
 * Puts root in front of an absolute path: file_rooted(buffer, "/srv/sim", "/proc/devices"). root may be "" or NULL.
 * Returns 0 or -ENAMETOOLONG. Programs that look at a driver use base/locations.h.
 */
int file_rooted(char buffer[static PATH_MAX], const char *root, const char *path);

/*
 * Reads a file of at most size - 1 bytes and terminates it. Returns the length, or negative errno (-EFBIG if it is
 * longer; never -EINTR).
 */
ssize_t file_read(const char *path, char *buffer, size_t size);
/* The same for a path that is relative to the open directory. */
ssize_t file_read_at(int directory_fd, const char *path, char *buffer, size_t size);

/* The same for texts that are too large for the stack: the caller frees *ret_text. Returns 0 or negative errno. */
int file_read_text_at(int directory_fd, const char *path, size_t size, char **ret_text);

/*
 * Replaces the file at path by one with this content and mode. Readers see either the complete old file or the complete
 * new one, even after a crash. On failure the old file is unchanged, and no other file is left. Returns 0 or negative
 * errno.
 */
int file_replace(const char *path, const void *bytes, size_t size, mode_t mode);

/* Whether path still is the open file: not another file that has replaced it, nor a link to it. */
bool file_is_at(int fd, const char *path);

/* Writes all of the text to an existing file (sysfs, procfs). Returns 0 or negative errno. */
int file_write(const char *path, const char *text);
