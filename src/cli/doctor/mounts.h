#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Where a socket's file and its listener part. A bind mount of a file, as containers get it, is of an inode: when the
 * daemon makes its socket anew the mount keeps the old one, which nobody listens to. The kernel marks such a mount in
 * mountinfo: its root ends in "//deleted".
 *
 * Any user can have such marks and listeners in a namespace of its own, for files of the same name. What counts is of
 * the socket's own file system and path there: only who may write in its folder could make it.
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

/* /var/run is /run, and a daemon may have bound either: the path by its shorter name. */
const char *socket_path_without_var(const char *path);

/* Returns 0 or negative errno. The folder of the socket may be gone. */
int socket_place_find(const char *socket_path, struct socket_place *ret_place);

struct stale_mount {
        pid_t pid;    /* a process that has it: one for each mount namespace */
        bool foreign; /* in a mount namespace that belongs to another user namespace than ours */
        char name[32];
        char source[160]; /* in its file system */
        char target[160]; /* in the process' sight */
};

struct stale_mounts {
        size_t n;         /* also those that found no room */
        size_t n_foreign; /* of them */
        bool complete;
        pid_t hanging_pid; /* incomplete, since a look at this process hangs; 0: since others hide */
        struct stale_mount items[STALE_MOUNTS_MAX];
};

/* Finds the mount namespaces that have the socket, or the folder it is in, mounted as it was before. */
void stale_mounts_find(struct stale_mounts *mounts, const struct socket_place *place);
