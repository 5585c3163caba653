#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's log: one line a message, to standard error, to syslog (facility daemon), or to both. Levels are those of
 * syslog. Only layers from gpu/ upwards log; base/ and rpc/ return codes.
 *
 * Safe to call from several threads. A message is written whole or not at all.
 */

#include <stdbool.h>
#include <syslog.h>

enum log_target {
        LOG_TO_STDERR = 1 << 0,
        LOG_TO_SYSLOG = 1 << 1,
};

/* Until log_open() is called everything up to LOG_WARNING goes to standard error. `identifier` must stay valid. */
void log_open(const char *identifier, unsigned targets, bool verbose);

/* What JOURNAL_STREAM says, or NULL: if standard error is that stream, lines begin with their level. */
void log_set_journal(const char *stream);

/*
 * From now on a thread writes, and who logs never waits: neither for a full pipe nor for a syslog that takes nothing. A
 * message that finds 128 others waiting is lost, and their number is logged. Call it when the process has forked and
 * given up what it gives up. Returns 0 or negative errno; then logging waits as before.
 */
int log_start(void);

/*
 * Call this in a child of fork() before its first message: the log's thread exists only in the parent, which also
 * writes the queued messages. The child may start its own thread.
 */
void log_forked(void);

/* Whether every message has been written, and none is being written. */
bool log_is_written(void);

/* At the end: waits until all is written, but no longer than this. */
void log_flush(unsigned limit_msec);

/*
 * Before the exit of a process that could not start: waits until the journal, if standard error leads to it, has read
 * what was said, but no longer than this. It looks up the unit of a message by the pid, in vain once the process is
 * gone, and `systemctl status` would then show no reason.
 */
void log_settle(unsigned limit_msec);

/*
 * A further receiver of every message of level LOG_ERR and worse: the parent that waits for a forking start. fd stays
 * the caller's; -1 ends it.
 */
void log_copy_errors_to(int fd);

/* Verbose logs show every level up to LOG_DEBUG; others up to LOG_WARNING, and LOG_NOTICE sent by log_always(). */
bool log_is_verbose(void);

void log_write(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shown whether the log is verbose or not. */
void log_always(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Logs "<message>: <text of error>" and returns error (a negative errno) unchanged, so one statement can log and return
 * an error: return log_errno(LOG_ERR, -errno, "cannot open %s", path);
 */
int log_errno(int level, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
