#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds containers with an old socket. A bind mount of a file refers to an inode: when the daemon makes its socket
 * again, a container's mount keeps the old one, on which no process listens. The kernel marks such a mount in
 * mountinfo: its root ends in "//deleted".
 *
 * Any user can make such mounts of files with the same name in their own namespace. Therefore only mounts from the
 * socket's own file system and path count, where only users with write permission for its folder can make a file.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { STALE_MOUNTS_MAX = 8 };

/* Where the socket is, or would be. */
struct socket_place {
        char device[24];          /* its file system, "0:25" as in mountinfo */
        char socket[PATH_MAX];    /* there, from the file system's own root */
        char directory[PATH_MAX]; /* there, too */
};

/* The path without a leading /var: a daemon may have bound /var/run or /run, which are the same. */
const char *socket_path_without_var(const char *path);

/* Returns 0, also if the socket's folder is gone, or negative errno. */
int socket_place_find(const char *socket_path, struct socket_place *ret_place);

struct stale_mount {
        pid_t pid;    /* a process that has it: one for each mount namespace */
        bool foreign; /* its mount namespace belongs to another user namespace than ours */
        char name[32];
        char source[160]; /* in its file system */
        char target[160]; /* as the process sees it */
};

struct stale_mounts {
        size_t n;         /* also those without room */
        size_t n_foreign; /* of them */
        bool complete;
        pid_t hanging_pid; /* if not complete: a read of this process hangs; 0: some processes are hidden */
        struct stale_mount items[STALE_MOUNTS_MAX];
};

/* Finds the mount namespaces in which an old socket, or an old folder of it, is mounted. */
void stale_mounts_find(struct stale_mounts *mounts, const struct socket_place *place);
