/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static struct {
        unsigned targets;
        bool verbose;
        bool level_prefix; /* standard error is the journal: "<6>text" carries the level (sd-daemon(3)) */
        int error_copy_fd;
} sink = {
        .targets = LOG_TO_STDERR,
        .error_copy_fd = -1,
};

/* JOURNAL_STREAM names the device and inode of the journal's stream (systemd.exec(5)); ours is it if they agree. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat status;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
               (unsigned long long)status.st_dev == device && (unsigned long long)status.st_ino == inode;
}

void log_open(const char *identifier, unsigned targets, bool verbose) {
        sink.targets = targets;
        sink.verbose = verbose;
        sink.level_prefix = stderr_is_journal();
        if (targets & LOG_TO_SYSLOG)
                openlog(identifier, 0, LOG_DAEMON);
}

void log_copy_errors_to(int fd) {
        sink.error_copy_fd = fd;
}

bool log_is_verbose(void) {
        return sink.verbose;
}

static void write_line(int fd, const char *prefix, const char *text) {
        char line[LOG_LINE_MAX + 8];
        int length = snprintf(line, sizeof(line), "%s%s\n", prefix, text);

        if (length >= (int)sizeof(line)) {
                length = sizeof(line) - 1;
                line[length - 1] = '\n';
        }
        /* A log that cannot be written has nowhere to complain to. */
        if (write(fd, line, (size_t)length) < 0)
                return;
}

static void emit(int level, const char *text) {
        char prefix[8] = "";

        if (sink.level_prefix)
                (void)snprintf(prefix, sizeof(prefix), "<%d>", level);
        if (sink.targets & LOG_TO_STDERR)
                write_line(STDERR_FILENO, prefix, text);
        if (sink.targets & LOG_TO_SYSLOG)
                syslog(level, "%s", text);
        if (sink.error_copy_fd >= 0 && level <= LOG_ERR)
                write_line(sink.error_copy_fd, "", text);
}

static bool is_shown(int level) {
        return sink.verbose || level <= LOG_WARNING;
}

void log_write(int level, const char *format, ...) {
        char text[LOG_LINE_MAX];
        va_list arguments;

        if (!is_shown(level))
                return;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        emit(level, text);
}

void log_always(int level, const char *format, ...) {
        char text[LOG_LINE_MAX];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        emit(level, text);
}

int log_errno(int level, int error, const char *format, ...) {
        char text[LOG_LINE_MAX], reason[128];
        va_list arguments;
        size_t length;

        if (!is_shown(level))
                return error;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        length = strlen(text);
        (void)snprintf(text + length, sizeof(text) - length, ": %s", strerror_r(-error, reason, sizeof(reason)));
        emit(level, text);
        return error;
}
