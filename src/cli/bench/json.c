/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/locations.h"
#include "cli/bench/bench.h"

#define NSEC_PER_MSEC 1e6

static json_t *msec_or_null(const struct statistics *statistics, double nsec) {
        return statistics->n > 0 ? json_real(nsec / NSEC_PER_MSEC) : json_null();
}

static json_t *series_json(const struct bench_series *series) {
        const struct statistics *statistics = &series->statistics;
        json_t *times = json_array();

        for (size_t i = 0; i < series->n; i++)
                (void)json_array_append_new(times, json_real((double)series->nsec[i] / NSEC_PER_MSEC));
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "median_ms",
                         msec_or_null(statistics, statistics->median), "min_ms",
                         msec_or_null(statistics, statistics->min), "max_ms", msec_or_null(statistics, statistics->max),
                         "mad_ms", msec_or_null(statistics, statistics->mad), "times_ms", times, "discarded",
                         (json_int_t)series->n_discarded, "discarded_reason",
                         series->n_discarded > 0 ? json_string(series->reason) : json_null());
}

static json_t *what_json(const struct bench_gpu *gpu, enum bench_what what) {
        double ratio;

        return json_pack("{s:o, s:o, s:o}", "cold", series_json(&gpu->series[what][BENCH_COLD]), "held",
                         series_json(&gpu->series[what][BENCH_HELD]), "ratio",
                         bench_ratio(gpu, what, &ratio) ? json_real(ratio) : json_null());
}

static json_t *gpu_json(const struct bench *bench, const struct bench_gpu *gpu) {
        const struct gpu_info *info = &gpu->gpu->info;

        return json_pack("{s:I, s:s, s:s, s:s, s:o, s:o}", "index", (json_int_t)gpu->gpu->index, "address",
                         gpu->gpu->address, "uuid", info->uuid, "name", info->model, "open", what_json(gpu, BENCH_OPEN),
                         "cuda", bench->library ? what_json(gpu, BENCH_CUDA) : json_null());
}

json_t *bench_json(const struct bench *bench) {
        const struct snapshot *snapshot = bench->yield.snapshot;
        json_t *gpus = json_array(), *notes = json_array();

        for (const char *const *note = bench_notes(bench); *note; note++)
                (void)json_array_append_new(notes, json_string(*note));
        for (size_t i = 0; i < bench->n_gpus; i++)
                (void)json_array_append_new(gpus, gpu_json(bench, &bench->gpus[i]));
        return json_pack("{s:s, s:b, s:s, s:s, s:I, s:b, s:o, s:o, s:o}", "schema", "holdfast.bench/1", "model",
                         bench->invocation->locations->simulated, "daemon", snapshot_daemon_word(snapshot),
                         "driver_version", snapshot->driver_version, "count", (json_int_t)bench->count, "held_only",
                         bench->held_only, "cuda_missing",
                         bench->library ? json_null() : json_string(bench->cuda_reason), "notes", notes, "gpus", gpus);
}
