/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/*
 * The kernel's interface (include/uapi/linux/landlock.h), because build machines may have older headers than the
 * kernels that we run on, or none. The call numbers are the same on all architectures.
 */
enum {
        CREATE_RULESET = 444,
        ADD_RULE = 445,
        RESTRICT_SELF = 446,
        RULE_PATH_BENEATH = 1,
        CREATE_RULESET_VERSION = 1 << 0,
};

enum {
        FS_EXECUTE = 1 << 0,
        FS_WRITE_FILE = 1 << 1,
        FS_READ_FILE = 1 << 2,
        FS_READ_DIR = 1 << 3,
        FS_REMOVE_FILE = 1 << 5,
        FS_MAKE_SOCK = 1 << 9,
        FS_ALL_OF_1 = (1 << 13) - 1,
        FS_REFER = 1 << 13,
        FS_TRUNCATE = 1 << 14,
        FS_IOCTL_DEV = 1 << 15,
        FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
};

enum {
        NET_ALL = 1 << 0 | 1 << 1,   /* bind and connect of TCP */
        SCOPE_ALL = 1 << 0 | 1 << 1, /* abstract Unix sockets, signals */
};

struct ruleset {
        uint64_t fs;
        uint64_t net;    /* from version 4 on */
        uint64_t scoped; /* from version 6 on */
};

struct path_beneath {
        uint64_t accesses;
        int32_t parent_fd;
} __attribute__((packed));

/* The kernel rejects bits that it does not know, but accepts a shorter structure. */
static size_t describe(unsigned version, struct ruleset *ret_ruleset) {
        *ret_ruleset = (struct ruleset){.fs = FS_ALL_OF_1};
        if (version >= 2)
                ret_ruleset->fs |= FS_REFER;
        if (version >= 3)
                ret_ruleset->fs |= FS_TRUNCATE;
        if (version >= 5)
                ret_ruleset->fs |= FS_IOCTL_DEV;
        if (version >= 4)
                ret_ruleset->net = NET_ALL;
        if (version >= 6)
                ret_ruleset->scoped = SCOPE_ALL;
        if (version < 4)
                return offsetof(struct ruleset, net);
        return version < 6 ? offsetof(struct ruleset, scoped) : sizeof(*ret_ruleset);
}

void landlock_done(struct landlock *landlock) {
        landlock->fd = fd_close(landlock->fd);
}

int landlock_begin(struct landlock *ret_landlock) {
        long version = syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
        struct ruleset ruleset;
        size_t size;
        long fd;

        if (version < 0)
                return -errno;
        size = describe((unsigned)version, &ruleset);
        fd = syscall(CREATE_RULESET, &ruleset, size, 0); /* close-on-exec by definition */
        if (fd < 0)
                return -errno;
        *ret_landlock = (struct landlock){
                .fd = (int)fd,
                .version = (unsigned)version,
                .limited = ruleset.fs,
        };
        return 0;
}

static uint64_t kernels_of(unsigned accesses) {
        static const uint64_t kernels[] = {
                FS_READ_FILE | FS_READ_DIR, FS_WRITE_FILE, FS_IOCTL_DEV, FS_MAKE_SOCK, FS_REMOVE_FILE,
        };
        uint64_t bits = 0;

        for (size_t i = 0; i < ARRAY_SIZE(kernels); i++)
                if (accesses & 1U << i)
                        bits |= kernels[i];
        return bits;
}

static bool is_out_of_reach(int error) {
        return error == ENOENT || error == ENOTDIR || error == EACCES || error == ELOOP;
}

int landlock_permit(struct landlock *landlock, const char *path, unsigned accesses) {
        CLEANUP(fd_done) int fd = open(path, O_PATH | O_CLOEXEC);
        struct path_beneath rule = {.accesses = kernels_of(accesses) & landlock->limited, .parent_fd = fd};
        struct stat status;

        if (fd < 0)
                return is_out_of_reach(errno) ? 0 : -errno;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISDIR(status.st_mode))
                rule.accesses &= FS_OF_FILES;
        if (rule.accesses == 0)
                return 0;
        return syscall(ADD_RULE, landlock->fd, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int landlock_enter(struct landlock *landlock) {
        int r = syscall(RESTRICT_SELF, landlock->fd, 0) < 0 ? -errno : 0;

        landlock_done(landlock);
        return r;
}
