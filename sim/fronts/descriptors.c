/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/descriptors.h"

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
#include "base/pids.h"
#include "base/text.h"

#define NODE_PREFIX "nvidia" /* every device node's name begins so; also "nvidia0 (deleted)" */

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

/* Returns the number after `key` in /proc/PID/fdinfo/FD, or 0 if there is none. */
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

/* Avoids reading fdinfo. "/" may also be a node: one that was bind-mounted in a mount namespace that no longer exists.
 */
static bool may_be_node(const char *link) {
        const char *last = strrchr(link, '/');

        return last && (text_starts_with(last + 1, NODE_PREFIX) || text_equal(link, "/"));
}

static bool count_fd(void *user, pid_t process, const char *fd_name, const char *link) {
        struct count *count = user;

        if (may_be_node(link) && fdinfo_number(process, fd_name, "\nino:") == count->inode)
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

/* Sockets that contained descriptors before our nodes existed. These descriptors cannot refer to our nodes. */
static struct flight {
        uint64_t socket;
        uint64_t count;
} foreign_flights[256];
static size_t n_foreign_flights;

/* Returns a socket's inode number from its link, "socket:[123]", or 0 if it is not a socket. */
static uint64_t socket_of(const char *link) {
        static const char prefix[] = "socket:[";

        return text_starts_with(link, prefix) ? strtoull(link + strlen(prefix), NULL, 10) : 0;
}

static bool remember_flight(void *user, pid_t process, const char *fd_name, const char *link) {
        uint64_t count = socket_of(link) != 0 ? fdinfo_number(process, fd_name, "\nscm_fds:") : 0;

        if (count > 0)
                foreign_flights[n_foreign_flights++] = (struct flight){.socket = socket_of(link), .count = count};
        return n_foreign_flights < ARRAY_SIZE(foreign_flights);
}

void descriptors_remember_flights(void) {
        n_foreign_flights = 0;
        (void)visit_all(remember_flight, NULL);
}

static uint64_t foreign_count(uint64_t socket) {
        for (size_t i = 0; i < n_foreign_flights; i++)
                if (foreign_flights[i].socket == socket)
                        return foreign_flights[i].count;
        return 0;
}

static bool find_queued(void *user, pid_t process, const char *fd_name, const char *link) {
        bool *found = user;
        uint64_t socket = socket_of(link);

        *found = socket != 0 && fdinfo_number(process, fd_name, "\nscm_fds:") > foreign_count(socket);
        return !*found;
}

bool descriptors_in_flight(void) {
        bool found = false;

        (void)visit_all(find_queued, &found);
        return found;
}

pid_t descriptors_process_of(pid_t thread) {
        char text[4096];
        const char *line;

        if (pids_read(thread, "status", text, sizeof(text)) < 0)
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

/* /proc/PID/status takes no lock that execve() holds. */
bool descriptors_process_exits(pid_t thread) {
        char text[4096];

        return pids_read(thread, "status", text, sizeof(text)) > 0 && !strstr(text, "\nVmSize:");
}
