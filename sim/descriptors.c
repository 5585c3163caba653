/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/descriptors.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

#define NODE_PREFIX "nvidia" /* every device node's name begins so; also "nvidia0 (deleted)" */

static void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

/* Called for every descriptor whose link looks right; returns whether to go on. */
typedef bool (*fd_visitor)(void *user, pid_t process, const char *fd_name, const char *link);

static bool visit_process(pid_t process, fd_visitor visit, void *user) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char path[64], link[PATH_MAX];
        struct dirent *entry;
        ssize_t length;

        (void)text_format(path, sizeof(path), "/proc/%d/fd", process);
        dir = opendir(path);
        while (dir && (entry = readdir(dir))) {
                if (entry->d_name[0] == '.')
                        continue;
                length = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
                if (length < 0)
                        continue;
                link[length] = '\0';
                if (!visit(user, process, entry->d_name, link))
                        return false;
        }
        return true;
}

static int visit_all(fd_visitor visit, void *user) {
        CLEANUP(dir_done) DIR *dir = opendir("/proc");
        struct dirent *entry;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir)))
                if (isdigit((unsigned char)entry->d_name[0]) && !visit_process(atoi(entry->d_name), visit, user))
                        break;
        return 0;
}

/* A number after `key` in /proc/PID/fdinfo/FD; 0 when it is not there. */
static uint64_t fdinfo_number(pid_t process, const char *fd_name, const char *key) {
        char path[64 + NAME_MAX], text[4096];
        const char *line;

        (void)text_format(path, sizeof(path), "/proc/%d/fdinfo/%s", process, fd_name);
        if (file_read(path, text, sizeof(text)) < 0)
                return 0;
        line = strstr(text, key);
        return line ? strtoull(line + strlen(key), NULL, 10) : 0;
}

struct count {
        uint64_t inode;
        size_t count;
};

static bool count_fd(void *user, pid_t process, const char *fd_name, const char *link) {
        struct count *count = user;
        const char *last = strrchr(link, '/');

        if (last && text_starts_with(last + 1, NODE_PREFIX) &&
            fdinfo_number(process, fd_name, "\nino:") == count->inode)
                count->count++;
        return true;
}

int descriptors_count(uint64_t inode, size_t *ret_count) {
        struct count count = {.inode = inode};
        int r = visit_all(count_fd, &count);

        if (r == 0)
                *ret_count = count.count;
        return r;
}

bool descriptors_process_has(pid_t process, uint64_t inode) {
        struct count count = {.inode = inode};

        (void)visit_process(process, count_fd, &count);
        return count.count > 0;
}

static bool find_queued(void *user, pid_t process, const char *fd_name, const char *link) {
        bool *found = user;

        *found = text_starts_with(link, "socket:") && fdinfo_number(process, fd_name, "\nscm_fds:") > 0;
        return !*found;
}

bool descriptors_in_flight(void) {
        bool found = false;

        (void)visit_all(find_queued, &found);
        return found;
}

pid_t descriptors_process_of(pid_t thread) {
        char path[64], text[4096];
        const char *line;

        (void)text_format(path, sizeof(path), "/proc/%d/status", thread);
        if (file_read(path, text, sizeof(text)) < 0)
                return thread;
        line = strstr(text, "\nTgid:");
        return line ? (pid_t)strtol(line + strlen("\nTgid:"), NULL, 10) : thread;
}

bool descriptors_end_with_program(pid_t thread) {
        char path[64], byte;
        CLEANUP(fd_done) int fd = -1;

        (void)text_format(path, sizeof(path), "/proc/%d/cmdline", thread);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 || read(fd, &byte, sizeof(byte)) <= 0;
}
