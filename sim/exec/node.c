/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/exec/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "gpu/abi.h"

enum { PROC_DEVICES_SIZE = 64 * 1024 };

/* Folders and files that replace those of the system. */
static const char *const covered[] = {
        "/proc/driver",
        "/proc/devices",
        "/sys/bus/pci",
};

/* Folders in /run that all users of one simulator share. */
static const char *const shared[] = {
        "nvidia-persistenced",
        "holdfast",
        "holdfast-sim",
};

/* ---- namespaces ---- */

static int map_to_root(uid_t uid, gid_t gid) {
        char text[64];
        int r;

        (void)text_format(text, sizeof(text), "0 %u 1", (unsigned)uid);
        r = file_write("/proc/self/uid_map", text);
        if (r == 0)
                r = file_write("/proc/self/setgroups", "deny");
        if (r < 0)
                return r;
        (void)text_format(text, sizeof(text), "0 %u 1", (unsigned)gid);
        return file_write("/proc/self/gid_map", text);
}

int node_unshare(void) {
        uid_t uid = geteuid();
        gid_t gid = getegid();
        int r;

        if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) < 0)
                return -errno;
        r = uid == 0 ? 0 : map_to_root(uid, gid);
        if (r < 0)
                return r;
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

/* ---- mounts ---- */

/* Creates the mount point: a folder, or a file. */
static int make_place(const char *path, bool is_folder) {
        CLEANUP(fd_done) int fd = -1;

        if (is_folder)
                return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        return fd < 0 ? -errno : 0;
}

