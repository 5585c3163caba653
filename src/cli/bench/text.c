/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/text.h"
#include "base/cleanup.h"
#include "base/wrap.h"
#include "cli/bench/bench.h"

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

static void cell_time(struct table *table, const struct statistics *statistics, double nsec) {
        char text[32];

        table_cell(table, COLOUR_NONE, "%s", statistics->n > 0 ? bench_time(nsec, text, sizeof(text)) : "-");
}

/* Beside the last row of the two. */
static void cell_ratio(struct table *table, const struct bench_gpu *gpu, enum bench_what what, enum bench_state state) {
        double ratio;

        if (state == BENCH_HELD && bench_ratio(gpu, what, &ratio))
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
                        text_set(text, "%s: %zu time%s of %s %s not taken: %s", bench->gpus[i].gpu->label,
                                 series->n_discarded, text_plural(series->n_discarded),
                                 bench_state_names[j % BENCH_STATES], bench_what_names[j / BENCH_STATES],
                                 series->reason);
                        wrap_print(stream, text, 0, 2, style->width);
                }
}

static void print_notes(const struct bench *bench, const struct report_style *style, FILE *stream) {
        for (const char *const *note = bench_notes(bench); *note; note++)
                wrap_print(stream, *note, 0, 0, style->width);
        for (size_t what = 0; what < BENCH_WHATS; what++)
                if (what != BENCH_CUDA || bench->library)
                        wrap_print(stream, bench_what_titles[what], 0, 2, style->width);
        if (!bench->library) {
                (void)fputs("cuda: ", stream);
                wrap_print(stream, bench->cuda_reason, 6, 2, style->width);
        }
        wrap_print(stream, "MAD: median absolute deviation; half of the times are within this distance of the median",
                   0, 2, style->width);
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
