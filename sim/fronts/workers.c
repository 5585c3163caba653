/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/thread.h"

/* With the default of 8 MiB, hundreds of threads would need too much address space. */
enum { WORKER_STACK_BYTES = 256 * 1024 };

struct job {
        STAILQ_ENTRY(job) link;
        void (*run)(void *argument);
        void *argument;
};

struct workers {
        pthread_mutex_t mutex;
        pthread_cond_t changed;  /* a new job, or the end */
        STAILQ_HEAD(, job) jobs; /* waiting jobs, oldest first */
        unsigned n_waiting;
        unsigned n_idle;
        unsigned n_threads, maximum;
        bool ending;
        pthread_t threads[];
};

static struct job *take_job(struct workers *workers) {
        struct job *job;

        workers->n_idle++;
        while (STAILQ_EMPTY(&workers->jobs) && !workers->ending)
                (void)pthread_cond_wait(&workers->changed, &workers->mutex);
        workers->n_idle--;
        job = STAILQ_FIRST(&workers->jobs);
        if (!job)
                return NULL;
        STAILQ_REMOVE_HEAD(&workers->jobs, link);
        workers->n_waiting--;
        return job;
}

static void *worker_main(void *argument) {
        struct workers *workers = argument;
        struct job *job;

        (void)pthread_mutex_lock(&workers->mutex);
        while ((job = take_job(workers))) {
                (void)pthread_mutex_unlock(&workers->mutex);
                job->run(job->argument);
                free(job);
                (void)pthread_mutex_lock(&workers->mutex);
        }
        (void)pthread_mutex_unlock(&workers->mutex);
        return NULL;
}

int workers_new(struct workers **ret_workers, unsigned maximum) {
        struct workers *workers = calloc(1, sizeof(*workers) + maximum * sizeof(workers->threads[0]));

        if (!workers)
                return -ENOMEM;
        workers->maximum = maximum;
        STAILQ_INIT(&workers->jobs);
        (void)pthread_mutex_init(&workers->mutex, NULL);
        (void)pthread_cond_init(&workers->changed, NULL);
        *ret_workers = workers;
        return 0;
}

void workers_free(struct workers *workers) {
        if (!workers)
                return;
        (void)pthread_mutex_lock(&workers->mutex);
        workers->ending = true;
        (void)pthread_cond_broadcast(&workers->changed);
        (void)pthread_mutex_unlock(&workers->mutex);
        for (unsigned i = 0; i < workers->n_threads; i++)
                (void)pthread_join(workers->threads[i], NULL);
        (void)pthread_cond_destroy(&workers->changed);
        (void)pthread_mutex_destroy(&workers->mutex);
        free(workers);
}

/* Call with the mutex held. A failure to start a thread matters only for the first one: others would take the job
 * later. */
static int start_thread(struct workers *workers) {
        static const struct thread_options options = {.stack_size = WORKER_STACK_BYTES};
        int r;

        if (workers->n_threads == workers->maximum)
                return 0;
        r = thread_start(&workers->threads[workers->n_threads], &options, worker_main, workers);
        if (r == 0)
                workers->n_threads++;
        return workers->n_threads > 0 ? 0 : r;
}

int workers_run(struct workers *workers, void (*run)(void *argument), void *argument) {
        CLEANUP(free_ptr) struct job *job = calloc(1, sizeof(*job));
        int r = 0;

        if (!job)
                return -ENOMEM;
        *job = (struct job){.run = run, .argument = argument};
        (void)pthread_mutex_lock(&workers->mutex);
        if (workers->n_waiting >= workers->n_idle)
                r = start_thread(workers);
        if (r == 0) {
                workers->n_waiting++;
                STAILQ_INSERT_TAIL(&workers->jobs, job, link);
                (void)take_ptr(job);
                (void)pthread_cond_signal(&workers->changed);
        }
        (void)pthread_mutex_unlock(&workers->mutex);
        return r;
}
