/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/notices.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/text.h"
#include "daemon/gpus/kernel_messages.h"
#include "daemon/gpus/worker.h"

enum {
        EVENTS_PER_READ = 32,
        /* As many GPUs as List has: each is unbound once. */
        UNBINDS_PER_MINUTE = 256,
};

enum task {
        TASK_OPEN,
        TASK_READ,
        TASK_CLOSE,
};

struct notices {
        struct notices_config config;
        struct rm_events *events; /* NULL: not subscribed */
        struct event *readable;
        struct event *retry; /* of a job that could not be started */
        bool wanted;
        bool refused;   /* the last try failed: not again before it is wanted anew */
        bool read_due;  /* there may be something to read */
        bool busy;      /* a job is on a worker thread, and uses events */
        int told_error; /* the last refusal that was logged: every retry of a GPU that fails tries this anew */

        struct kernel_messages *messages; /* NULL: the kernel log cannot be read */
        struct ratelimit messages_limit;
        bool messages_told; /* whether unbinds are heard of without the driver's notices */
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
        const struct gpu_ops *ops = notices->config.ops;

        switch (job->task) {
        case TASK_OPEN:
                job->result = ops->subscribe(notices->config.context, &notices->events, &job->failure);
                break;
        case TASK_READ:
                job->result =
                        ops->read_events(notices->events, job->events, EVENTS_PER_READ, &job->n_events, &job->failure);
                break;
        case TASK_CLOSE:
                ops->unsubscribe(notices->events);
                notices->events = NULL;
                break;
        }
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct notices *notices = userdata;

        notices->read_due = true;
        advance(notices);
}

/* Unbinds are then heard of from the kernel log, or not at all; everything else is as ever. */
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
        notices->readable = event_new(notices->config.loop, notices->config.ops->events_fd(notices->events),
                                      EV_READ | EV_PERSIST, on_readable, notices);
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
                notices->config.on_event(&job->events[i], notices->config.userdata);
}

/* ---- without notices: the kernel log ---- */

/* A driver waits once for each unbind; whatever else would say so is not to keep us busy. */
static void on_log_unbind(const struct pci_address *address, void *userdata) {
        struct notices *notices = userdata;

        if (ratelimit_pass(&notices->messages_limit))
                notices->config.on_log_unbind(address, notices->config.userdata);
}

/* Drivers before 575.51.02 post no notices, but say in the kernel log that they wait. */
static void listen_to_log(struct notices *notices) {
        bool wanted = notices->wanted && notices->refused;

        if (notices->messages)
                kernel_messages_want(notices->messages, wanted);
        if (!wanted || notices->messages_told)
                return;
        notices->messages_told = true;
        if (notices->messages)
                log_write(LOG_INFO, "listening to the kernel log for unbinds");
        else
                log_write(LOG_INFO, "the kernel log cannot be read either: release a GPU before you unbind it "
                                    "(holdfast release)");
}

int notices_take_log(struct notices *notices, int log_fd) {
        const struct kernel_messages_callbacks callbacks = {.on_unbind = on_log_unbind, .userdata = notices};

        return kernel_messages_new(&notices->messages, notices->config.loop, log_fd, &callbacks);
}

/* ---- jobs ---- */

static void job_done(struct worker_job *worker_job) {
        CLEANUP(free_ptr) struct notices_job *job = container_of(worker_job, struct notices_job, job);
        struct notices *notices = job->notices;

        notices->busy = false;
        if (job->task == TASK_OPEN)
                end_open(notices, job);
        else if (job->task == TASK_READ)
                end_read(notices, job);
        if (job->task != TASK_READ) {
                listen_to_log(notices);
                notices->config.on_change(notices->config.userdata);
        }
        advance(notices);
}

static bool try_start(struct notices *notices, enum task task) {
        struct notices_job *job = calloc(1, sizeof(*job));

        if (!job)
                return false;
        *job = (struct notices_job){.job = {.run = job_run, .done = job_done}, .notices = notices, .task = task};
        notices->busy = worker_start(notices->config.worker, &job->job) == 0;
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

int notices_new(struct notices **ret_notices, const struct notices_config *config) {
        struct notices *notices = calloc(1, sizeof(*notices));

        if (!notices)
                return -ENOMEM;
        notices->config = *config;
        notices->messages_limit = (struct ratelimit)RATELIMIT(UNBINDS_PER_MINUTE, 60);
        notices->retry = event_new(config->loop, -1, 0, on_retry, notices);
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
        kernel_messages_free(notices->messages);
        if (notices->events)
                notices->config.ops->unsubscribe(notices->events);
        free(notices);
}

void notices_want(struct notices *notices, bool wanted) {
        if (wanted == notices->wanted || !notices->config.ops->subscribe)
                return;
        notices->wanted = wanted;
        notices->refused = false;
        advance(notices);
}

bool notices_is_settled(const struct notices *notices) {
        return !notices->config.ops->subscribe || (notices->wanted && (notices->refused || notices->readable));
}

bool notices_is_open(const struct notices *notices) {
        return notices->busy || notices->events;
}
