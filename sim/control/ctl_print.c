/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/control/ctl_print.h"

#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/text.h"

static bool is_set(json_t *object, const char *key) {
        return json_is_true(json_object_get(object, key));
}

static long long number(json_t *object, const char *key) {
        return json_integer_value(json_object_get(object, key));
}

static const char *text(json_t *object, const char *key) {
        const char *value = json_string_value(json_object_get(object, key));

        return value ? value : "-";
}

/* ---- status ---- */

static const char *state_of(json_t *gpu) {
        if (!is_set(gpu, "present"))
                return "absent";
        if (is_set(gpu, "unbinding"))
                return "unbinding";
        if (!is_set(gpu, "bound"))
                return "unbound";
        if (is_set(gpu, "initialising"))
                return "initialising";
        return is_set(gpu, "initialised") ? "initialised" : "cold";
}

static void print_minor(json_t *gpu) {
        json_t *minor = json_object_get(gpu, "minor");

        if (json_is_integer(minor))
                printf("%5lld  ", (long long)json_integer_value(minor));
        else
                printf("%5s  ", "-");
}

static void print_settings(json_t *gpu) {
        json_t *settings = json_object_get(gpu, "settings");
        char clocks[32];

        (void)text_format(clocks, sizeof(clocks), "%lld/%lld", number(settings, "graphics_clock_mhz"),
                          number(settings, "memory_clock_mhz"));
        printf("%5lld  %-9s  %-17s  ", number(settings, "power_limit_w"), clocks, text(settings, "compute_mode"));
}

static void print_handles(json_t *gpu) {
        json_t *handles = json_object_get(gpu, "handles"), *handle;
        size_t i;

        json_array_foreach(handles, i, handle) {
                const char *state = text(handle, "state");

                printf("%s%s(%lld)", i > 0 ? " " : "", text(handle, "comm"), number(handle, "pid"));
                if (!text_equal(text(handle, "node"), "gpu"))
                        printf(":%s", text(handle, "node"));
                if (!text_equal(state, "open"))
                        printf(":%s", state);
        }
        if (json_array_size(handles) == 0)
                putchar('-');
}

/* Prints the faults that verbs have injected into the GPU. */
static void print_faults(json_t *gpu) {
        static const char *const faults[] = {"excluded", "lost", "drain", "confidential"};
        json_t *fails = json_object_get(gpu, "fail_opens");

        for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
                if (is_set(gpu, faults[i]))
                        printf(" [%s]", faults[i]);
        if (json_is_string(json_object_get(gpu, "hang")))
                printf(" [hangs at %s]", text(gpu, "hang"));
        if (json_is_string(fails))
                printf(" [fails always]");
        else if (json_integer_value(fails) > 0)
                printf(" [fails %lld more]", (long long)json_integer_value(fails));
}

static void print_gpu(json_t *gpu) {
        printf("%3lld  %-13s", number(gpu, "index"), text(gpu, "address"));
        print_minor(gpu);
        printf("%-12s  %5lld  %5lld  %9lld  %-6s  ", state_of(gpu), number(gpu, "usage_count"),
               number(gpu, "initialisations"), number(gpu, "teardowns"), is_set(gpu, "legacy") ? "on" : "off");
        print_settings(gpu);
        print_handles(gpu);
        print_faults(gpu);
        putchar('\n');
}

void ctl_print_status(json_t *result) {
        json_t *gpus = json_object_get(result, "gpus"), *unknown = json_object_get(result, "unknown_ioctls"), *item;
        size_t i;

        printf("Simulated driver %s, %zu GPUs\n\n", text(result, "driver_version"), json_array_size(gpus));
        puts("GPU  ADDRESS       MINOR  STATE         USERS  INITS  TEARDOWNS  LEGACY  WATTS  MHZ        COMPUTE MODE "
             "      OPENED BY");
        json_array_foreach(gpus, i, item)
                print_gpu(item);
        json_array_foreach(unknown, i, item)
                printf("\nunknown ioctl 0x%llx on %s, %lld times\n", number(item, "command"), text(item, "node"),
                       number(item, "count"));
}

/* ---- journal ---- */

static void print_record(json_t *record) {
        double seconds = (double)number(record, "t_usec") / 1e6;

        printf("%6lld %10.6f  %-16s %-13s", number(record, "seq"), seconds, text(record, "event"), text(record, "gpu"));
        if (number(record, "pid") > 0)
                printf(" %s(%lld)", text(record, "comm"), number(record, "pid"));
        printf(" %s\n", text(record, "detail"));
}

void ctl_print_journal(json_t *result) {
        json_t *records = json_object_get(result, "records"), *record;
        size_t i;

        if (number(result, "dropped") > 0)
                printf("(%lld older records are gone)\n", number(result, "dropped"));
        json_array_foreach(records, i, record)
                print_record(record);
}

/* ---- the rest: a result for one GPU, or {"gpus": [...]} for `all` ---- */

static void for_each_gpu(json_t *result, void (*print)(json_t *gpu)) {
        json_t *gpus = json_object_get(result, "gpus"), *gpu;
        size_t i;

        if (!gpus)
                print(result);
        json_array_foreach(gpus, i, gpu)
                print(gpu);
}

static void print_message(json_t *gpu) {
        puts(text(gpu, "message"));
}

void ctl_print_message(json_t *result) {
        for_each_gpu(result, print_message);
}

static void print_set(json_t *gpu) {
        printf("GPU %s: set\n", text(gpu, "gpu"));
        if (!is_set(gpu, "kept"))
                fprintf(stderr,
                        "warning: GPU %s: persistence mode is off, so the setting was lost again when the last client "
                        "closed the GPU; hold it first\n",
                        text(gpu, "gpu"));
}

void ctl_print_set(json_t *result) {
        for_each_gpu(result, print_set);
}

static void print_done(json_t *gpu) {
        printf("GPU %s: done\n", text(gpu, "gpu"));
}

void ctl_print_done(json_t *result) {
        for_each_gpu(result, print_done);
}
