/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

enum {
        /* "Groups:" stands before "NSpid:" and has up to 11 bytes a group: room for a thousand of them. */
        STATUS_MAX = 16384,
        STAT_MAX = 1024,
        FDINFO_MAX = 1024,
        START_TIME_FIELD = 22, /* proc_pid_stat(5) */
};

/* ---- the texts of /proc ---- */

/*
 * The line that begins with the label, without it. The last one counts: the process chooses what stands in "Name:",
 * which comes first. (The kernel writes its newlines as \n; here it would not matter if it did not.)
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

/* The next word of a line, and behind it; false at the line's end. */
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
        if (*cursor != '\n' && *cursor != '\0') /* a word too long to be a pid */
                return -EINVAL;
        *ret_depth = depth;
        return 0;
}

/* Field 2 is the process' name in parentheses, in which anything can stand, also ") R 1": the last ")" ends it. */
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

/* ---- reading them ---- */

/* ESRCH comes from reading a file that was opened while the process still was. */
static bool says_gone(ssize_t error) {
        return error == -ESRCH || error == -ENOENT;
}

static int read_depth(int directory, const char *status, unsigned *ret_depth) {
        CLEANUP(free_ptr) char *text = NULL;
        int r = file_read_text_at(directory, status, STATUS_MAX, &text);

        return r < 0 ? r : origin_parse_depth(text, ret_depth);
}

static int read_own_depth(unsigned *ret_depth) {
        return read_depth(AT_FDCWD, "/proc/self/status", ret_depth);
}

static enum origin compare_depths(unsigned peer, unsigned own) {
        if (peer < own) /* it has a pid here, so this cannot be */
                return ORIGIN_UNKNOWN;
        return peer > own ? ORIGIN_ELSEWHERE : ORIGIN_BESIDE;
}

enum origin origin_of_pidfd(int pidfd) {
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

/* Whether the process had started by then. Its start is known to a clock tick, which is rounded down. */
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

enum origin origin_of_pid(pid_t pid, uint64_t connected_boottime_usec) {
        CLEANUP(fd_done) int directory = -1;
        unsigned depth, own_depth;
        char path[32];
        int r;

        if (read_own_depth(&own_depth) < 0 || own_depth != 1)
                return ORIGIN_UNKNOWN;
        (void)text_format(path, sizeof(path), "/proc/%d", (int)pid);
        /* The directory stays with its process: both files are of one and the same, or cannot be read. */
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return says_gone(-errno) ? ORIGIN_GONE : ORIGIN_UNKNOWN;
        r = has_started_by(directory, connected_boottime_usec);
        if (r == 0 || says_gone(r))
                return ORIGIN_GONE;
        if (r > 0)
                r = read_depth(directory, "status", &depth);
        if (r < 0)
                return says_gone(r) ? ORIGIN_GONE : ORIGIN_UNKNOWN;
        return compare_depths(depth, own_depth);
}
