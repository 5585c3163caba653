/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "gpu/abi.h"

enum { LIST_ROOM_FIRST = 16 };

struct scan {
        char device_folder[PATH_MAX]; /* where nodes count when below a root; empty: anywhere, by their device number */
        struct holder *holders;
        size_t n;
        size_t room;
        bool complete;
};

/* By what a keeper is known from outside: the daemon's name and signals as a descriptor, but no event loop. */
struct marks {
        bool has_signalfd;
        bool has_eventpoll;
};

static void scan_done(struct scan *scan) {
        free(scan->holders);
}

static void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

static int scan_add(struct scan *scan, const struct holder *holder) {
        if (scan->n == scan->room) {
                size_t room = scan->room ? 2 * scan->room : LIST_ROOM_FIRST;
                struct holder *holders = reallocarray(scan->holders, room, sizeof(*holders));

                if (!holders)
                        return -ENOMEM;
                scan->holders = holders;
                scan->room = room;
        }
        scan->holders[scan->n++] = *holder;
        return 0;
}

/* The N of a path that ends in "/nvidiaN"; -1 for any other ("nvidiactl", "nvidia-uvm", ...). */
static int minor_of_path(const char *path) {
        const char *name = strrchr(path, '/');
        uint64_t minor;

        if (!name || !text_starts_with(name, "/nvidia") ||
            text_parse_u64(name + strlen("/nvidia"), 10, NV_MINOR_CTL - 1, &minor) < 0)
                return -1;
        return (int)minor;
}

static bool is_in_folder(const char *path, const char *folder) {
        size_t length = strlen(folder);

        return strncmp(path, folder, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

/*
 * The minor behind one descriptor, or -1. The link's text is looked at first, since reading it never waits; only a node
 * with the right name is asked for its number, and stat() of just any file could hang, on a dead NFS server say. By
 * number, not by path: a container's /dev is another file system.
 */
static int minor_of_descriptor(const struct scan *scan, int folder_fd, const char *name, struct marks *marks) {
        char path[PATH_MAX];
        struct stat status;
        ssize_t length;
        int minor;

        length = readlinkat(folder_fd, name, path, sizeof(path) - 1);
        if (length < 0)
                return -1;
        path[length] = '\0';
        marks->has_signalfd |= text_equal(path, "anon_inode:[signalfd]");
        marks->has_eventpoll |= text_equal(path, "anon_inode:[eventpoll]");
        minor = minor_of_path(path);
        if (minor < 0)
                return -1;
        if (scan->device_folder[0] != '\0')
                return is_in_folder(path, scan->device_folder) ? minor : -1;
        if (fstatat(folder_fd, name, &status, 0) < 0 || !S_ISCHR(status.st_mode) || major(status.st_rdev) != NV_MAJOR)
                return -1;
        return (int)minor(status.st_rdev);
}

static void read_name(pid_t pid, char name[static HOLDER_NAME_SIZE]) {
        char path[64], text[HOLDER_NAME_SIZE];

        (void)text_format(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (file_read(path, text, sizeof(text)) < 0)
                text[0] = '\0';
        (void)text_copy(name, HOLDER_NAME_SIZE, text_printable(text_trim(text)));
}

/* Counts one more descriptor of this process, whose holders begin at `first`. */
static int count_descriptor(struct scan *scan, size_t first, pid_t pid, int minor) {
        struct holder holder = {.minor = minor, .pid = pid, .n_descriptors = 1};

        for (size_t i = first; i < scan->n; i++)
                if (scan->holders[i].minor == minor) {
                        scan->holders[i].n_descriptors++;
                        return 0;
                }
        read_name(pid, holder.name);
        return scan_add(scan, &holder);
}

static void mark_keeper(struct scan *scan, size_t first, const struct marks *marks) {
        for (size_t i = first; i < scan->n; i++)
                scan->holders[i].is_keeper = marks->has_signalfd && !marks->has_eventpoll &&
                                             text_equal(scan->holders[i].name, "nvidia-persiste");
}

/* Returns 0, -EACCES or -EPERM for a process that is not ours to see, or other negative errno. */
static int scan_process(struct scan *scan, pid_t pid) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char path[64];
        struct marks marks = {0};
        struct dirent *entry;
        size_t first = scan->n;

        (void)text_format(path, sizeof(path), "/proc/%d/fd", (int)pid);
        dir = opendir(path);
        if (!dir)
                return errno == ENOENT || errno == ESRCH ? 0 : -errno; /* it has gone */
        while ((entry = readdir(dir))) {
                int minor = minor_of_descriptor(scan, dirfd(dir), entry->d_name, &marks);
                int r = minor < 0 ? 0 : count_descriptor(scan, first, pid, minor);

                if (r < 0)
                        return r;
        }
        mark_keeper(scan, first, &marks);
        return 0;
}

static int scan_all(struct scan *scan) {
        CLEANUP(dir_done) DIR *dir = opendir("/proc");
        struct dirent *entry;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir))) {
                uint64_t pid;
                int r;

                if (text_parse_u64(entry->d_name, 10, INT32_MAX, &pid) < 0)
                        continue;
                r = scan_process(scan, (pid_t)pid);
                if (r == -EACCES || r == -EPERM)
                        scan->complete = false;
                else if (r < 0)
                        return r;
        }
        return 0;
}

