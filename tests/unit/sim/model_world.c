/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/unit/sim/model_world.h"

#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"

void world_prepare(struct world *world, size_t n_gpus) {
        memset(world, 0, sizeof(*world));
        scenario_default(&world->scenario, n_gpus);
        for (size_t i = 0; i < n_gpus; i++) {
                struct scenario_gpu *gpu = &world->scenario.gpus[i];

                gpu->lock_usec = gpu->init_usec = gpu->teardown_usec = 0;
        }
        world->root = (struct model_caller){.pid = getpid()};
        world->user = (struct model_caller){.pid = getppid(), .uid = 1000};
}

void world_start(struct world *world) {
        assert_int_equal(model_new(&world->model, &world->scenario), 0);
}

void world_done(struct world *world) {
        if (world->model)
                model_free(world->model);
        world->model = NULL;
}

struct model_file *world_open(struct world *world, unsigned minor) {
        struct model_file *file = NULL;

        assert_int_equal(model_open(world->model, MODEL_NODE_GPU, minor, false, &world->root, NULL, &file), 0);
        return file;
}

struct model_file *world_open_nonblocking(struct world *world, unsigned minor) {
        struct model_file *file = NULL;

        assert_int_equal(model_open(world->model, MODEL_NODE_GPU, minor, true, &world->root, NULL, &file), 0);
        return file;
}

int world_try_open(struct world *world, unsigned minor, bool nonblock) {
        struct model_file *file = NULL;
        int result = model_open(world->model, MODEL_NODE_GPU, minor, nonblock, &world->root, NULL, &file);

        if (file)
                model_close(file);
        return result;
}

/* ---- control ---- */

static json_t *parse(const char *arguments) {
        char text[512];
        json_t *object;

        assert_true(text_copy(text, sizeof(text), arguments));
        for (char *quote = text; (quote = strchr(quote, '\''));)
                *quote = '"';
        object = json_loads(text, 0, NULL);
        assert_non_null(object);
        return object;
}

json_t *world_control(struct world *world, const char *verb, const char *arguments) {
        json_t *object = parse(arguments), *result;
        char error[256] = "";

        result = model_run_verb(world->model, verb, object, &world->root, NULL, error, sizeof(error));
        json_decref(object);
        if (!result)
                fail_msg("%s %s: %s", verb, arguments, error);
        return result;
}

void world_do(struct world *world, const char *verb, const char *arguments) {
        json_decref(world_control(world, verb, arguments));
}

void world_refused(struct world *world, const char *verb, const char *arguments, const char *text) {
        json_t *object = parse(arguments), *result;
        char error[256] = "";

        result = model_run_verb(world->model, verb, object, &world->root, NULL, error, sizeof(error));
        json_decref(object);
        assert_null(result);
        if (!strstr(error, text))
                fail_msg("%s %s was refused with '%s', expected '%s'", verb, arguments, error, text);
}

/* ---- the journal ---- */

static bool is_of(struct world *world, json_t *record, int index) {
        const char *address = json_string_value(json_object_get(record, "gpu"));
        char want[PCI_ADDRESS_SIZE];

        if (index < 0)
                return true;
        return address && text_equal(address, pci_address_format(&world->scenario.gpus[index].address, want));
}

/* Returns the n-th record, counted from 0, or NULL if there are fewer. *ret_count is their number. */
static json_t *find(struct world *world, json_t *journal, int index, size_t n, size_t *ret_count) {
        json_t *record, *found = NULL;
        size_t i, count = 0;

        json_array_foreach(json_object_get(journal, "records"), i, record) {
                if (!is_of(world, record, index))
                        continue;
                if (count++ == n)
                        found = record;
        }
        if (ret_count)
                *ret_count = count;
        return found;
}

size_t world_count(struct world *world, const char *event, int index) {
        char arguments[96];
        json_t *journal;
        size_t count;

        (void)text_format(arguments, sizeof(arguments), "{'event':'%s'}", event);
        journal = world_control(world, "journal", arguments);
        (void)find(world, journal, index, 0, &count);
        json_decref(journal);
        return count;
}

void world_await(struct world *world, const char *event, int index, size_t count) {
        json_int_t since = 0;
        size_t seen = 0;

        while (seen < count) {
                char arguments[128];
                json_t *journal;
                size_t more;

                (void)text_format(arguments, sizeof(arguments), "{'event':'%s','since':%lld,'timeout':'30s'}", event,
                                  (long long)since);
                journal = world_control(world, "journal", arguments);
                if (json_array_size(json_object_get(journal, "records")) == 0)
                        fail_msg("%zu records of '%s' in 30 s, expected %zu", seen, event, count);
                (void)find(world, journal, index, 0, &more);
                since = json_integer_value(json_object_get(journal, "last"));
                seen += more;
                json_decref(journal);
        }
}

uint64_t world_time_usec(struct world *world, const char *event, int index, size_t n) {
        char arguments[96];
        json_t *journal, *record;
        uint64_t usec;

        (void)text_format(arguments, sizeof(arguments), "{'event':'%s'}", event);
        journal = world_control(world, "journal", arguments);
        record = find(world, journal, index, n, NULL);
        assert_non_null(record);
        usec = (uint64_t)json_integer_value(json_object_get(record, "t_usec"));
        json_decref(journal);
        return usec;
}

/* ---- state ---- */

struct model_gpu_view world_gpu(struct world *world, size_t index) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n = model_list(world->model, views);

        for (size_t i = 0; i < n; i++)
                if (pci_address_compare(&views[i].spec.address, &world->scenario.gpus[index].address) == 0)
                        return views[i];
        fail_msg("GPU %zu is not listed", index);
        return views[0];
}

json_t *world_status(struct world *world, size_t index, json_t **status) {
        json_t *gpu;

        *status = world_control(world, "status", "{}");
        gpu = json_array_get(json_object_get(*status, "gpus"), index);
        assert_non_null(gpu);
        return gpu;
}

/* ---- threads ---- */

static void *opener_main(void *argument) {
        struct opener *opener = argument;

        opener->result = model_open(opener->world->model, MODEL_NODE_GPU, opener->minor, opener->nonblock,
                                    &opener->world->root, NULL, &opener->file);
        return NULL;
}

void opener_start(struct opener *opener, struct world *world, unsigned minor) {
        *opener = (struct opener){.world = world, .minor = minor};
        assert_int_equal(pthread_create(&opener->thread, NULL, opener_main, opener), 0);
}

int opener_join(struct opener *opener) {
        assert_int_equal(pthread_join(opener->thread, NULL), 0);
        return opener->result;
}

static void *commander_main(void *argument) {
        struct commander *commander = argument;
        json_t *arguments = parse(commander->arguments);

        commander->result = model_run_verb(commander->world->model, commander->verb, arguments, &commander->world->root,
                                           &commander->wait, commander->error, sizeof(commander->error));
        json_decref(arguments);
        return NULL;
}

void commander_start(struct commander *commander, struct world *world, const char *verb, const char *arguments) {
        *commander = (struct commander){.world = world, .verb = verb, .arguments = arguments};
        assert_int_equal(pthread_create(&commander->thread, NULL, commander_main, commander), 0);
}

bool commander_join(struct commander *commander) {
        bool ok;

        assert_int_equal(pthread_join(commander->thread, NULL), 0);
        ok = commander->result;
        json_decref(commander->result);
        return ok;
}
