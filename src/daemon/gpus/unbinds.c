/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/unbinds.h"

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
        /* List has at most this many GPUs, and each is unbound once. */
        UNBINDS_PER_MINUTE = 256,
};

enum task {
        TASK_OPEN,
        TASK_READ,
        TASK_CLOSE,
};

struct unbinds {
        struct unbinds_config config;
        struct rm_events *events; /* NULL: not subscribed */
        struct event *readable;
        struct event *retry; /* for a job that could not be started */
        bool wanted;
        bool refused;   /* the last attempt failed: no other one until it is wanted again */
        bool read_due;  /* there may be something to read */
        bool busy;      /* a job is on a worker thread, and may use events */
        int told_error; /* the last error that was logged: every retry of a failing GPU subscribes again */

        struct kernel_messages *messages; /* NULL: the kernel log cannot be read */
        struct ratelimit messages_limit;
        bool messages_told; /* it was logged how unbinds are detected without notices */
};

struct unbinds_job {
        struct worker_job job;
        struct unbinds *unbinds;
        enum task task;
        int result;
        struct rm_event events[EVENTS_PER_READ];
        size_t n_events;
        struct gpu_failure failure;
};

static void advance(struct unbinds *unbinds);

static void job_run(struct worker_job *worker_job) {
        struct unbinds_job *job = container_of(worker_job, struct unbinds_job, job);
        struct unbinds *unbinds = job->unbinds;
        const struct gpu_ops *ops = unbinds->config.ops;

        switch (job->task) {
        case TASK_OPEN:
                job->result = ops->subscribe(unbinds->config.context, &unbinds->events, &job->failure);
                break;
        case TASK_READ:
                job->result =
                        ops->read_events(unbinds->events, job->events, EVENTS_PER_READ, &job->n_events, &job->failure);
                break;
        case TASK_CLOSE:
                ops->unsubscribe(unbinds->events);
                unbinds->events = NULL;
                break;
        }
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct unbinds *unbinds = userdata;

        unbinds->read_due = true;
        advance(unbinds);
}

/* Unbinds are then detected in the kernel log, or not at all. Everything else works as usual. */
static void log_refusal(int error, const struct gpu_failure *failure) {
        bool expected = error == -EOPNOTSUPP || error == -ENOENT || error == -ENXIO || error == -ENODEV;

        log_write(expected ? LOG_INFO : LOG_WARNING, "the driver will not announce unbinds: %s", failure->text);
}

static void end_open(struct unbinds *unbinds, const struct unbinds_job *job) {
        unbinds->refused = job->result < 0;
        if (job->result < 0 && job->result != unbinds->told_error)
                log_refusal(job->result, &job->failure);
        unbinds->told_error = job->result;
        if (job->result < 0)
                return;
        /* Watched permanently, and read once without a wake-up: see rm_events_fd() in gpu/rm.h. */
        unbinds->readable = event_new(unbinds->config.loop, unbinds->config.ops->events_fd(unbinds->events),
                                      EV_READ | EV_PERSIST, on_readable, unbinds);
        if (unbinds->readable)
                (void)event_add(unbinds->readable, NULL);
        unbinds->read_due = true;
}

static void end_read(struct unbinds *unbinds, const struct unbinds_job *job) {
        if (job->result < 0) { /* the driver is being unloaded: end the subscription */
                log_write(LOG_DEBUG, "no more notices from the driver: %s", job->failure.text);
                unbinds->wanted = false;
                return;
        }
        unbinds->read_due |= job->result == RM_EVENTS_MORE;
        for (size_t i = 0; i < job->n_events; i++)
                unbinds->config.on_event(&job->events[i], unbinds->config.userdata);
}

/* ---- without notices: the kernel log ---- */

/* The driver logs this once for each unbind. The limit is in case something else logs it more often. */
static void on_log_unbind(const struct pci_address *address, void *userdata) {
        struct unbinds *unbinds = userdata;

        if (ratelimit_pass(&unbinds->messages_limit))
                unbinds->config.on_log_unbind(address, unbinds->config.userdata);
}

