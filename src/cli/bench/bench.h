#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The inside of `holdfast bench`:
 *
 *      bench.c           options; which GPUs; may it be done
 *      measure.c         cold and held, again and again
 *      sample.[ch]       one measurement, in a new process
 *      statistics.[ch]   the figures
 *      report.c, plot.c  what is printed
 */

#include "cli/bench/statistics.h"
#include "cli/change/yield.h"
#include "cli/report/report.h"

enum bench_what {
        BENCH_OPEN, /* open() of the device node */
        BENCH_CUDA, /* cuInit() and cuDevicePrimaryCtxRetain() */
        BENCH_WHATS,
};

enum bench_state {
        BENCH_COLD,
        BENCH_HELD,
        BENCH_STATES,
};

/* Times of one kind, of one GPU, in one state. */
struct bench_series {
        uint64_t *nsec; /* room for all */
        size_t n;
        size_t n_discarded; /* not taken: the GPU was in another state, or the call failed */
        char reason[256];   /* of the last of these */
        struct statistics statistics;
};

struct bench_gpu {
        struct snapshot_gpu *gpu;
        struct bench_series series[BENCH_WHATS][BENCH_STATES];
};

struct bench {
        const struct invocation *invocation;
        struct yield yield;
        size_t count; /* of each kind of time */
        size_t turn;  /* the current one, from 0 */
        bool held_only;
        const char *library; /* libcuda; NULL: no CUDA times, and cuda_reason says why */
        char cuda_reason[256];
        int signal_fd; /* readable when a signal wants us to stop */
        struct bench_gpu *gpus;
        size_t n_gpus;
};

/* "open", "cuda"; "cold", "held": in JSON and in text. */
extern const char *const bench_what_names[BENCH_WHATS];
extern const char *const bench_state_names[BENCH_STATES];

/*
 * Measures. Returns an exit status. Also after an error, the series have what was measured, and all GPUs are held
 * again, unless a message names those that are not.
 */
int bench_measure(struct bench *bench);

int bench_print_text(const struct bench *bench, const struct report_style *style, FILE *stream);
void bench_print_plot(const struct bench *bench, const struct report_style *style, FILE *stream);
json_t *bench_json(const struct bench *bench);
