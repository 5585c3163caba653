#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Where a socket's file and its listener part. A bind mount of a file, as containers get it, is of an inode: when the
 * daemon makes its socket anew the mount keeps the old one, which nobody listens to. The kernel marks such a mount in
 * mountinfo: its root ends in "//deleted".
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { STALE_MOUNTS_MAX = 8 };

struct stale_mount {
        pid_t pid; /* a process that has it: one for each mount namespace */
        char name[32];
        char source[160]; /* in its file system */
        char target[160]; /* in the process' sight */
};

struct stale_mounts {
        size_t n; /* also those that found no room */
        bool complete;
        struct stale_mount items[STALE_MOUNTS_MAX];
};

/* Finds the mount namespaces that have the socket, or the folder it is in, mounted as it was before. */
void stale_mounts_find(struct stale_mounts *mounts, const char *socket_path);

/* How many sockets that were bound to this path are listened to, whether the path still leads there or not. Returns 0
 * or negative errno. */
int listeners_count(const char *socket_path, size_t *ret_n);
