#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Threads for calls that may sleep in the driver, so that the event loop never does. Each job has its own thread, which
 * ends with the job: at rest there is none. The loop then calls the job's `done`.
 */

#include <pthread.h>
#include <stdbool.h>

#include <event2/event.h>

struct worker;

struct worker_job {
        void (*run)(struct worker_job *job);  /* runs on its own thread */
        void (*done)(struct worker_job *job); /* runs in the loop after run has returned; may free the job */
        /* private to the worker */
        struct worker *worker;
        struct worker_job *next;
        pthread_t thread;
        void *stack;
};

int worker_new(struct worker **ret_worker, struct event_base *loop);

/*
 * Frees the worker; NULL is allowed. Returns false and frees nothing if a job still runs: a thread that is stuck in the
 * driver cannot be ended, and still uses the worker.
 */
bool worker_free(struct worker *worker);

/* Whether no job runs, and so none of the worker's threads is left. */
bool worker_is_idle(const struct worker *worker);

/* Returns 0, or negative errno if no thread could be started; done is then not called. */
int worker_start(struct worker *worker, struct worker_job *job);
