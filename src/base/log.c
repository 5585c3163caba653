/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/log.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/thread.h"

#define LOG_LINE_MAX 1024

enum {
        QUEUE_MAX = 128, /* messages */
        STACK_SIZE = 128 << 10,
        SETTLE_MSEC = 10,
};

/*
 * Used instead of syslog(3), which calls connect(2): the daemon's sandbox forbids that. Datagrams also reach a syslog
 * that was restarted.
 */
static const struct sockaddr_un syslog_address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

static struct {
        const char *identifier;
        int syslog_fd;
        unsigned targets;
        bool verbose;
        bool has_journal;  /* standard error may be the journal's stream */
        bool level_prefix; /* standard error is the journal: "<6>text" carries the level (sd-daemon(3)) */
        int error_copy_fd;
} sink = {
        .syslog_fd = -1,
        .targets = LOG_TO_STDERR,
        .error_copy_fd = -1,
};

struct message {
        int level;
        char text[LOG_LINE_MAX];
};

/* Messages that wait for the log's thread. Before that is started, each thread writes its own messages. */
static struct {
        pthread_mutex_t lock;
        pthread_cond_t more;
        bool running;
        struct message messages[QUEUE_MAX]; /* a ring; starts at 0 again whenever it becomes empty */
        unsigned first, n;
        bool writing;       /* the thread writes a message that is not in the ring any more */
        unsigned long lost; /* messages lost because it was full; not logged yet */
} queue = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .more = PTHREAD_COND_INITIALIZER,
};

/*
 * Compares device and inode of standard error with JOURNAL_STREAM, which has those of the journal's stream
 * (systemd.exec(5)).
 */
static bool stderr_is(const char *stream) {
        unsigned long long device, inode;
        struct stat status;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
               (unsigned long long)status.st_dev == device && (unsigned long long)status.st_ino == inode;
}

void log_set_journal(const char *stream) {
        sink.has_journal = stream != NULL;
        sink.level_prefix = stderr_is(stream);
}

void log_open(const char *identifier, unsigned targets, bool verbose) {
        sink.targets = targets;
        sink.verbose = verbose;
        sink.identifier = identifier;
        if ((targets & LOG_TO_SYSLOG) && sink.syslog_fd < 0)
                sink.syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
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
        /* If writing the log fails, the error cannot be reported. */
        if (write(fd, line, (size_t)length) < 0)
                return;
}

/* The format of syslog(3) (RFC 3164). Names of months are English, since the daemon sets no locale. */
static void write_to_syslog(int level, const char *text) {
        char line[LOG_LINE_MAX + 128], when[32] = "";
        time_t now = time(NULL);
        struct tm local;
        int length;

        if (localtime_r(&now, &local))
                (void)strftime(when, sizeof(when), "%h %e %T", &local);
        length = snprintf(line, sizeof(line), "<%d>%s %s: %s", LOG_DAEMON | level, when, sink.identifier, text);
        if (length >= (int)sizeof(line))
                length = sizeof(line) - 1;
        /* Without a syslog the line is lost, as with syslog(3). */
        (void)sendto(sink.syslog_fd, line, (size_t)length, MSG_NOSIGNAL, (const struct sockaddr *)&syslog_address,
                     sizeof(syslog_address));
}

/* May block until the reader of the log accepts the message. */
static void write_message(int level, const char *text) {
        char prefix[8] = "";

        if (sink.level_prefix)
                (void)snprintf(prefix, sizeof(prefix), "<%d>", level);
        if (sink.targets & LOG_TO_STDERR)
                write_line(STDERR_FILENO, prefix, text);
        if (sink.targets & LOG_TO_SYSLOG)
                write_to_syslog(level, text);
}

/* ---- the thread ---- */

static void take_message(struct message *message) {
        *message = queue.messages[queue.first];
        queue.n--;
        queue.first = queue.n == 0 ? 0 : (queue.first + 1) % QUEUE_MAX;
}

