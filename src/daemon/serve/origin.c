/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

enum {
        /* "Groups:" comes before "NSpid:" and takes up to 11 bytes a group: room for a thousand groups. */
        STATUS_MAX = 16384,
        STAT_MAX = 1024,
        FDINFO_MAX = 1024,
        UID_MAP_MAX = 4096,    /* the kernel accepts a page at most */
        START_TIME_FIELD = 22, /* proc_pid_stat(5) */
};

/* ---- the texts of /proc ---- */

/*
 * Returns what follows the label in the last line that begins with it. The last one counts because the process itself
 * chooses the text of "Name:", which comes first. (The kernel escapes newlines in it; this code does not depend on
 * that.)
 */
static const char *find_line(const char *text, const char *label) {
        const char *found = NULL;

        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (text_starts_with(line, label))
                        found = line + strlen(label);
        }
        return found;
}

/*
 * Copies the next word of a line and moves the cursor behind it. Returns false at the end of the line, or if the word
 * is too long.
 */
static bool next_word(const char **cursor, char *word, size_t size) {
        const char *begin = *cursor + strspn(*cursor, " \t");
        size_t length = strcspn(begin, " \t\n");

        if (length == 0 || length >= size)
                return false;
        memcpy(word, begin, length);
        word[length] = '\0';
        *cursor = begin + length;
        return true;
}

int origin_parse_depth(const char *text, unsigned *ret_depth) {
        const char *cursor = find_line(text, "NSpid:");
        unsigned depth = 0;
        uint64_t pid;
        char word[24];

        while (cursor && next_word(&cursor, word, sizeof(word))) {
                if (text_equal(word, "-1"))
                        return -ESRCH;
                if (text_parse_u64(word, 10, INT32_MAX, &pid) < 0)
                        return -EINVAL;
                if (pid == 0)
                        return -ENXIO;
                depth++;
        }
        if (depth == 0)
                return -EINVAL;
        cursor += strspn(cursor, " \t");
        if (*cursor != '\n' && *cursor != '\0') /* a word that is too long for a pid */
                return -EINVAL;
        *ret_depth = depth;
        return 0;
}

/* Field 2 is the process' name in parentheses. The name may contain anything, even ") R 1", so the last ")" ends it. */
int origin_parse_start(const char *text, uint64_t *ret_ticks) {
        const char *cursor = strrchr(text, ')');
        char word[24] = "";

        if (!cursor)
                return -EINVAL;
        cursor++;
        for (unsigned field = 3; field <= START_TIME_FIELD; field++)
                if (!next_word(&cursor, word, sizeof(word)))
                        return -EINVAL;
        return text_parse_u64(word, 10, UINT64_MAX / USEC_PER_SEC, ret_ticks) < 0 ? -EINVAL : 0;
}

int origin_parse_capable(const char *text, const char *label, bool *ret_capable) {
        const char *cursor = find_line(text, label);
        char word[24];
        uint64_t set;

        if (!cursor || !next_word(&cursor, word, sizeof(word)) || text_parse_u64(word, 16, UINT64_MAX, &set) < 0)
                return -EINVAL;
        *ret_capable = set >> CAP_SYS_ADMIN & 1;
        return 0;
}

/* ---- reading them ---- */

/* ESRCH: the file was opened before the process ended, and read afterwards. */
static bool says_gone(ssize_t error) {
        return error == -ESRCH || error == -ENOENT;
}

static int read_depth(int directory, const char *status, unsigned *ret_depth) {
        CLEANUP(free_ptr) char *text = NULL;
        int r = file_read_text_at(directory, status, STATUS_MAX, &text);

        return r < 0 ? r : origin_parse_depth(text, ret_depth);
}

/* Read only once: our depth never changes. */
static int read_own_depth(unsigned *ret_depth) {
        static unsigned depth;
        int r = depth > 0 ? 0 : read_depth(AT_FDCWD, "/proc/self/status", &depth);

        *ret_depth = depth;
        return r;
}

