/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/doctor_mounts.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#define DELETED "//deleted"

enum {
        NAMESPACES_MAX = 1024, /* beyond that they are looked at more than once */
        ACCEPTING = 0x10000,   /* __SO_ACCEPTCON (include/linux/net.h) */
};

static void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

static void stream_done(FILE **stream) {
        if (*stream)
                (void)fclose(*stream);
}

/* ---- listeners --------------------------------------------------------------- */

/* /var/run is /run: a daemon may have bound either. */
static const char *without_var(const char *path) {
        return text_starts_with(path, "/var/run/") ? path + strlen("/var") : path;
}

int listeners_count(const char *socket_path, size_t *ret_n) {
        CLEANUP(stream_done) FILE *stream = fopen("/proc/net/unix", "re");
        CLEANUP(free_ptr) char *line = NULL;
        size_t room = 0, n = 0;

        if (!stream)
                return -errno;
        while (getline(&line, &room, stream) >= 0) {
                unsigned flags;
                int end = 0;

                /* Num: RefCount Protocol Flags Type St Inode Path */
                if (sscanf(line, "%*s %*s %*s %x %*s %*s %*s %n", &flags, &end) == 1 && end > 0 &&
                    (flags & ACCEPTING) && text_equal(without_var(text_trim(line + end)), without_var(socket_path)))
                        n++;
        }
        *ret_n = n;
        return 0;
}

/* ---- mounts ------------------------------------------------------------------ */

struct search {
        struct stale_mounts *mounts;
        char socket[PATH_MAX];    /* without symbolic links */
        char directory[PATH_MAX]; /* it is in */
        size_t n_seen;
        ino_t seen[NAMESPACES_MAX];
};

/* Whether whole ends with a path's components: a file system may be mounted anywhere above them. */
static bool ends_with(const char *whole, const char *end) {
        size_t length = strlen(whole), end_length = strlen(end);

        return end_length > 1 && end_length <= length && text_equal(whole + length - end_length, end);
}

/* source is mountinfo's fourth field. A path as short as "/socket" could be anybody's. */
static bool is_old(const struct search *search, const char *source) {
        char path[PATH_MAX];
        size_t length = strlen(source);

        if (!ends_with(source, DELETED) || !strstr(source, "/nvidia-persistenced") ||
            !text_copy(path, sizeof(path), source))
                return false;
        path[length - strlen(DELETED)] = '\0';
        return ends_with(search->socket, path) || ends_with(search->directory, path);
}

static void read_name(pid_t pid, char *buffer, size_t size) {
        char path[64], text[64];

        (void)text_format(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (file_read(path, text, sizeof(text)) < 0)
                text[0] = '\0';
        (void)text_copy(buffer, size, text_trim(text));
}

static void add(struct stale_mounts *mounts, pid_t pid, const char *source, const char *target) {
        struct stale_mount *mount;

        if (mounts->n++ >= STALE_MOUNTS_MAX)
                return;
        mount = &mounts->items[mounts->n - 1];
        mount->pid = pid;
        read_name(pid, mount->name, sizeof(mount->name));
        (void)text_copy(mount->source, sizeof(mount->source), source);
        (void)text_copy(mount->target, sizeof(mount->target), target);
}

/* One process stands for all of its namespace. */
static bool was_seen(struct search *search, pid_t pid) {
        char path[64];
        struct stat status;

        (void)text_format(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
        if (stat(path, &status) < 0)
                return false;
        for (size_t i = 0; i < search->n_seen; i++)
                if (search->seen[i] == status.st_ino)
                        return true;
        if (search->n_seen < NAMESPACES_MAX)
                search->seen[search->n_seen++] = status.st_ino;
        return false;
}

static void search_process(struct search *search, pid_t pid) {
        CLEANUP(stream_done) FILE *stream = NULL;
        CLEANUP(free_ptr) char *line = NULL;
        size_t room = 0;
        char path[64];

        if (was_seen(search, pid))
                return;
        (void)text_format(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
        stream = fopen(path, "re");
        if (!stream && (errno == EACCES || errno == EPERM))
                search->mounts->complete = false;
        while (stream && getline(&line, &room, stream) >= 0) {
                char *source = NULL, *target = NULL;

                /* id, parent, major:minor, root, mount point, ... (proc_pid_mountinfo(5)) */
                if (sscanf(line, "%*s %*s %*s %ms %ms", &source, &target) == 2 && is_old(search, source))
                        add(search->mounts, pid, source, target);
                free(source);
                free(target);
        }
}

void stale_mounts_find(struct stale_mounts *mounts, const char *socket_path) {
        CLEANUP(free_ptr) struct search *search = calloc(1, sizeof(*search));
        CLEANUP(dir_done) DIR *dir = opendir("/proc");
        char parent[PATH_MAX];
        struct dirent *entry;
        char *name;

        *mounts = (struct stale_mounts){.complete = search && dir && access("/proc/1", F_OK) == 0};
        if (!search || !dir || !text_copy(parent, sizeof(parent), socket_path))
                return;
        search->mounts = mounts;
        name = strrchr(parent, '/');
        if (!name)
                return;
        *name = '\0';
        if (!realpath(parent, search->directory)) /* it may be gone altogether */
                (void)text_copy(search->directory, sizeof(search->directory), without_var(parent));
        (void)text_format(search->socket, sizeof(search->socket), "%s/%s", search->directory, name + 1);
        while ((entry = readdir(dir))) {
                uint64_t pid;

                if (text_parse_u64(entry->d_name, 10, INT32_MAX, &pid) == 0)
                        search_process(search, (pid_t)pid);
        }
}
