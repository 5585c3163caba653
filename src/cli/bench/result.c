/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What all the writers of a result need: its names, ratios and range, and the sentences that go with it. */

#include "base/locations.h"
#include "base/text.h"
#include "cli/bench/bench.h"

const char *const bench_what_names[] = {[BENCH_OPEN] = "open", [BENCH_CUDA] = "cuda"};
const char *const bench_what_titles[] = {
        [BENCH_OPEN] = "open: first open() of the device node in a fresh process",
        [BENCH_CUDA] = "cuda: cuInit() and primary context in a fresh process",
};
const char *const bench_state_names[] = {[BENCH_COLD] = "cold", [BENCH_HELD] = "held"};

bool bench_ratio(const struct bench_gpu *gpu, enum bench_what what, double *ret_ratio) {
        const struct statistics *cold = &gpu->series[what][BENCH_COLD].statistics;
        const struct statistics *held = &gpu->series[what][BENCH_HELD].statistics;

        if (cold->n == 0 || held->n == 0 || held->median <= 0)
                return false;
        *ret_ratio = cold->median / held->median;
        return true;
}

bool bench_range(const struct bench *bench, enum bench_what what, uint64_t *ret_min_nsec, uint64_t *ret_max_nsec) {
        uint64_t min_nsec = UINT64_MAX, max_nsec = 0;

        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t state = 0; state < BENCH_STATES; state++) {
                        const struct bench_series *series = &bench->gpus[i].series[what][state];

                        for (size_t j = 0; j < series->n; j++) {
                                min_nsec = series->nsec[j] < min_nsec ? series->nsec[j] : min_nsec;
                                max_nsec = series->nsec[j] > max_nsec ? series->nsec[j] : max_nsec;
                        }
                }
        if (min_nsec == UINT64_MAX)
                return false;
        *ret_min_nsec = min_nsec;
        *ret_max_nsec = max_nsec;
        return true;
}

const char *bench_time(double nsec, char *buffer, size_t size) {
        bool is_seconds = nsec >= 999.5e6;
        double value = nsec / (is_seconds ? 1e9 : 1e6);
        int decimals = value < 0.0995 ? 4 : value < 0.995 ? 3 : value < 9.95 ? 2 : value < 99.5 ? 1 : 0;

        (void)text_format(buffer, size, "%.*f %s", nsec == 0 ? 0 : decimals, value, is_seconds ? "s" : "ms");
        return buffer;
}

const char *const *bench_notes(const struct bench *bench) {
        static const char *notes[4];
        size_t n = 0;

        if (bench->invocation->locations->simulated)
                notes[n++] = "The times are the simulated driver's model, not measured on a GPU.";
        notes[n++] = "Compare these times only with each other, on this node: they depend on driver, firmware, GPU, "
                     "clocks and load.";
        if (bench->yield.snapshot->daemon == DAEMON_NONE)
                notes[n++] = "No daemon runs: \"held\" means that a process of this command has the GPU open.";
        notes[n] = NULL;
        return notes;
}