static int show(const char *source, const char *target) {
        struct stat status;
        int r;

        if (stat(source, &status) < 0)
                return -errno;
        r = make_place(target, S_ISDIR(status.st_mode));
        if (r < 0)
                return r;
        return mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

static int show_entry(int old_fd, const char *folder, const char *name) {
        char source[PATH_MAX], target[PATH_MAX], link[PATH_MAX];
        ssize_t length = readlinkat(old_fd, name, link, sizeof(link) - 1);

        if (text_format(source, sizeof(source), "/proc/self/fd/%d/%s", old_fd, name) < 0 ||
            text_format(target, sizeof(target), "%s/%s", folder, name) < 0)
                return -ENAMETOOLONG;
        if (length < 0)
                return show(source, target);
        link[length] = '\0';
        return symlink(link, target) < 0 ? -errno : 0;
}

/*
 * Replaces this folder by a new one with all its entries except the ones to leave out. Also leaves out entries that
 * cannot be mounted, for example because they have disappeared meanwhile.
 */
static int replace_folder(const char *folder, bool (*is_left_out)(const char *name)) {
        CLEANUP(dir_done) DIR *old = opendir(folder);
        const struct dirent *entry;

        if (!old)
                return -errno;
        if (mount("holdfast-sim", folder, "tmpfs", MS_NOSUID, "mode=0755") < 0)
                return -errno;
        while ((entry = readdir(old)))
                if (!text_equal(entry->d_name, ".") && !text_equal(entry->d_name, "..") && !is_left_out(entry->d_name))
                        (void)show_entry(dirfd(old), folder, entry->d_name);
        return 0;
}

/* Nodes of the simulator, or of a driver on this machine. */
static bool is_node(const char *name) {
        return text_starts_with(name, "nvidia") || text_equal(name, "kmsg");
}

static bool is_shared(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
                if (text_equal(name, shared[i]))
                        return true;
        return false;
}

static int show_nodes(const char *root) {
        CLEANUP(dir_done) DIR *folder = NULL;
        char path[PATH_MAX], source[PATH_MAX], target[PATH_MAX];
        const struct dirent *entry;
        int r = file_rooted(path, root, "/dev");

        folder = r < 0 ? NULL : opendir(path);
        if (!folder)
                return r < 0 ? r : -errno;
        while (r == 0 && (entry = readdir(folder))) {
                if (!is_node(entry->d_name))
                        continue;
                if (text_format(source, sizeof(source), "%s/%s", path, entry->d_name) < 0 ||
                    text_format(target, sizeof(target), "/dev/%s", entry->d_name) < 0)
                        return -ENAMETOOLONG;
                r = show(source, target);
        }
        return r;
}

static int show_run(const char *root) {
        char source[PATH_MAX], target[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(shared); i++) {
                (void)text_format(target, sizeof(target), "/run/%s", shared[i]);
                r = file_rooted(source, root, target);
                if (r == 0)
                        r = make_place(source, true);
                if (r == 0)
                        r = show(source, target);
        }
        return r;
}

static int show_covered(const char *root, const char **ret_path) {
        char source[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(covered); i++) {
                *ret_path = covered[i];
                r = file_rooted(source, root, covered[i]);
                if (r == 0 && mount(source, covered[i], NULL, MS_BIND | MS_REC, NULL) < 0)
                        r = -errno;
        }
        return r;
}

int node_mount(const char *root, const char **ret_path) {
        int r = show_covered(root, ret_path);

        if (r < 0)
                return r;
        *ret_path = "/dev";
        r = replace_folder("/dev", is_node);
        if (r == 0)
                r = show_nodes(root);
        if (r < 0)
                return r;
        *ret_path = "/run";
        r = replace_folder("/run", is_shared);
        return r < 0 ? r : show_run(root);
}

/* ---- the device numbers of the nodes ---- */

/* The major number that the kernel chose for the UVM driver; 0 if the driver is not loaded. */
static unsigned uvm_major(const char *root) {
        CLEANUP(free_ptr) char *text = malloc(PROC_DEVICES_SIZE);
        char path[PATH_MAX];
        unsigned major = 0;

        if (!text || file_rooted(path, root, "/proc/devices") < 0 || file_read(path, text, PROC_DEVICES_SIZE) < 0)
                return 0;
        for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
                if (sscanf(line, "%u nvidia-uvm", &major) == 1 && strstr(line, " nvidia-uvm"))
                        return major;
        return 0;
}

/* Returns whether a node of this name is a device. */
static bool number_of(const char *name, unsigned uvm, unsigned *ret_major, unsigned *ret_minor) {
        uint64_t minor = NV_MINOR_CTL;

        *ret_major = NV_MAJOR;
        if (text_equal(name, "nvidia-uvm")) {
                *ret_major = uvm;
                minor = 0;
        } else if (!text_equal(name, "nvidiactl") &&
                   (!text_starts_with(name, "nvidia") ||
                    text_parse_u64(name + strlen("nvidia"), 10, NV_MINOR_CTL - 1, &minor) < 0)) {
                return false;
        }
        *ret_minor = (unsigned)minor;
        return *ret_major != 0;
}

static void describe_entry(FILE *stream, int folder_fd, const char *name, unsigned uvm) {
        unsigned major, minor;
        struct stat status;

        if (!number_of(name, uvm, &major, &minor) || fstatat(folder_fd, name, &status, 0) < 0)
                return;
        if (ftell(stream) == 0)
                fprintf(stream, "%" PRIx64, (uint64_t)status.st_dev);
        fprintf(stream, " %" PRIu64 ":%u:%u", (uint64_t)status.st_ino, major, minor);
}

int node_describe(const char *root, char **ret_text) {
        CLEANUP(dir_done) DIR *folder = NULL;
        unsigned uvm = uvm_major(root);
        const struct dirent *entry;
        char path[PATH_MAX];
        size_t size;
        FILE *stream;
        int r = file_rooted(path, root, "/dev");

        folder = r < 0 ? NULL : opendir(path);
        if (!folder)
                return r < 0 ? r : -errno;
        stream = open_memstream(ret_text, &size);
        if (!stream)
                return -ENOMEM;
        while ((entry = readdir(folder)))
                describe_entry(stream, dirfd(folder), entry->d_name, uvm);
        return fclose(stream) == 0 ? 0 : -ENOMEM;
}