static enum origin compare_depths(unsigned peer, unsigned own) {
        if (peer < own) /* impossible, since it has a pid in our namespace */
                return ORIGIN_UNKNOWN;
        return peer > own ? ORIGIN_ELSEWHERE : ORIGIN_BESIDE;
}

/* ---- rights ---- */

static int open_process(pid_t pid) {
        char path[32];
        int fd;

        (void)text_format(path, sizeof(path), "/proc/%d", (int)pid);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/*
 * Compares the uid maps, which list the users of the host that a process can be. This cannot detect a namespace with
 * the same map as ours, which a process with CAP_SETUID in ours can create.
 */
static bool has_our_users(int directory) {
        static char own[UID_MAP_MAX];
        char text[UID_MAP_MAX];

        if (own[0] == '\0' && file_read("/proc/self/uid_map", own, sizeof(own)) < 0)
                return true;
        return file_read_at(directory, "uid_map", text, sizeof(text)) < 0 || text_equal(text, own);
}

/* Uses the pid: the caller must check afterwards that the process still has it. */
static bool is_capable(pid_t pid) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

        if (syscall(SYS_capget, &header, data) < 0)
                return true;
        return data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

static bool may_become_capable(int directory) {
        CLEANUP(free_ptr) char *text = NULL;
        bool capable;

        return file_read_text_at(directory, "status", STATUS_MAX, &text) < 0 ||
               origin_parse_capable(text, "CapBnd:", &capable) < 0 || capable;
}

/* directory is the process' directory in /proc, or negative if /proc does not show it. */
static enum rights find_rights(int directory, pid_t pid, enum origin_question question) {
        if (directory >= 0 && !has_our_users(directory))
                return RIGHTS_OF_A_USER_NAMESPACE;
        if (question == ORIGIN_CAPABLE && !is_capable(pid))
                return RIGHTS_TAKEN;
        if (question == ORIGIN_MAY_BECOME && directory >= 0 && !may_become_capable(directory))
                return RIGHTS_TAKEN;
        return RIGHTS_OF_THE_HOST;
}

/*
 * Uses an ioctl (Linux 6.11) instead of /proc/PID/ns/pid: reading that link blocks while the process hangs in execve(),
 * closing a file (the kernel's exec_update_lock), and any user can start such a process.
 */
static uint64_t find_pid_namespace(int pidfd) {
        CLEANUP(fd_done) int fd = pidfd < 0 ? -1 : ioctl(pidfd, PIDFD_GET_PID_NAMESPACE, 0);
        struct stat status;

        return fd >= 0 && fstat(fd, &status) == 0 ? status.st_ino : 1;
}

/* Finds the rights, if the question includes them. The origin is already known. */
static void find_more(struct origin_facts *facts, int directory, pid_t pid, enum origin_question question) {
        if (facts->origin == ORIGIN_BESIDE && question != ORIGIN_WHERE)
                facts->rights = find_rights(directory, pid, question);
}

/* ---- by pidfd ---- */

static enum origin read_pidfd(int pidfd) {
        char path[64], text[FDINFO_MAX];
        unsigned depth, own_depth;
        int r;

        (void)text_format(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
        if (file_read(path, text, sizeof(text)) < 0)
                return ORIGIN_UNKNOWN;
        r = origin_parse_depth(text, &depth);
        if (r == -ESRCH)
                return ORIGIN_GONE;
        if (r < 0 || read_own_depth(&own_depth) < 0)
                return ORIGIN_UNKNOWN;
        return compare_depths(depth, own_depth);
}

static bool has_ended(int pidfd) {
        struct pollfd pollfd = {.fd = pidfd, .events = POLLIN};

        return poll(&pollfd, 1, 0) != 0;
}

struct origin_facts origin_of_pidfd(int pidfd, pid_t pid, enum origin_question question) {
        struct origin_facts facts = {.origin = read_pidfd(pidfd), .pid_namespace = 1};
        CLEANUP(fd_done) int directory = -1;

        if (facts.origin != ORIGIN_BESIDE && facts.origin != ORIGIN_ELSEWHERE)
                return facts;
        facts.pid_namespace = facts.origin == ORIGIN_BESIDE ? 0 : find_pid_namespace(pidfd);
        if (facts.origin != ORIGIN_BESIDE || question == ORIGIN_WHERE)
                return facts;
        directory = open_process(pid);
        find_more(&facts, directory, pid, question);
        /* If the process still exists, it had its pid all the time, so what we found belongs to it. */
        if (has_ended(pidfd))
                facts.origin = ORIGIN_GONE;
        return facts;
}

/* ---- by pid ---- */

/*
 * Whether the process had started by that time: 1 or 0, or negative errno. The kernel rounds the start time down to a
 * clock tick.
 */
static int has_started_by(int directory, uint64_t boottime_usec) {
        char text[STAT_MAX];
        uint64_t ticks;
        ssize_t length;
        int r;

        length = file_read_at(directory, "stat", text, sizeof(text));
        if (length < 0)
                return (int)length;
        r = origin_parse_start(text, &ticks);
        if (r < 0)
                return r;
        return ticks * USEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK) <= boottime_usec;
}

static enum origin read_process(int directory, uint64_t connected_boottime_usec) {
        unsigned depth, own_depth;
        int r;

        if (read_own_depth(&own_depth) < 0 || own_depth != 1)
                return ORIGIN_UNKNOWN;
        if (directory < 0)
                return says_gone(directory) ? ORIGIN_GONE : ORIGIN_UNKNOWN;
        r = has_started_by(directory, connected_boottime_usec);
        if (r == 0 || says_gone(r))
                return ORIGIN_GONE;
        if (r > 0)
                r = read_depth(directory, "status", &depth);
        if (r < 0)
                return says_gone(r) ? ORIGIN_GONE : ORIGIN_UNKNOWN;
        return compare_depths(depth, own_depth);
}

/*
 * Looks at the process that has the pid now, without reads that may block. It may not be the peer: its start time is
 * not checked.
 */
static struct origin_facts guess_by_pid(int pidfd, int error, pid_t pid, enum origin_question question) {
        struct origin_facts facts = {.origin = ORIGIN_UNKNOWN, .pid_namespace = 1};

        if (pidfd >= 0)
                return origin_of_pidfd(pidfd, pid, question);
        if (error == ESRCH)
                facts.origin = ORIGIN_GONE;
        return facts;
}

/*
 * Reads the start time only if the process that has the pid now has the rights of this host's root. Any other process
 * is denied in any case, and reading its stat could block.
 */
struct origin_facts origin_of_pid(pid_t pid, uint64_t connected_boottime_usec, enum origin_question question) {
        CLEANUP(fd_done) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        int error = errno;
        struct origin_facts facts = guess_by_pid(pidfd, error, pid, question);
        CLEANUP(fd_done) int directory = -1;
        int opened;

        if (question == ORIGIN_WHERE) {
                facts.origin = ORIGIN_UNKNOWN;
                return facts;
        }
        if ((pidfd >= 0 || error == ESRCH) && (facts.origin != ORIGIN_BESIDE || facts.rights != RIGHTS_OF_THE_HOST))
                return facts;
        /* The directory belongs to one process: all files read through it are of that process, or cannot be read. */
        opened = open_process(pid);
        directory = opened < 0 ? -1 : opened;
        facts.origin = read_process(opened, connected_boottime_usec);
        if (facts.origin != ORIGIN_BESIDE)
                return facts;
        facts.pid_namespace = 0;
        find_more(&facts, directory, pid, question);
        /* capget() used the pid. If this process still exists, the pid was its own at that time. */
        if (has_started_by(directory, connected_boottime_usec) <= 0)
                facts.origin = ORIGIN_GONE;
        return facts;
}
