/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A library that holdfast-sim exec preloads: stat(2) reports the simulator's nodes, which are plain files, as the
 * driver's character devices. NVML and other programs check this before they open a node, and replace a node that is
 * not a device. Nothing else changes. HOLDFAST_SIM_NODES lists the nodes (node_describe()) by inode, so the path does
 * not matter.
 *
 * Works only on 64-bit systems, where struct stat64 equals struct stat. Programs linked before glibc 2.33 use the names
 * with two underscores.
 */

#undef _FILE_OFFSET_BITS /* with 64, both functions would have the same name */

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define EXPORT __attribute__((visibility("default")))

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one repair for both");

enum { NODES_MAX = 512 };

struct node_stat {
        uint64_t inode;
        unsigned major, minor;
};

static dev_t device;
static struct node_stat nodes[NODES_MAX];
static unsigned n_nodes;

__attribute__((constructor)) static void read_nodes(void) {
        char *at = getenv("HOLDFAST_SIM_NODES");

        if (!at)
                return;
        device = (dev_t)strtoull(at, &at, 16);
        while (*at == ' ' && n_nodes < NODES_MAX) {
                struct node_stat *node = &nodes[n_nodes++];

                node->inode = strtoull(at + 1, &at, 10);
                node->major = *at == ':' ? (unsigned)strtoul(at + 1, &at, 10) : 0;
                node->minor = *at == ':' ? (unsigned)strtoul(at + 1, &at, 10) : 0;
        }
}

static const struct node_stat *find(dev_t dev, uint64_t inode) {
        for (unsigned i = 0; i < n_nodes; i++)
                if (dev == device && nodes[i].inode == inode)
                        return &nodes[i];
        return NULL;
}

/* Takes the real function's return value, and returns it. */
static int repair(int result, struct stat *status) {
        const struct node_stat *node = result == 0 ? find(status->st_dev, status->st_ino) : NULL;

        if (!node)
                return result;
        status->st_mode = (status->st_mode & ~(mode_t)S_IFMT) | S_IFCHR;
        status->st_rdev = makedev(node->major, node->minor);
        return result;
}

/* Calls the next function of this name with `arguments`. The status buffer is the last argument, except for flags. */
#define NEXT(type, name, status, arguments)                                                                            \
        do {                                                                                                           \
                static int(*next) type;                                                                                \
                if (!next)                                                                                             \
                        *(void **)&next = dlsym(RTLD_NEXT, name);                                                      \
                if (!next) {                                                                                           \
                        errno = ENOSYS;                                                                                \
                        return -1;                                                                                     \
                }                                                                                                      \
                return repair(next arguments, (struct stat *)(status));                                                \
        } while (0)

EXPORT int stat(const char *path, struct stat *status) {
        NEXT((const char *, struct stat *), "stat", status, (path, status));
}

EXPORT int stat64(const char *path, struct stat64 *status) {
        NEXT((const char *, struct stat64 *), "stat64", status, (path, status));
}

EXPORT int lstat(const char *path, struct stat *status) {
        NEXT((const char *, struct stat *), "lstat", status, (path, status));
}

EXPORT int lstat64(const char *path, struct stat64 *status) {
        NEXT((const char *, struct stat64 *), "lstat64", status, (path, status));
}

EXPORT int fstat(int fd, struct stat *status) {
        NEXT((int, struct stat *), "fstat", status, (fd, status));
}

EXPORT int fstat64(int fd, struct stat64 *status) {
        NEXT((int, struct stat64 *), "fstat64", status, (fd, status));
}

EXPORT int fstatat(int folder, const char *path, struct stat *status, int flags) {
        NEXT((int, const char *, struct stat *, int), "fstatat", status, (folder, path, status, flags));
}

EXPORT int fstatat64(int folder, const char *path, struct stat64 *status, int flags) {
        NEXT((int, const char *, struct stat64 *, int), "fstatat64", status, (folder, path, status, flags));
}

int __xstat(int version, const char *path, struct stat *status);
int __xstat64(int version, const char *path, struct stat64 *status);
int __lxstat(int version, const char *path, struct stat *status);
int __lxstat64(int version, const char *path, struct stat64 *status);
int __fxstat(int version, int fd, struct stat *status);
int __fxstat64(int version, int fd, struct stat64 *status);

EXPORT int __xstat(int version, const char *path, struct stat *status) {
        NEXT((int, const char *, struct stat *), "__xstat", status, (version, path, status));
}

EXPORT int __xstat64(int version, const char *path, struct stat64 *status) {
        NEXT((int, const char *, struct stat64 *), "__xstat64", status, (version, path, status));
}

EXPORT int __lxstat(int version, const char *path, struct stat *status) {
        NEXT((int, const char *, struct stat *), "__lxstat", status, (version, path, status));
}

EXPORT int __lxstat64(int version, const char *path, struct stat64 *status) {
        NEXT((int, const char *, struct stat64 *), "__lxstat64", status, (version, path, status));
}

EXPORT int __fxstat(int version, int fd, struct stat *status) {
        NEXT((int, int, struct stat *), "__fxstat", status, (version, fd, status));
}

EXPORT int __fxstat64(int version, int fd, struct stat64 *status) {
        NEXT((int, int, struct stat64 *), "__fxstat64", status, (version, fd, status));
}

EXPORT int statx(int folder, const char *path, int flags, unsigned mask, struct statx *status) {
        static int (*next)(int, const char *, int, unsigned, struct statx *);
        const struct node_stat *node;
        int r;

        if (!next)
                *(void **)&next = dlsym(RTLD_NEXT, "statx");
        if (!next) {
                errno = ENOSYS;
                return -1;
        }
        r = next(folder, path, flags, mask, status);
        node = r == 0 ? find(makedev(status->stx_dev_major, status->stx_dev_minor), status->stx_ino) : NULL;
        if (!node)
                return r;
        status->stx_mode = (uint16_t)((status->stx_mode & ~S_IFMT) | S_IFCHR);
        status->stx_rdev_major = node->major;
        status->stx_rdev_minor = node->minor;
        return r;
}
