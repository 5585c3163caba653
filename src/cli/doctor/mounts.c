/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/doctor/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/pids.h"
#include "base/text.h"

#define DELETED "//deleted"

enum {
        NAMESPACES_MAX = 1024, /* beyond that they are looked at more than once */
        STALLS_MAX = 2,
};

/* ---- mountinfo ----------------------------------------------------------------------------------------------- */

/* One line (proc_pid_mountinfo(5)): id, parent, major:minor, root, mount point, ... */
struct mount {
        char *device;
        char *source; /* in its file system */
        char *target;
};

static void mount_done(struct mount *mount) {
        free(mount->device);
        free(mount->source);
        free(mount->target);
}

static bool mount_parse(const char *line, struct mount *mount) {
        return sscanf(line, "%*s %*s %ms %ms %ms", &mount->device, &mount->source, &mount->target) == 3;
}

/* ---- where the socket is ------------------------------------------------------------------------------------- */

/* The part of path that is below the mount point, or NULL when path is not there. */
static const char *below(const char *path, const char *mount_point) {
        size_t length = text_equal(mount_point, "/") ? 0 : strlen(mount_point);

        return strncmp(path, mount_point, length) == 0 && (path[length] == '/' || path[length] == '\0') ? path + length
                                                                                                        : NULL;
}

/* A mount that comes later in the list lies above an earlier one of the same place. */
static void take_mount(const struct mount *mount, const char *directory, size_t *length, struct socket_place *place) {
        const char *rest = below(directory, mount->target);

        if (!rest || strlen(mount->target) < *length ||
            !text_copy(place->device, sizeof(place->device), mount->device) ||
            text_format(place->directory, sizeof(place->directory), "%s%s",
                        text_equal(mount->source, "/") ? "" : mount->source, rest) < 0)
                return;
        *length = strlen(mount->target);
}

const char *socket_path_without_var(const char *path) {
        return text_starts_with(path, "/var/run/") ? path + strlen("/var") : path;
}

int socket_place_find(const char *socket_path, struct socket_place *ret_place) {
        CLEANUP(stream_done) FILE *stream = fopen("/proc/self/mountinfo", "re");
        CLEANUP(free_ptr) char *line = NULL;
        char parent[PATH_MAX], directory[PATH_MAX];
        size_t room = 0, length = 0;
        char *name;

        if (!stream)
                return -errno;
        if (!text_copy(parent, sizeof(parent), socket_path) || !(name = strrchr(parent, '/')))
                return -EINVAL;
        *name = '\0';
        if (!realpath(parent, directory))
                text_set(directory, "%s", socket_path_without_var(parent)); /* the folder is gone: use its name */
        *ret_place = (struct socket_place){0};
        while (getline(&line, &room, stream) >= 0) {
                CLEANUP(mount_done) struct mount mount = {0};

                if (mount_parse(line, &mount))
                        take_mount(&mount, directory, &length, ret_place);
        }
        if (ret_place->device[0] == '\0')
                return -ENOENT;
        return text_format(ret_place->socket, sizeof(ret_place->socket), "%s/%s", ret_place->directory, name + 1);
}

/* ---- mounts of the old socket -------------------------------------------------------------------------------- */

struct mount_search {
        const struct socket_place *place;
        struct stale_mounts *mounts;
        pid_t *pids;
        size_t n_pids;
        bool hidden;
        ino_t own_users; /* our user namespace */
        size_t n_seen;
        ino_t seen[NAMESPACES_MAX];
};

static void mount_search_done(struct mount_search **search) {
        if (*search)
                free((*search)->pids);
        free(*search);
}

/* What a child reports of a process: that it is hidden, or one mount. */
struct told {
        bool hidden;
        ino_t namespace;
        struct stale_mount mount;
};

static bool was_deleted(const char *source, const char *path) {
        size_t length = strlen(path);

        return strncmp(source, path, length) == 0 && text_equal(source + length, DELETED);
}

static bool is_old(const struct mount_search *search, const struct mount *mount) {
        const struct socket_place *place = search->place;

        return text_equal(mount->device, place->device) &&
               (was_deleted(mount->source, place->socket) || was_deleted(mount->source, place->directory));
}

/* One process represents all processes of its namespace. */
static bool was_seen(struct mount_search *search, ino_t namespace) {
        for (size_t i = 0; i < search->n_seen; i++)
                if (search->seen[i] == namespace)
                        return true;
        if (search->n_seen < NAMESPACES_MAX)
                search->seen[search->n_seen++] = namespace;
        return false;
}