/* Drivers before 575.51.02 post no notices, but write to the kernel log when they wait. */
static void listen_to_log(struct unbinds *unbinds) {
        bool wanted = unbinds->wanted && unbinds->refused;

        if (unbinds->messages)
                kernel_messages_want(unbinds->messages, wanted);
        if (!wanted || unbinds->messages_told)
                return;
        unbinds->messages_told = true;
        if (unbinds->messages)
                log_write(LOG_INFO, "listening to the kernel log for unbinds");
        else
                log_write(LOG_INFO, "the kernel log cannot be read either: release a GPU before you unbind it "
                                    "(holdfast release)");
}

int unbinds_take_log(struct unbinds *unbinds, int log_fd) {
        const struct kernel_messages_callbacks callbacks = {.on_unbind = on_log_unbind, .userdata = unbinds};

        return kernel_messages_new(&unbinds->messages, unbinds->config.loop, log_fd, &callbacks);
}

/* ---- jobs ---- */

static void job_done(struct worker_job *worker_job) {
        CLEANUP(free_ptr) struct unbinds_job *job = container_of(worker_job, struct unbinds_job, job);
        struct unbinds *unbinds = job->unbinds;

        unbinds->busy = false;
        if (job->task == TASK_OPEN)
                end_open(unbinds, job);
        else if (job->task == TASK_READ)
                end_read(unbinds, job);
        if (job->task != TASK_READ) {
                listen_to_log(unbinds);
                unbinds->config.on_change(unbinds->config.userdata);
        }
        advance(unbinds);
}

static bool try_start(struct unbinds *unbinds, enum task task) {
        struct unbinds_job *job = calloc(1, sizeof(*job));

        if (!job)
                return false;
        *job = (struct unbinds_job){.job = {.run = job_run, .done = job_done}, .unbinds = unbinds, .task = task};
        unbinds->busy = worker_start(unbinds->config.worker, &job->job) == 0;
        if (!unbinds->busy)
                free(job);
        return unbinds->busy;
}

/*
 * If there is no memory or no thread, tries again later: leases wait for the end of the subscription, opens for its
 * begin.
 */
static void start(struct unbinds *unbinds, enum task task) {
        static const struct timeval pause = {.tv_sec = 1};

        if (try_start(unbinds, task))
                return;
        unbinds->read_due |= task == TASK_READ;
        (void)event_add(unbinds->retry, &pause);
}

static void on_retry(evutil_socket_t fd, short what, void *userdata) {
        advance(userdata);
}

static void unwatch(struct unbinds *unbinds) {
        if (unbinds->readable)
                event_free(unbinds->readable);
        unbinds->readable = NULL;
}

static void advance(struct unbinds *unbinds) {
        if (unbinds->busy)
                return;
        if (unbinds->wanted && !unbinds->events && !unbinds->refused) {
                start(unbinds, TASK_OPEN);
        } else if (!unbinds->wanted && unbinds->events) {
                unwatch(unbinds);
                start(unbinds, TASK_CLOSE);
        } else if (unbinds->events && take_bool(&unbinds->read_due)) {
                start(unbinds, TASK_READ);
        }
}

int unbinds_new(struct unbinds **ret_unbinds, const struct unbinds_config *config) {
        struct unbinds *unbinds = calloc(1, sizeof(*unbinds));

        if (!unbinds)
                return -ENOMEM;
        unbinds->config = *config;
        unbinds->messages_limit = (struct ratelimit)RATELIMIT(UNBINDS_PER_MINUTE, 60);
        unbinds->retry = event_new(config->loop, -1, 0, on_retry, unbinds);
        if (!unbinds->retry) {
                free(unbinds);
                return -ENOMEM;
        }
        *ret_unbinds = unbinds;
        return 0;
}

void unbinds_free(struct unbinds *unbinds) {
        if (!unbinds)
                return;
        unwatch(unbinds);
        event_free(unbinds->retry);
        kernel_messages_free(unbinds->messages);
        if (unbinds->events)
                unbinds->config.ops->unsubscribe(unbinds->events);
        free(unbinds);
}

void unbinds_want(struct unbinds *unbinds, bool wanted) {
        if (wanted == unbinds->wanted || !unbinds->config.ops->subscribe)
                return;
        unbinds->wanted = wanted;
        unbinds->refused = false;
        advance(unbinds);
}

bool unbinds_is_settled(const struct unbinds *unbinds) {
        return !unbinds->config.ops->subscribe || (unbinds->wanted && (unbinds->refused || unbinds->readable));
}

bool unbinds_is_open(const struct unbinds *unbinds) {
        return unbinds->busy || unbinds->events;
}
