/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/notices.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/gpus/worker.h"

enum { EVENTS_PER_READ = 32 };

enum task {
        TASK_OPEN,
        TASK_READ,
        TASK_CLOSE,
};

struct notices {
        struct event_base *loop;
        struct worker *worker;
        struct notices_callbacks callbacks;
        const char *root;
        struct rm_events *events; /* NULL: not subscribed */
        struct event *readable;
        struct event *retry; /* of a job that could not be started */
        bool wanted;
        bool refused;   /* the last try failed: not again before it is wanted anew */
        bool read_due;  /* there may be something to read */
        bool busy;      /* a job is on a worker thread, and uses events */
        int told_error; /* the last refusal that was logged: every retry of a GPU that fails tries this anew */
};

struct notices_job {
        struct worker_job job;
        struct notices *notices;
        enum task task;
        int result;
        struct rm_event events[EVENTS_PER_READ];
        size_t n_events;
        struct gpu_failure failure;
};

static void advance(struct notices *notices);

static void job_run(struct worker_job *worker_job) {
        struct notices_job *job = container_of(worker_job, struct notices_job, job);
        struct notices *notices = job->notices;

        switch (job->task) {
        case TASK_OPEN:
                job->result = rm_events_open(&notices->events, notices->root, &job->failure);
                break;
        case TASK_READ:
                job->result =
                        rm_events_read(notices->events, job->events, EVENTS_PER_READ, &job->n_events, &job->failure);
                break;
        case TASK_CLOSE:
                rm_events_free(notices->events);
                notices->events = NULL;
                break;
        }
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct notices *notices = userdata;

        notices->read_due = true;
        advance(notices);
}

/* Unbinds are then heard of from the kernel log, or not at all (daemon.c); everything else is as ever. */
static void log_refusal(int error, const struct gpu_failure *failure) {
        bool expected = error == -EOPNOTSUPP || error == -ENOENT || error == -ENXIO || error == -ENODEV;

        log_write(expected ? LOG_INFO : LOG_WARNING, "the driver will not announce unbinds: %s", failure->text);
}

static void end_open(struct notices *notices, const struct notices_job *job) {
        notices->refused = job->result < 0;
        if (job->result < 0 && job->result != notices->told_error)
                log_refusal(job->result, &job->failure);
        notices->told_error = job->result;
        if (job->result < 0)
                return;
        /* Watched once and for good, and read once unasked: gpu/rm.h, rm_events_fd(). */
        notices->readable =
                event_new(notices->loop, rm_events_fd(notices->events), EV_READ | EV_PERSIST, on_readable, notices);
        if (notices->readable)
                (void)event_add(notices->readable, NULL);
        notices->read_due = true;
}

static void end_read(struct notices *notices, const struct notices_job *job) {
        if (job->result < 0) { /* the driver is going: end the subscription, which frees it */
                log_write(LOG_DEBUG, "no more notices from the driver: %s", job->failure.text);
                notices->wanted = false;
                return;
        }
        notices->read_due |= job->result == RM_EVENTS_MORE;
        for (size_t i = 0; i < job->n_events; i++)
                notices->callbacks.on_event(&job->events[i], notices->callbacks.userdata);
}

static void job_done(struct worker_job *worker_job) {
        CLEANUP(free_ptr) struct notices_job *job = container_of(worker_job, struct notices_job, job);
        struct notices *notices = job->notices;

        notices->busy = false;
        if (job->task == TASK_OPEN)
                end_open(notices, job);
        else if (job->task == TASK_READ)
                end_read(notices, job);
        if (job->task != TASK_READ)
                notices->callbacks.on_change(notices->callbacks.userdata);
        advance(notices);
}

static bool try_start(struct notices *notices, enum task task) {
        struct notices_job *job = calloc(1, sizeof(*job));

        if (!job)
                return false;
        *job = (struct notices_job){.job = {.run = job_run, .done = job_done}, .notices = notices, .task = task};
        notices->busy = worker_start(notices->worker, &job->job) == 0;
        if (!notices->busy)
                free(job);
        return notices->busy;
}

/* Without memory or a thread it is tried again: a lease waits for the subscription's end, and GPUs for its begin. */
static void start(struct notices *notices, enum task task) {
        static const struct timeval pause = {.tv_sec = 1};

        if (try_start(notices, task))
                return;
        notices->read_due |= task == TASK_READ;
        (void)event_add(notices->retry, &pause);
}

static void on_retry(evutil_socket_t fd, short what, void *userdata) {
        advance(userdata);
}

static void unwatch(struct notices *notices) {
        if (notices->readable)
                event_free(notices->readable);
        notices->readable = NULL;
}

static void advance(struct notices *notices) {
        if (notices->busy)
                return;
        if (notices->wanted && !notices->events && !notices->refused) {
                start(notices, TASK_OPEN);
        } else if (!notices->wanted && notices->events) {
                unwatch(notices);
                start(notices, TASK_CLOSE);
        } else if (notices->events && take_bool(&notices->read_due)) {
                start(notices, TASK_READ);
        }
}

int notices_new(struct notices **ret_notices, struct event_base *loop, struct worker *worker, const char *root,
                const struct notices_callbacks *callbacks) {
        struct notices *notices = calloc(1, sizeof(*notices));

        if (!notices)
                return -ENOMEM;
        notices->loop = loop;
        notices->worker = worker;
        notices->callbacks = *callbacks;
        notices->root = root;
        notices->retry = event_new(loop, -1, 0, on_retry, notices);
        if (!notices->retry) {
                free(notices);
                return -ENOMEM;
        }
        *ret_notices = notices;
        return 0;
}

void notices_free(struct notices *notices) {
        if (!notices)
                return;
        unwatch(notices);
        event_free(notices->retry);
        rm_events_free(notices->events);
        free(notices);
}

void notices_want(struct notices *notices, bool wanted) {
        if (wanted == notices->wanted)
                return;
        notices->wanted = wanted;
        notices->refused = false;
        advance(notices);
}

bool notices_is_settled(const struct notices *notices) {
        return notices->wanted && (notices->refused || notices->readable);
}

bool notices_are_refused(const struct notices *notices) {
        return notices->wanted && notices->refused;
}

bool notices_is_open(const struct notices *notices) {
        return notices->busy || notices->events;
}