/* The user namespace to which the mount namespace belongs; if the kernel does not report it, that of the process. */
static int stat_users(const char *namespace, pid_t pid, struct stat *status) {
        CLEANUP(fd_done) int fd = open(namespace, O_RDONLY | O_CLOEXEC);
        CLEANUP(fd_done) int users = fd < 0 ? -1 : ioctl(fd, NS_GET_USERNS);
        char path[64];

        if (users >= 0)
                return fstat(users, status);
        text_set(path, "/proc/%d/ns/user", (int)pid);
        return stat(path, status);
}

static bool is_foreign(const struct mount_search *search, const char *namespace, pid_t pid) {
        struct stat status;

        return stat_users(namespace, pid, &status) == 0 && status.st_ino != search->own_users;
}

static int tell_mount(pid_t pid, const struct mount *mount, struct told *told, struct aside_answer *answer) {
        told->mount.pid = pid;
        (void)pids_read_name(pid, told->mount.name, sizeof(told->mount.name));
        text_set(told->mount.source, "%s", mount->source);
        text_set(told->mount.target, "%s", mount->target);
        return aside_tell(answer, told, sizeof(*told));
}

static int look_at_mounts(const struct mount_search *search, pid_t pid, struct told *told,
                          struct aside_answer *answer) {
        CLEANUP(stream_done) FILE *stream = NULL;
        CLEANUP(free_ptr) char *line = NULL;
        size_t room = 0;
        char path[64];
        int r = 0;

        text_set(path, "/proc/%d/mountinfo", (int)pid);
        stream = fopen(path, "re");
        if (!stream && (errno == EACCES || errno == EPERM)) {
                told->hidden = true;
                return aside_tell(answer, told, sizeof(*told));
        }
        while (r == 0 && stream && getline(&line, &room, stream) >= 0) {
                CLEANUP(mount_done) struct mount mount = {0};

                if (mount_parse(line, &mount) && is_old(search, &mount))
                        r = tell_mount(pid, &mount, told, answer);
        }
        return r;
}

/* Reads the link's text: following the link takes the kernel 1.5 times as long. Returns 0 if it cannot be read. */
static ino_t read_namespace(const char *link) {
        char text[64] = "";
        unsigned long namespace = 0;

        if (readlink(link, text, sizeof(text) - 1) < 0 || sscanf(text, "mnt:[%lu]", &namespace) != 1)
                return 0;
        return namespace;
}

static int look_at_process(void *userdata, size_t item, struct aside_answer *answer) {
        struct mount_search *search = userdata;
        pid_t pid = search->pids[item];
        struct told told = {0};
        char path[64];

        text_set(path, "/proc/%d/ns/mnt", (int)pid);
        told.namespace = read_namespace(path);
        if (told.namespace != 0) { /* if not, its mounts may still be readable */
                if (was_seen(search, told.namespace))
                        return 0;
                told.mount.foreign = is_foreign(search, path, pid);
        }
        return look_at_mounts(search, pid, &told, answer);
}

static int take_process(void *userdata, size_t item, const char *bytes, size_t size) {
        struct mount_search *search = userdata;
        struct stale_mounts *mounts = search->mounts;
        struct told told;

        memcpy(&told, bytes, sizeof(told));
        if (told.namespace != 0 && was_seen(search, told.namespace))
                return 0; /* two children looked at two processes of this namespace */
        for (; size >= sizeof(told); bytes += sizeof(told), size -= sizeof(told)) {
                memcpy(&told, bytes, sizeof(told));
                search->hidden |= told.hidden;
                if (told.hidden)
                        continue;
                mounts->n_foreign += told.mount.foreign;
                if (mounts->n++ < STALE_MOUNTS_MAX)
                        mounts->items[mounts->n - 1] = told.mount;
        }
        return 0;
}

void stale_mounts_find(struct stale_mounts *mounts, const struct socket_place *place) {
        CLEANUP(mount_search_done) struct mount_search *search = calloc(1, sizeof(*search));
        struct aside aside = {
                .stalls_max = STALLS_MAX,
                .in_any_order = true,
                .look = look_at_process,
                .take = take_process,
                .userdata = search,
        };
        struct aside_gap gap;
        struct stat status;

        *mounts = (struct stale_mounts){0};
        if (!search || stat("/proc/self/ns/user", &status) < 0 || pids_list(&search->pids, &search->n_pids) < 0)
                return;
        search->place = place;
        search->mounts = mounts;
        search->own_users = status.st_ino;
        aside.n = search->n_pids;
        if (aside_run(&aside, &gap) < 0)
                return;
        mounts->hanging_pid = gap.n_left > 0 ? search->pids[gap.first_left] : 0;
        mounts->complete = gap.n_left == 0 && !search->hidden && access("/proc/1", F_OK) == 0;
}
