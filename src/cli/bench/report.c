/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What holdfast bench prints: a table with notes and a plot, or JSON. */

#include "base/cleanup.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/bench/bench.h"

#define NSEC_PER_MSEC 1e6

const char *const bench_what_names[] = {[BENCH_OPEN] = "open", [BENCH_CUDA] = "cuda"};
const char *const bench_state_names[] = {[BENCH_COLD] = "cold", [BENCH_HELD] = "held"};

static const char *const what_titles[] = {
        [BENCH_OPEN] = "open: first open() of the device node in a fresh process",
        [BENCH_CUDA] = "cuda: cuInit() and primary context in a fresh process",
};

/* Whether there is a median in both states, and then how many times longer the cold one is. */
static bool find_ratio(const struct bench_gpu *gpu, enum bench_what what, double *ret_ratio) {
        const struct statistics *cold = &gpu->series[what][BENCH_COLD].statistics;
        const struct statistics *held = &gpu->series[what][BENCH_HELD].statistics;

        if (cold->n == 0 || held->n == 0 || held->median <= 0)
                return false;
        *ret_ratio = cold->median / held->median;
        return true;
}

/* How far the times can be trusted, in sentences; NULL ends them. */
static const char *const *find_notes(const struct bench *bench) {
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

/* ---- text ------------------------------------------------------------------------------------------------------- */

static const struct table_column columns[] = {
        {.title = "GPU", .right = true},
        {.title = "Time"},
        {.title = "State"},
        {.title = "Median", .right = true},
        {.title = "Min", .right = true},
        {.title = "Max", .right = true},
        {.title = "MAD", .right = true},
        {.title = "Taken", .right = true},
        {.title = "Cold/held", .right = true},
};

/* "1.51 s", "12.3 ms", "0.087 ms": three figures. */
static void cell_time(struct table *table, const struct statistics *statistics, double nsec) {
        bool is_seconds = nsec >= 999.5e6;
        double value = nsec / (is_seconds ? 1e9 : NSEC_PER_MSEC);
        int decimals = value < 0.0995 ? 4 : value < 0.995 ? 3 : value < 9.95 ? 2 : value < 99.5 ? 1 : 0;

        if (statistics->n > 0)
                table_cell(table, COLOUR_NONE, "%.*f %s", nsec == 0 ? 0 : decimals, value, is_seconds ? "s" : "ms");
        else
                table_cell(table, COLOUR_NONE, "-");
}

/* Fills the cell only in the row of the held state. */
static void cell_ratio(struct table *table, const struct bench_gpu *gpu, enum bench_what what, enum bench_state state) {
        double ratio;

        if (state == BENCH_HELD && find_ratio(gpu, what, &ratio))
                table_cell(table, COLOUR_BOLD, ratio < 100 ? "%.1f" : "%.0f", ratio);
        else
                table_cell(table, COLOUR_NONE, " ");
}

static void add_row(struct table *table, const struct bench_gpu *gpu, enum bench_what what, enum bench_state state) {
        const struct bench_series *series = &gpu->series[what][state];
        const struct statistics *statistics = &series->statistics;

        table_row(table);
        table_cell(table, COLOUR_NONE, "%zu", gpu->gpu->index);
        table_cell(table, COLOUR_NONE, "%s", bench_what_names[what]);
        table_cell(table, COLOUR_NONE, "%s", bench_state_names[state]);
        cell_time(table, statistics, statistics->median);
        cell_time(table, statistics, statistics->min);
        cell_time(table, statistics, statistics->max);
        cell_time(table, statistics, statistics->mad);
        table_cell(table, series->n_discarded > 0 ? COLOUR_WARNING : COLOUR_NONE, "%zu", series->n);
        cell_ratio(table, gpu, what, state);
}

static bool is_shown(const struct bench *bench, enum bench_what what, enum bench_state state) {
        return (what != BENCH_CUDA || bench->library) && (state != BENCH_COLD || !bench->held_only);
}

static void add_rows(struct table *table, const struct bench *bench) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t what = 0; what < BENCH_WHATS; what++)
                        for (size_t state = 0; state < BENCH_STATES; state++)
                                if (is_shown(bench, what, state))
                                        add_row(table, &bench->gpus[i], what, state);
}

static void print_discarded(const struct bench *bench, const struct report_style *style, FILE *stream) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t j = 0; j < BENCH_WHATS * BENCH_STATES; j++) {
                        const struct bench_series *series = &bench->gpus[i].series[j / BENCH_STATES][j % BENCH_STATES];
                        char text[512];

                        if (series->n_discarded == 0)
                                continue;
                        text_set(text, "%s: %zu measurement%s of %s %s discarded: %s", bench->gpus[i].gpu->label,
                                 series->n_discarded, text_plural(series->n_discarded),
                                 bench_state_names[j % BENCH_STATES], bench_what_names[j / BENCH_STATES],
                                 series->reason);
                        text_wrap(stream, text, 0, 2, style->width);
                }
}

static void print_notes(const struct bench *bench, const struct report_style *style, FILE *stream) {
        for (const char *const *note = find_notes(bench); *note; note++)
                text_wrap(stream, *note, 0, 0, style->width);
        for (size_t what = 0; what < BENCH_WHATS; what++)
                if (what != BENCH_CUDA || bench->library)
                        text_wrap(stream, what_titles[what], 0, 2, style->width);
        if (!bench->library) {
                (void)fputs("cuda: ", stream);
                text_wrap(stream, bench->cuda_reason, 6, 2, style->width);
        }
        text_wrap(stream, "MAD: median absolute deviation; half of the times are within this distance of the median", 0,
                  2, style->width);
}

int bench_print_text(const struct bench *bench, const struct report_style *style, FILE *stream) {
        CLEANUP(table_done) struct table table = {.columns = columns, .n_columns = ARRAY_SIZE(columns)};
        int r;

        add_rows(&table, bench);
        r = table_print(&table, stream, style->width, style->colours);
        if (r < 0)
                return r;
        (void)fputc('\n', stream);
        print_discarded(bench, style, stream);
        print_notes(bench, style, stream);
        bench_print_plot(bench, style, stream);
        return 0;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

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
                         find_ratio(gpu, what, &ratio) ? json_real(ratio) : json_null());
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

        for (const char *const *note = find_notes(bench); *note; note++)
                (void)json_array_append_new(notes, json_string(*note));
        for (size_t i = 0; i < bench->n_gpus; i++)
                (void)json_array_append_new(gpus, gpu_json(bench, &bench->gpus[i]));
        return json_pack("{s:s, s:b, s:s, s:s, s:I, s:b, s:o, s:o, s:o}", "schema", "holdfast.bench/1", "model",
                         bench->invocation->locations->simulated, "daemon", snapshot_daemon_word(snapshot),
                         "driver_version", snapshot->driver_version, "count", (json_int_t)bench->count, "held_only",
                         bench->held_only, "cuda_missing",
                         bench->library ? json_null() : json_string(bench->cuda_reason), "notes", notes, "gpus", gpus);
}
