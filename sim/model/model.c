/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/pids.h"
#include "base/text.h"
#include "base/thread.h"
#include "sim/model/private.h"

/* ---- the monitor ---- */

struct model *model_lock(struct model *model) {
        (void)pthread_mutex_lock(&model->mutex);
        return model;
}

void model_unlock(struct model *model) {
        (void)pthread_mutex_unlock(&model->mutex);
}

void model_unlock_done(struct model **model) {
        model_unlock(*model);
}

void model_changed(struct model *model) {
        (void)pthread_cond_broadcast(&model->changed);
}

void model_sleep(struct model *model) {
        (void)pthread_cond_wait(&model->changed, &model->mutex);
}

static void sleep_until(struct model *model, pthread_cond_t *condition, uint64_t until_usec) {
        struct timespec until = clock_timespec(until_usec);

        (void)pthread_cond_timedwait(condition, &model->mutex, &until);
}

void model_sleep_until(struct model *model, uint64_t until_usec) {
        sleep_until(model, &model->changed, until_usec);
}

int model_spend(struct model *model, uint64_t duration_usec) {
        uint64_t until_usec = clock_monotonic_usec() + duration_usec;

        while (!model->stopping && clock_monotonic_usec() < until_usec)
                sleep_until(model, &model->stopped, until_usec);
        return model->stopping ? -ESHUTDOWN : 0;
}

/*
 * The wait for a turnstile cannot be interrupted, like that for the semaphore it models. model_stop() still works: the
 * thread inside sleeps in model_spend() or on a hang, and both end then.
 */
void turnstile_enter(struct model *model, struct turnstile *turnstile) {
        turnstile_wait(model, turnstile, turnstile_queue(turnstile));
}

uint64_t turnstile_queue(struct turnstile *turnstile) {
        return turnstile->next_ticket++;
}

void turnstile_wait(struct model *model, struct turnstile *turnstile, uint64_t ticket) {
        while (turnstile->serving != ticket)
                (void)pthread_cond_wait(&turnstile->turned, &model->mutex);
}

bool turnstile_try(struct turnstile *turnstile) {
        if (turnstile->next_ticket != turnstile->serving)
                return false;
        turnstile->next_ticket++;
        return true;
}

void turnstile_leave(struct turnstile *turnstile) {
        turnstile->serving++;
        (void)pthread_cond_broadcast(&turnstile->turned);
}

/* ---- threads ---- */

static void *thread_main(void *argument) {
        struct model_thread *thread = argument;
        struct model *model = thread->model;

        MODEL_LOCKED(model);
        thread->run(model, thread->argument);
        thread->done = true;
        return NULL;
}

/* A finished thread only has to release the mutex and end, so joining it does not take long. */
static void reap_threads(struct model *model) {
        struct model_thread *next;

        for (struct model_thread *thread = LIST_FIRST(&model->threads); thread; thread = next) {
                next = LIST_NEXT(thread, link);
                if (!thread->done)
                        continue;
                LIST_REMOVE(thread, link);
                (void)pthread_join(thread->id, NULL);
                free(thread);
        }
}

int model_spawn(struct model *model, void (*run)(struct model *model, void *argument), void *argument) {
        enum { STACK_SIZE = 256 * 1024 }; /* small, since there may be hundreds; sanitizers need this much */
        CLEANUP(free_ptr) struct model_thread *thread = calloc(1, sizeof(*thread));
        const struct thread_options options = {.stack_size = STACK_SIZE};
        int r;

        if (!thread)
                return -ENOMEM;
        reap_threads(model);
        *thread = (struct model_thread){.model = model, .run = run, .argument = argument};
        r = thread_start(&thread->id, &options, thread_main, thread);
        if (r < 0)
                return r;
        LIST_INSERT_HEAD(&model->threads, thread, link);
        (void)take_ptr(thread);
        return 0;
}

/* ---- timed events ---- */

static void fire_event(struct model *model, void *argument) {
        const struct scenario_event *event = argument;
        const struct model_caller caller = {.pid = getpid()};
        json_t *arguments = json_loads(event->arguments, 0, NULL);
        char error[512];

        model_unlock(model);
        /* The verb records a failure in the journal. */
        json_decref(model_run_verb(model, event->verb, arguments, &caller, NULL, error, sizeof(error)));
        json_decref(arguments);
        (void)model_lock(model);
}

static const struct scenario_event *next_event(const struct model *model, const bool fired[]) {
        const struct scenario_event *first = NULL;

        for (size_t i = 0; i < model->scenario.n_events; i++)
                if (!fired[i] && (!first || model->scenario.events[i].at_usec < first->at_usec))
                        first = &model->scenario.events[i];
        return first;
}

