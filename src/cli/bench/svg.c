/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The same plot as a picture that needs nothing but itself: black on white, cold times as filled circles, held ones as
 * empty ones, medians as bars, so that it can be printed.
 */

#include "base/text.h"
#include "cli/bench/axis.h"
#include "cli/bench/bench.h"

enum {
        WIDTH = 900,
        LEFT = 110, /* of the axis */
        RIGHT = 40,
        TITLE_HEIGHT = 56,
        PANEL_HEAD = 34,
        ROW_HEIGHT = 20,
        AXIS_HEIGHT = 52,
        NOTE_HEIGHT = 18,
        FOOT = 12,
        RADIUS = 4,
        BAR = 8,
};

static double x_of(const struct axis *axis, double nsec) {
        return LEFT + axis_position(axis, nsec) * (WIDTH - LEFT - RIGHT);
}

static size_t count_rows(const struct bench *bench, enum bench_what what) {
        size_t n = 0;

        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t state = 0; state < BENCH_STATES; state++)
                        n += bench->gpus[i].series[what][state].n > 0;
        return n;
}

static size_t height_of(const struct bench *bench) {
        size_t height = TITLE_HEIGHT + FOOT;

        for (size_t what = 0; what < BENCH_WHATS; what++)
                if (count_rows(bench, what) > 0)
                        height += PANEL_HEAD + count_rows(bench, what) * ROW_HEIGHT + AXIS_HEIGHT;
        for (const char *const *note = bench_notes(bench); *note; note++)
                height += NOTE_HEIGHT;
        return height;
}

/* What others named (a GPU's model) goes into XML. */
static void print_escaped(FILE *stream, const char *text) {
        for (; *text != '\0'; text++) {
                if (*text == '&')
                        (void)fputs("&amp;", stream);
                else if (*text == '<')
                        (void)fputs("&lt;", stream);
                else
                        (void)fputc(*text, stream);
        }
}

static void print_text(FILE *stream, double x, size_t y, const char *attributes, const char *text) {
        (void)fprintf(stream, "<text x=\"%.1f\" y=\"%zu\"%s>", x, y, attributes);
        print_escaped(stream, text);
        (void)fputs("</text>\n", stream);
}

static void print_series(const struct bench_gpu *gpu, enum bench_what what, enum bench_state state,
                         const struct axis *axis, size_t y, FILE *stream) {
        const struct bench_series *series = &gpu->series[what][state];
        double median = x_of(axis, series->statistics.median);
        char text[64], time[32];

        text_set(text, "GPU %zu %s", gpu->gpu->index, bench_state_names[state]);
        print_text(stream, LEFT - 10, y + 4, " text-anchor=\"end\"", text);
        for (size_t i = 0; i < series->n; i++)
                (void)fprintf(stream, "<circle cx=\"%.1f\" cy=\"%zu\" r=\"%d\" fill=\"%s\" stroke=\"black\"/>\n",
                              x_of(axis, (double)series->nsec[i]), y, RADIUS, state == BENCH_COLD ? "black" : "white");
        (void)fprintf(stream, "<path d=\"M%.1f %zuv%d\" stroke=\"black\" stroke-width=\"2\"><title>", median, y - BAR,
                      2 * BAR);
        (void)fprintf(stream, "median %s</title></path>\n", bench_time(series->statistics.median, time, sizeof(time)));
}

static void print_axis(const struct axis *axis, size_t top, size_t y, FILE *stream) {
        (void)fprintf(stream, "<path d=\"M%d %zuH%d\" stroke=\"black\"/>\n", LEFT, y, WIDTH - RIGHT);
        for (int power = axis->first; power <= axis->last; power++) {
                double x = x_of(axis, axis_value(power));
                char label[16];

                (void)fprintf(stream, "<path d=\"M%.1f %zuV%zu\" stroke=\"#bbb\" stroke-dasharray=\"2 3\"/>\n", x, top,
                              y);
                print_text(stream, x, y + 16, " text-anchor=\"middle\"", axis_label(power, label, sizeof(label)));
        }
        print_text(stream, (LEFT + WIDTH - RIGHT) / 2.0, y + 34, " text-anchor=\"middle\"", "time (logarithmic)");
}

/* Returns where the next begins. */
static size_t print_panel(const struct bench *bench, enum bench_what what, size_t y, FILE *stream) {
        uint64_t min_nsec, max_nsec;
        struct axis axis;
        size_t top;

        if (!bench_range(bench, what, &min_nsec, &max_nsec))
                return y;
        axis = axis_for(min_nsec, max_nsec);
        print_text(stream, LEFT, y + 16, " font-weight=\"bold\"", bench_what_titles[what]);
        top = y + PANEL_HEAD - 8;
        y += PANEL_HEAD;
        print_axis(&axis, top, y + count_rows(bench, what) * ROW_HEIGHT, stream);
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t state = 0; state < BENCH_STATES; state++)
                        if (bench->gpus[i].series[what][state].n > 0) {
                                print_series(&bench->gpus[i], what, state, &axis, y + ROW_HEIGHT / 2, stream);
                                y += ROW_HEIGHT;
                        }
        return y + AXIS_HEIGHT;
}

static void print_title(const struct bench *bench, FILE *stream) {
        char title[256];

        text_set(title, "%s, driver %s", bench->gpus[0].gpu->info.model, bench->yield.snapshot->driver_version);
        print_text(stream, LEFT, TITLE_HEIGHT - 32, " font-size=\"15\" font-weight=\"bold\"", title);
        print_text(stream, LEFT, TITLE_HEIGHT - 12, "", "filled: cold; empty: held; bars: medians");
}

void bench_print_svg(const struct bench *bench, FILE *stream) {
        size_t height = height_of(bench), y = TITLE_HEIGHT;

        (void)fprintf(stream,
                      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" viewBox=\"0 0 %d %zu\" "
                      "font-family=\"sans-serif\" font-size=\"12\" fill=\"black\">\n"
                      "<rect width=\"%d\" height=\"%zu\" fill=\"white\"/>\n",
                      WIDTH, height, WIDTH, height, WIDTH, height);
        print_title(bench, stream);
        for (size_t what = 0; what < BENCH_WHATS; what++)
                y = print_panel(bench, what, y, stream);
        for (const char *const *note = bench_notes(bench); *note; note++) {
                print_text(stream, LEFT, y + 12, "", *note);
                y += NOTE_HEIGHT;
        }
        (void)fputs("</svg>\n", stream);
}