static void tell_lost(struct message *message) {
        message->level = LOG_WARNING;
        (void)snprintf(message->text, sizeof(message->text),
                       "%lu messages were lost before this one: the log did not accept them in time", queue.lost);
        queue.lost = 0;
}

static void *thread_main(void *argument) {
        struct message message;

        (void)pthread_setname_np(pthread_self(), "log");
        (void)pthread_mutex_lock(&queue.lock);
        for (;;) {
                if (queue.n > 0) {
                        take_message(&message);
                } else if (queue.lost > 0) {
                        tell_lost(&message);
                } else {
                        (void)pthread_cond_wait(&queue.more, &queue.lock);
                        continue;
                }
                queue.writing = true;
                (void)pthread_mutex_unlock(&queue.lock);
                write_message(message.level, message.text);
                (void)pthread_mutex_lock(&queue.lock);
                queue.writing = false;
        }
        return NULL;
}

/* The caller holds the lock. */
static void enqueue(int level, const char *text) {
        struct message *message = &queue.messages[(queue.first + queue.n) % QUEUE_MAX];

        if (queue.n == QUEUE_MAX) {
                queue.lost++;
                return;
        }
        message->level = level;
        (void)snprintf(message->text, sizeof(message->text), "%s", text);
        queue.n++;
        (void)pthread_cond_signal(&queue.more);
}

static void emit(int level, const char *text) {
        bool queued;

        (void)pthread_mutex_lock(&queue.lock);
        queued = queue.running;
        if (queued)
                enqueue(level, text);
        (void)pthread_mutex_unlock(&queue.lock);
        if (!queued)
                write_message(level, text);
        if (sink.error_copy_fd >= 0 && level <= LOG_ERR)
                write_line(sink.error_copy_fd, "", text);
}

int log_start(void) {
        const struct thread_options options = {.stack_size = STACK_SIZE, .detached = true};
        pthread_t thread;
        int r = thread_start(&thread, &options, thread_main, NULL);

        if (r < 0)
                return r;
        (void)pthread_mutex_lock(&queue.lock);
        queue.running = true;
        (void)pthread_mutex_unlock(&queue.lock);
        return 0;
}

void log_forked(void) {
        /* The log's thread may have held the lock at the time of the fork. */
        queue.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        queue.more = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
        queue.running = queue.writing = false;
        queue.first = queue.n = 0;
        queue.lost = 0;
        sink.error_copy_fd = -1;
        sink.syslog_fd = fd_close(sink.syslog_fd);
}

bool log_is_written(void) {
        bool written;

        (void)pthread_mutex_lock(&queue.lock);
        written = !queue.running || (queue.n == 0 && queue.lost == 0 && !queue.writing);
        (void)pthread_mutex_unlock(&queue.lock);
        return written;
}

/* Polls every millisecond: the timeout of a wait on the condition would depend on the time of day, which may be set. */
void log_flush(unsigned limit_msec) {
        for (unsigned i = 0; i < limit_msec && !log_is_written(); i++)
                clock_sleep(USEC_PER_MSEC);
}

void log_settle(unsigned limit_msec) {
        uint64_t end_usec = clock_monotonic_usec() + limit_msec * USEC_PER_MSEC;
        int unread = 0;

        if (!sink.has_journal)
                return;
        do
                clock_sleep(SETTLE_MSEC * USEC_PER_MSEC);
        while (ioctl(STDERR_FILENO, SIOCOUTQ, &unread) == 0 && unread > 0 && clock_monotonic_usec() < end_usec);
        clock_sleep(SETTLE_MSEC * USEC_PER_MSEC); /* the journal looks up the unit after it has read the last byte */
}

/* ---- the public functions ---- */

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

        if (!is_shown(level))
                return error;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        text_add(text, ": %s", strerror_r(-error, reason, sizeof(reason)));
        emit(level, text);
        return error;
}