/* Each event has its own thread, because its verb may sleep forever. */
static void run_events(struct model *model, void *argument) {
        bool fired[ARRAY_SIZE(model->scenario.events)] = {false};
        const struct scenario_event *event;

        while ((event = next_event(model, fired))) {
                uint64_t at_usec = model->started_usec + event->at_usec, now_usec = clock_monotonic_usec();

                if (at_usec > now_usec && model_spend(model, at_usec - now_usec) < 0)
                        return;
                fired[event - model->scenario.events] = true;
                if (model->stopping)
                        return;
                if (model_spawn(model, fire_event, (void *)event) < 0)
                        journal_add(model, NULL, NULL, "control-failed", "%s: no thread to run it", event->verb);
        }
}

/* ---- life ---- */

static int init_monitor(struct model *model) {
        pthread_condattr_t attributes;
        int result = pthread_condattr_init(&attributes);

        if (result != 0)
                return -result;
        (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        result = pthread_cond_init(&model->changed, &attributes);
        if (result == 0)
                result = pthread_cond_init(&model->stopped, &attributes);
        (void)pthread_condattr_destroy(&attributes);
        if (result != 0)
                return -result;
        (void)pthread_mutex_init(&model->mutex, NULL);
        (void)pthread_mutex_init(&model->listen_mutex, NULL);
        model->open_lock = model->device_list = model->api_lock = model->uvm_lock = (struct turnstile)TURNSTILE_INIT;
        return 0;
}

static void start_gpus(struct model *model) {
        model->n_gpus = model->scenario.n_gpus;
        for (size_t i = 0; i < model->n_gpus; i++)
                model->gpus[i] = (struct model_gpu){
                        .spec = model->scenario.gpus[i],
                        .lock = TURNSTILE_INIT,
                        .minor = MODEL_MINOR_NONE,
                        .settings = gpu_default_settings,
                };
        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].spec.present)
                        gpu_probe(model, &model->gpus[i]);
}

int model_new(struct model **ret_model, const struct scenario *scenario) {
        struct model *model = calloc(1, sizeof(*model));
        int result;

        if (!model)
                return -ENOMEM;
        result = init_monitor(model);
        if (result < 0) {
                free(model);
                return result;
        }
        model->scenario = *scenario;
        model->started_usec = clock_monotonic_usec();
        result = journal_new(&model->journal);
        if (result == 0) {
                MODEL_LOCKED(model);
                start_gpus(model);
                if (scenario->n_events > 0)
                        result = model_spawn(model, run_events, NULL);
        }
        if (result < 0) {
                model_free(model);
                return result;
        }
        *ret_model = model;
        return 0;
}

void model_stop(struct model *model) {
        MODEL_LOCKED(model);

        model->stopping = true;
        model_changed(model);
        (void)pthread_cond_broadcast(&model->stopped);
}

static void join_threads(struct model *model) {
        struct model_thread *thread;

        for (;;) {
                {
                        MODEL_LOCKED(model);
                        thread = LIST_FIRST(&model->threads);
                        if (thread)
                                LIST_REMOVE(thread, link);
                }
                if (!thread)
                        return;
                (void)pthread_join(thread->id, NULL);
                free(thread);
        }
}

static void free_files(struct model *model) {
        while (!LIST_EMPTY(&model->files)) {
                struct model_file *file = LIST_FIRST(&model->files);

                LIST_REMOVE(file, link);
                while (!LIST_EMPTY(&file->references)) {
                        struct reference *reference = LIST_FIRST(&file->references);

                        LIST_REMOVE(reference, link);
                        free(reference);
                }
                free(file);
        }
}

void model_free(struct model *model) {
        model_stop(model);
        join_threads(model);
        free_files(model);
        journal_free(model->journal);
        (void)pthread_cond_destroy(&model->changed);
        (void)pthread_cond_destroy(&model->stopped);
        (void)pthread_mutex_destroy(&model->mutex);
        (void)pthread_mutex_destroy(&model->listen_mutex);
        free(model);
}

void model_interrupt(struct model *model, struct model_wait *wait) {
        MODEL_LOCKED(model);

        wait->interrupted = true;
        model_changed(model);
}

/* ---- queries ---- */

struct who who_is(const struct model_caller *caller) {
        struct who who = {.pid = caller->pid};
        char comm[64];

        if (pids_read(caller->pid, "comm", comm, sizeof(comm)) <= 0)
                (void)text_copy(comm, sizeof(comm), "?");
        comm[strcspn(comm, "\n")] = '\0';
        (void)text_copy(who.comm, sizeof(who.comm), comm);
        return who;
}

const struct scenario *model_scenario(const struct model *model) {
        return &model->scenario;
}

void model_set_process_check(struct model *model, model_process_check check, void *user) {
        model->process_check = check;
        model->process_check_user = user;
}

int model_set_sys_params(struct model *model, uint64_t memblock_size) {
        MODEL_LOCKED(model);

        if (model->memblock_size == 0)
                model->memblock_size = memblock_size;
        return model->memblock_size == memblock_size ? 0 : -EBUSY;
}
