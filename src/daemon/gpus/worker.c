/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/worker.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/thread.h"

enum { STACK_SIZE = 8 << 20 }; /* the default size of glibc, since NVIDIA's library may run on it */

struct worker {
        pthread_mutex_t lock;
        struct worker_job *ended; /* under the lock; the newest first */
        unsigned running;         /* jobs whose done was not called yet; used by the loop's thread only */
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
        /* Under the lock, so that the loop does not free the worker before this write. */
        (void)!write(worker->event_fd, &one, sizeof(one));
        (void)pthread_mutex_unlock(&worker->lock);
        return NULL;
}

/*
 * We allocate the stacks because glibc keeps those of ended threads for later ones, with all pages that they have used.
 * A daemon that holds GPUs for months does not need these pages.
 */
static int map_stack(void **ret_stack) {
        void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

        if (stack == MAP_FAILED)
                return -errno;
        /* The guard page: stacks grow downwards. */
        if (mprotect(stack, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE) < 0) {
                int r = -errno;

                (void)munmap(stack, STACK_SIZE);
                return r;
        }
        *ret_stack = stack;
        return 0;
}

static void unmap_stack(struct worker_job *job) {
        (void)munmap(job->stack, STACK_SIZE);
}

/* The thread has reported its end, but uses its stack until it has returned. */
static void join(struct worker_job *job) {
        (void)pthread_join(job->thread, NULL);
        unmap_stack(job);
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
                join(job);
                job->done(job);
                job = next;
        }
        if (worker->running == 0) /* at rest, maybe for months */
                (void)malloc_trim(0);
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
        worker_done(&worker);
        return true;
}

bool worker_is_idle(const struct worker *worker) {
        return worker->running == 0;
}

int worker_start(struct worker *worker, struct worker_job *job) {
        struct thread_options options = {.stack_size = STACK_SIZE};
        int r;

        job->worker = worker;
        r = map_stack(&job->stack);
        if (r < 0)
                return r;
        options.stack = job->stack;
        r = thread_start(&job->thread, &options, thread_main, job);
        if (r < 0)
                unmap_stack(job);
        else
                worker->running++;
        return r;
}
