/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/closer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/thread.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16, include/uapi/asm-generic/socket.h; the headers may be older than the kernel */
#endif

enum {
        QUEUE_MAX = 1024, /* all sessions (512) at once, plus those that wait before the server stops accepting (256) */
        NUDGE_MSEC = 100,
        STACK_SIZE = 64 << 10,
};

/*
 * A signal that is ignored by default: another process that sends it to us has no effect, with or without our handler.
 */
#define NUDGE SIGURG

struct thread {
        pthread_t id;
        bool running;
        uint64_t since_usec; /* when its close() began; 0: not in a close() */
};

static struct {
        pthread_mutex_t lock;
        pthread_cond_t more;
        int queue[QUEUE_MAX]; /* a ring */
        unsigned first, queued;
        struct thread threads[CLOSER_THREADS_MAX];
        unsigned idle;
        struct event *nudge; /* used by the loop's thread only */
} closer = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .more = PTHREAD_COND_INITIALIZER,
};

/* ---- the threads ---- */

static int take(void) {
        int fd = closer.queue[closer.first];

        closer.first = (closer.first + 1) % QUEUE_MAX;
        closer.queued--;
        return fd;
}

/*
 * Holds the lock except during close(). When the queue is empty, one thread stays for the next socket; the others end.
 */
static void *thread_main(void *argument) {
        struct thread *self = argument;

        (void)pthread_setname_np(pthread_self(), "closer");
        (void)pthread_mutex_lock(&closer.lock);
        while (closer.queued > 0 || closer.idle == 0) {
                if (closer.queued == 0) {
                        closer.idle++;
                        (void)pthread_cond_wait(&closer.more, &closer.lock);
                        closer.idle--;
                        continue;
                }
                int fd = take();

                self->since_usec = clock_monotonic_usec();
                (void)pthread_mutex_unlock(&closer.lock);
                (void)close(fd);
                (void)pthread_mutex_lock(&closer.lock);
                self->since_usec = 0;
        }
        self->running = false;
        (void)pthread_mutex_unlock(&closer.lock);
        return NULL;
}

/* The caller holds the lock. If no thread can be started (out of memory), the socket waits for the next attempt. */
static void find_thread(void) {
        const struct thread_options options = {.stack_size = STACK_SIZE, .detached = true, .takes = NUDGE};

        if (closer.idle > 0) {
                (void)pthread_cond_signal(&closer.more);
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(closer.threads); i++) {
                struct thread *thread = &closer.threads[i];

                if (thread->running)
                        continue;
                thread->since_usec = 0;
                thread->running = thread_start(&thread->id, &options, thread_main, thread) == 0;
                return;
        }
}

/* ---- the loop's side ---- */

static unsigned count_locked(void) {
        unsigned count = closer.queued;

        for (size_t i = 0; i < ARRAY_SIZE(closer.threads); i++)
                count += closer.threads[i].since_usec != 0;
        return count;
}

unsigned closer_count(void) {
        unsigned count;

        (void)pthread_mutex_lock(&closer.lock);
        count = count_locked();
        (void)pthread_mutex_unlock(&closer.lock);
        return count;
}

static void nudge_later(void) {
        static const struct timeval period = {.tv_usec = NUDGE_MSEC * USEC_PER_MSEC};

        if (closer.nudge && !event_pending(closer.nudge, EV_TIMEOUT, NULL))
                (void)event_add(closer.nudge, &period);
}

static void on_nudge(evutil_socket_t fd, short what, void *userdata) {
        uint64_t now_usec = clock_monotonic_usec();
        bool waiting;

        (void)pthread_mutex_lock(&closer.lock);
        for (size_t i = 0; i < ARRAY_SIZE(closer.threads); i++) {
                const struct thread *thread = &closer.threads[i];

                /* The thread exists: it cannot end before it gets the lock. */
                if (thread->since_usec != 0 && now_usec - thread->since_usec >= NUDGE_MSEC * USEC_PER_MSEC)
                        (void)pthread_kill(thread->id, NUDGE);
        }
        waiting = count_locked() > 0;
        if (closer.queued > 0)
                find_thread();
        (void)pthread_mutex_unlock(&closer.lock);
        if (waiting)
                nudge_later();
}

static bool refuses_rights(int fd) {
        int passes = 1;
        socklen_t size = sizeof(passes);

        return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &passes, &size) == 0 && !passes;
}

void closer_refuse_rights(int listen_fd) {
        const int no = 0;

        (void)setsockopt(listen_fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

static bool is_listening(int fd) {
        int listening = 0;
        socklen_t size = sizeof(listening);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

void closer_close(int fd) {
        if (fd < 0)
                return;
        if (refuses_rights(fd)) {
                (void)fd_close(fd);
                return;
        }
        /* The client notices now, and cannot send anything more. Not for a listening socket: the service manager has a
         * copy, and a shutdown would affect that, too. */
        if (!is_listening(fd))
                (void)shutdown(fd, SHUT_RDWR);
        (void)pthread_mutex_lock(&closer.lock);
        assert(closer.queued < QUEUE_MAX); /* the server's limits ensure it */
        closer.queue[(closer.first + closer.queued) % QUEUE_MAX] = fd;
        closer.queued++;
        find_thread();
        (void)pthread_mutex_unlock(&closer.lock);
        nudge_later();
}

/* ---- life ---- */

static void on_signal(int number) {
        /* Receiving the signal is enough: it interrupts a wait in the kernel. */
}

int closer_start(struct event_base *loop) {
        const struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */

        if (sigaction(NUDGE, &action, NULL) < 0)
                return -errno;
        closer.nudge = event_new(loop, -1, 0, on_nudge, NULL);
        return closer.nudge ? 0 : -ENOMEM;
}

void closer_stop(void) {
        if (closer.nudge)
                event_free(closer.nudge);
        closer.nudge = NULL;
}
