/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

struct worker {
        pthread_mutex_t lock;
        struct worker_job *ended; /* under lock: the newest first */
        unsigned running;         /* jobs started whose done has not been called; the loop's */
        int event_fd;
        struct event *event;
};

static void *thread_main(void *argument) {
        struct worker_job *job = argument;
        struct worker *worker = job->worker;
        uint64_t one = 1;

        job->run(job);
        (void)pthread_mutex_lock(&worker->lock);
        job->next = worker->ended;
        worker->ended = job;
        /* Under the lock, so that the loop does not free the worker between the two. */
        (void)!write(worker->event_fd, &one, sizeof(one));
        (void)pthread_mutex_unlock(&worker->lock);
        return NULL;
}

static void on_ended(evutil_socket_t fd, short what, void *userdata) {
        struct worker *worker = userdata;
        struct worker_job *job;
        uint64_t count;

        (void)!read(fd, &count, sizeof(count));
        (void)pthread_mutex_lock(&worker->lock);
        job = take_ptr(worker->ended);
        (void)pthread_mutex_unlock(&worker->lock);
        while (job) {
                struct worker_job *next = job->next;

                worker->running--;
                job->done(job);
                job = next;
        }
}

static void worker_done(struct worker **worker_pointer) {
        struct worker *worker = *worker_pointer;

        if (!worker)
                return;
        if (worker->event)
                event_free(worker->event);
        worker->event_fd = fd_close(worker->event_fd);
        (void)pthread_mutex_destroy(&worker->lock);
        free(worker);
}

int worker_new(struct worker **ret_worker, struct event_base *loop) {
        CLEANUP(worker_done) struct worker *worker = calloc(1, sizeof(*worker));

        if (!worker)
                return -ENOMEM;
        (void)pthread_mutex_init(&worker->lock, NULL);
        worker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (worker->event_fd < 0)
                return -errno;
        worker->event = event_new(loop, worker->event_fd, EV_READ | EV_PERSIST, on_ended, worker);
        if (!worker->event || event_add(worker->event, NULL) < 0)
                return -ENOMEM;
        *ret_worker = take_ptr(worker);
        return 0;
}

bool worker_free(struct worker *worker) {
        if (worker && worker->running > 0)
                return false;
        if (worker) { /* the last thread may still be about to leave its critical section */
                (void)pthread_mutex_lock(&worker->lock);
                (void)pthread_mutex_unlock(&worker->lock);
        }
        worker_done(&worker);
        return true;
}

/* Signals are the loop's: threads are born with all of them blocked. */
static int create_thread(struct worker_job *job) {
        sigset_t all, saved;
        pthread_attr_t attributes;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &saved);
        r = pthread_create(&thread, &attributes, thread_main, job);
        (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
        (void)pthread_attr_destroy(&attributes);
        return -r;
}

int worker_start(struct worker *worker, struct worker_job *job) {
        int r;

        job->worker = worker;
        r = create_thread(job);
        if (r == 0)
                worker->running++;
        return r;
}