/* Below a root the nodes may be any files: there the path decides, without symbolic links, as the kernel shows it. */
static int find_device_folder(struct scan *scan, const char *root) {
        char path[PATH_MAX];
        int r;

        if (!file_root_is_simulated(root))
                return 0;
        r = file_rooted(path, root, "/dev");
        if (r < 0)
                return r;
        return realpath(path, scan->device_folder) ? 0 : -errno;
}

static int compare_holders(const void *a, const void *b) {
        const struct holder *first = a, *second = b;

        if (first->minor != second->minor)
                return first->minor < second->minor ? -1 : 1;
        return (first->pid > second->pid) - (first->pid < second->pid);
}

static void scan_sort(struct scan *scan) {
        if (scan->n > 0)
                qsort(scan->holders, scan->n, sizeof(scan->holders[0]), compare_holders);
}

int holders_scan(const char *root, struct holder **ret_holders, size_t *ret_n, bool *ret_complete) {
        CLEANUP(scan_done) struct scan scan = {.complete = true};
        int r;

        r = find_device_folder(&scan, root);
        if (r == -ENOENT) { /* no nodes: nobody has one open */
                *ret_holders = NULL;
                *ret_n = 0;
                *ret_complete = true;
                return 0;
        }
        if (r < 0)
                return r;
        /* With the mount option hidepid others' processes are not even listed: then process 1 is not there either. */
        if (access("/proc/1", F_OK) < 0)
                scan.complete = false;
        r = scan_all(&scan);
        if (r < 0)
                return r;
        scan_sort(&scan);
        *ret_holders = take_ptr(scan.holders);
        *ret_n = scan.n;
        *ret_complete = scan.complete;
        return 0;
}

int holders_scan_process(const char *root, pid_t pid, struct holder **ret_holders, size_t *ret_n) {
        CLEANUP(scan_done) struct scan scan = {0};
        int r;

        r = find_device_folder(&scan, root);
        if (r == 0)
                r = scan_process(&scan, pid);
        if (r < 0 && r != -ENOENT)
                return r;
        scan_sort(&scan);
        *ret_n = scan.n;
        *ret_holders = take_ptr(scan.holders);
        return 0;
}

bool holders_has_modeset(const char *root) {
        char path[PATH_MAX], text[16];

        return file_rooted(path, root, "/sys/module/nvidia_drm/parameters/modeset") == 0 &&
               file_read(path, text, sizeof(text)) > 0 && (text[0] == 'Y' || text[0] == '1');
}
