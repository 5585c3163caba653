#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A model for tests: GPUs that take no time at all unless a test says otherwise. So what happens without anybody to
 * wait for happens within one call, and "it is not there yet" is a statement that cannot be early. Waits are for the
 * journal's records, with a limit; nothing sleeps for a while and hopes.
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
        struct model_caller root, user; /* two callers; this process and its parent */
};

/* n GPUs without any delay. Change world->scenario, then start. */
void world_prepare(struct world *world, size_t n_gpus);
void world_start(struct world *world);
/* Stops and frees; with CLEANUP. */
void world_done(struct world *world);

/* Opens and expects success. */
struct model_file *world_open(struct world *world, unsigned minor);
struct model_file *world_open_nonblocking(struct world *world, unsigned minor);
/* Opens, closes what it got, and returns the errno. */
int world_try_open(struct world *world, unsigned minor, bool nonblock);

/* A verb with arguments as JSON with ' for ". The first expects success; the second a sentence with this text. */
json_t *world_control(struct world *world, const char *verb, const char *arguments);
void world_do(struct world *world, const char *verb, const char *arguments);
void world_refused(struct world *world, const char *verb, const char *arguments, const char *text);

/* How many records of that event there are, of that GPU (by index) or of any (-1). */
size_t world_count(struct world *world, const char *event, int index);
/* Waits until there are so many. */
void world_await(struct world *world, const char *event, int index, size_t count);
/* The time of the n-th such record, counted from 0. */
uint64_t world_time_usec(struct world *world, const char *event, int index, size_t n);

struct model_gpu_view world_gpu(struct world *world, size_t index);
/* A member of a GPU in `status`: borrowed from *status, which the caller gives back. */
json_t *world_status(struct world *world, size_t index, json_t **status);

/* A call on a thread of its own. */
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
