#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Threads for what may sleep in the driver, so that the event loop never does. One thread per job, made when the job
 * starts and gone when it ends: at rest there is none. The end of a job is told in the loop, by calling its `done`.
 */

#include <pthread.h>
#include <stdbool.h>

#include <event2/event.h>

struct worker;

struct worker_job {
        void (*run)(struct worker_job *job);  /* on a thread of its own */
        void (*done)(struct worker_job *job); /* in the loop, after run has returned; may free the job */
        /* the rest is the worker's */
        struct worker *worker;
        struct worker_job *next;
        pthread_t thread;
        void *stack;
};

int worker_new(struct worker **ret_worker, struct event_base *loop);

/*
 * Ends the worker. Jobs that still run keep what they need: a thread that is stuck in the driver cannot be ended, only
 * left behind when the process exits. Then the worker itself is left as well, and false is returned.
 */
bool worker_free(struct worker *worker);

/* Whether no job runs: none of the worker's threads is left. */
bool worker_is_idle(const struct worker *worker);

/* Returns 0, or negative errno when no thread could be made; done is then not called. */
int worker_start(struct worker *worker, struct worker_job *job);
