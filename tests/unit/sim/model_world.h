#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A model for tests, whose GPUs take no time unless a test sets one. So a call that need not wait for another has all
 * its effects before it returns, and a test may assert at once that something has not happened. Tests wait, with a
 * limit, for records in the journal; they never sleep.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "sim/model/model.h"

struct world {
        struct scenario scenario;
        struct model *model;
        struct model_caller root, user; /* callers: this process and its parent */
};

/* Prepares n GPUs without delays. Change world->scenario before the start. */
void world_prepare(struct world *world, size_t n_gpus);
void world_start(struct world *world);
/* Stops and frees the model. For CLEANUP. */
void world_done(struct world *world);

/* Opens and expects success. */
struct model_file *world_open(struct world *world, unsigned minor);
struct model_file *world_open_nonblocking(struct world *world, unsigned minor);
/* Opens, closes the file if there is one, and returns 0 or negative errno. */
int world_try_open(struct world *world, unsigned minor, bool nonblock);

/*
 * Run a verb. The arguments are JSON in which ' stands for ". world_refused() expects an error with this text, the
 * others expect success.
 */
json_t *world_control(struct world *world, const char *verb, const char *arguments);
void world_do(struct world *world, const char *verb, const char *arguments);
void world_refused(struct world *world, const char *verb, const char *arguments, const char *text);

/* Returns the number of records of this event, for the GPU with this index or for any (-1). */
size_t world_count(struct world *world, const char *event, int index);
/* Waits until there are this many records. */
void world_await(struct world *world, const char *event, int index, size_t count);
/* Returns the time of the n-th record, counted from 0. */
uint64_t world_time_usec(struct world *world, const char *event, int index, size_t n);

struct model_gpu_view world_gpu(struct world *world, size_t index);
/* Returns a GPU's object in `status`. It is part of *status, which the caller releases. */
json_t *world_status(struct world *world, size_t index, json_t **status);

/* An open on its own thread. */
struct opener {
        struct world *world;
        unsigned minor;
        bool nonblock;
        pthread_t thread;
        int result;
        struct model_file *file;
};
void opener_start(struct opener *opener, struct world *world, unsigned minor);
/* Joins; returns the open's result. */
int opener_join(struct opener *opener);

struct commander {
        struct world *world;
        const char *verb, *arguments;
        pthread_t thread;
        struct model_wait wait;
        json_t *result;
        char error[256];
};
void commander_start(struct commander *commander, struct world *world, const char *verb, const char *arguments);
/* Joins; returns whether the verb succeeded. */
bool commander_join(struct commander *commander);
