#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's log: one line for each message, to standard error, to syslog (facility daemon), or to both. Levels are
 * those of syslog. base/ and rpc/ do not log; they return errors.
 *
 * Safe to call from several threads. A message is written whole or not at all; one of more than 1023 bytes is cut.
 */

#include <stdbool.h>
#include <syslog.h>

enum log_target {
        LOG_TO_STDERR = 1 << 0,
        LOG_TO_SYSLOG = 1 << 1,
};

/* Before log_open(), everything up to LOG_WARNING goes to standard error. `identifier` must stay valid. */
void log_open(const char *identifier, unsigned targets, bool verbose);

/* stream: the value of JOURNAL_STREAM, or NULL. If standard error is that stream, lines begin with their level. */
void log_set_journal(const char *stream);

/*
 * Starts a thread that writes the messages. From now on logging never blocks, neither for a full pipe nor for a syslog
 * that accepts nothing. If 128 messages are waiting, further ones are lost, and their number is logged. Call this after
 * the process has forked and dropped its privileges. Returns 0 or negative errno; then logging may block as before.
 */
int log_start(void);

/*
 * Call this in a child of fork() before its first message: the log's thread exists only in the parent, which also
 * writes the queued messages. The child may start its own thread.
 */
void log_forked(void);

/* Whether every message has been written, and none is being written. */
bool log_is_written(void);

/* Call this at the end: waits until all messages are written, at most for this time. */
void log_flush(unsigned limit_msec);

/*
 * Call this before the exit of a process that could not start. If standard error leads to the journal, waits until the
 * journal has read all messages, at most for this time. The journal finds the unit of a message by the pid. Once the
 * process is gone it cannot, and `systemctl status` would not show the reason.
 */
void log_settle(unsigned limit_msec);

/*
 * Also writes every message of level LOG_ERR and worse to fd, for the parent that waits for a forking start. The caller
 * owns fd; -1 ends this.
 */
void log_copy_errors_to(int fd);

/*
 * A verbose log shows all levels up to LOG_DEBUG; others show levels up to LOG_WARNING, and all messages of
 * log_always().
 */
bool log_is_verbose(void);

void log_write(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Logs the message even if the log is not verbose. */
void log_always(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Logs "<message>: <text of error>" and returns error (a negative errno) unchanged, so one statement can log and return
 * an error: return log_errno(LOG_ERR, -errno, "cannot open %s", path);
 */
int log_errno(int level, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
