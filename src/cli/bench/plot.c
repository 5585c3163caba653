/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Draws each measured time as a mark on an axis, which shows what a median hides. The axis is logarithmic: a cold GPU's
 * times and a held one's differ by several powers of ten. It begins and ends with a power of ten.
 */

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "cli/bench/bench.h"

enum {
        LABEL_WIDTH = 10, /* "GPU 7 cold" */
        WIDTH_DEFAULT = 80,
        WIDTH_MIN = 40,
        WIDTH_MAX = 160,
};

enum mark {
        MARK_NONE,
        MARK_TIME,
        MARK_MEDIAN,
        MARK_LINE,
        MARK_TICK,
        MARKS,
};

static const char *const ascii[MARKS] = {" ", "o", "#", "-", "+"};
static const char *const unicode[MARKS] = {" ", "\u2022", "\u25c6", "\u2500", "\u253c"};

struct plot {
        const char *const *marks;
        int first; /* of the axis: the power of ten, in nanoseconds */
        int last;  /* greater than first */
        size_t width;
        FILE *stream;
};

static bool is_utf8(void) {
        locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
        bool utf8;

        if (locale == (locale_t)0)
                return false;
        utf8 = text_equal(nl_langinfo_l(CODESET, locale), "UTF-8");
        freelocale(locale);
        return utf8;
}

static double logarithm(double nsec) {
        return log10(nsec < 1 ? 1 : nsec);
}

/* Finds the shortest axis for all times of that kind. Returns whether there are any. */
static bool find_axis(struct plot *plot, const struct bench *bench, enum bench_what what) {
        double min = INFINITY, max = -INFINITY;

        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t state = 0; state < BENCH_STATES; state++) {
                        const struct statistics *statistics = &bench->gpus[i].series[what][state].statistics;

                        if (statistics->n > 0) {
                                min = fmin(min, logarithm(statistics->min));
                                max = fmax(max, logarithm(statistics->max));
                        }
                }
        if (min > max)
                return false;
        plot->first = (int)floor(min);
        plot->last = (int)fmax(ceil(max), plot->first + 1);
        return true;
}

static size_t column_of(const struct plot *plot, double power) {
        return (size_t)((power - plot->first) / (plot->last - plot->first) * (double)(plot->width - 1) + 0.5);
}

static void print_marks(const struct plot *plot, const enum mark *marks) {
        size_t end = plot->width;

        while (end > 0 && marks[end - 1] == MARK_NONE)
                end--;
        for (size_t i = 0; i < end; i++)
                (void)fputs(plot->marks[marks[i]], plot->stream);
        (void)fputc('\n', plot->stream);
}

static void print_series(const struct plot *plot, const struct bench_gpu *gpu, enum bench_what what,
                         enum bench_state state) {
        const struct bench_series *series = &gpu->series[what][state];
        enum mark marks[WIDTH_MAX] = {MARK_NONE};
        char label[32];

        if (series->n == 0)
                return;
        for (size_t i = 0; i < series->n; i++)
                marks[column_of(plot, logarithm((double)series->nsec[i]))] = MARK_TIME;
        marks[column_of(plot, logarithm(series->statistics.median))] = MARK_MEDIAN;
        text_set(label, "GPU %zu %s", gpu->gpu->index, bench_state_names[state]);
        (void)fprintf(plot->stream, "%-*s  ", LABEL_WIDTH, label);
        print_marks(plot, marks);
}

/* "10 us", "1 s": a power of ten. Returns the length. */
static size_t format_power(int power, char label[static 16]) {
        static const char *const units[] = {"ns", "us", "ms", "s"};
        int unit = power < 12 ? power / 3 : 3;

        (void)text_format(label, 16, "%.0f %s", pow(10, power - 3 * unit), units[unit]);
        return strlen(label);
}

/* Each label begins at its tick; only the last label ends at its tick. */
static void print_axis(const struct plot *plot) {
        enum mark marks[WIDTH_MAX];
        char labels[WIDTH_MAX + 1];

        for (size_t i = 0; i < plot->width; i++)
                marks[i] = MARK_LINE;
        memset(labels, ' ', sizeof(labels));
        for (int power = plot->first; power <= plot->last; power++) {
                char label[16];
                size_t column = column_of(plot, power), length = format_power(power, label);

                marks[column] = MARK_TICK;
                memcpy(labels + (column + length > plot->width ? plot->width - length : column), label, length);
        }
        (void)fprintf(plot->stream, "%*s", LABEL_WIDTH + 2, "");
        print_marks(plot, marks);
        (void)fprintf(plot->stream, "%*s%.*s\n", LABEL_WIDTH + 2, "", (int)plot->width, labels);
}

static void print_what(struct plot *plot, const struct bench *bench, enum bench_what what) {
        if (!find_axis(plot, bench, what))
                return;
        (void)fprintf(plot->stream, "\n%s, logarithmic (%s each time, %s median)\n", bench_what_names[what],
                      plot->marks[MARK_TIME], plot->marks[MARK_MEDIAN]);
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t state = 0; state < BENCH_STATES; state++)
                        print_series(plot, &bench->gpus[i], what, state);
        print_axis(plot);
}

void bench_print_plot(const struct bench *bench, const struct report_style *style, FILE *stream) {
        size_t width = style->width == 0 ? WIDTH_DEFAULT : style->width;
        struct plot plot = {.marks = is_utf8() ? unicode : ascii, .stream = stream};

        width = width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
        plot.width = width - LABEL_WIDTH - 2;
        for (size_t what = 0; what < BENCH_WHATS; what++)
                print_what(&plot, bench, what);
}
