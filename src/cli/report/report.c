/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/report.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"

enum {
        SENTENCE_SIZE = 8192,
        INDENT = 6, /* of a sentence's further lines */
};

/* ---- style ------------------------------------------------------------------- */

static struct report_environment environment;

void report_init(const struct report_environment *said) {
        environment = *said;
}

static size_t width_of(int fd, bool is_terminal) {
        struct winsize size;
        uint64_t width;

        if (environment.columns && text_parse_u64(environment.columns, 10, 10000, &width) == 0 && width > 0)
                return (size_t)width;
        if (is_terminal && ioctl(fd, TIOCGWINSZ, &size) == 0)
                return size.ws_col;
        return 0;
}

struct report_style report_style_of(FILE *stream) {
        bool is_terminal = isatty(fileno(stream)) == 1;
        bool obeys = is_terminal && environment.terminal && !text_equal(environment.terminal, "dumb");

        return (struct report_style){
                .width = width_of(fileno(stream), is_terminal),
                .colours = obeys && (!environment.no_color || environment.no_color[0] == '\0'),
                .redraws = obeys && environment.terminal[0] != '\0',
        };
}

/* ---- sentences --------------------------------------------------------------- */

void report_say(const char *format, ...) {
        size_t width = isatty(STDOUT_FILENO) == 1 ? report_style_of(stdout).width : 0;
        char text[SENTENCE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        text_wrap(stdout, text, 0, INDENT, width);
}

const char *report_nothing(const struct snapshot *snapshot, const struct locations *locations, char *buffer,
                           size_t size) {
        (void)text_format(buffer, size,
                          "the NVIDIA driver is not loaded (no %s/proc/driver/nvidia), and %s; 'holdfast doctor' shows "
                          "what to do",
                          locations->root, snapshot->daemon_error);
        return buffer;
}

/* ---- times --------------------------------------------------------- */

struct report_text report_time_local(uint64_t realtime_usec) {
        time_t seconds = (time_t)(realtime_usec / USEC_PER_SEC);
        struct report_text time = {"-"};
        struct tm parts;

        if (realtime_usec != 0 && localtime_r(&seconds, &parts))
                (void)strftime(time.text, sizeof(time.text), "%Y-%m-%d %H:%M:%S", &parts);
        return time;
}

struct report_text report_time_utc(uint64_t realtime_usec) {
        time_t seconds = (time_t)(realtime_usec / USEC_PER_SEC);
        struct report_text time = {""};
        struct tm parts;

        if (gmtime_r(&seconds, &parts))
                (void)strftime(time.text, sizeof(time.text), "%Y-%m-%dT%H:%M:%S", &parts);
        text_add(time.text, ".%03uZ", (unsigned)(realtime_usec % USEC_PER_SEC / USEC_PER_MSEC));
        return time;
}

struct report_text report_duration(uint64_t usec) {
        double msec = (double)usec / (double)USEC_PER_MSEC;
        struct report_text duration = {"-"};

        if (usec != 0)
                text_set(duration.text,
                         msec < 10     ? "%.1f ms"
                         : msec < 1000 ? "%.0f ms"
                                       : "%.2f s",
                         msec < 1000 ? msec : msec / 1000);
        return duration;
}

/* ---- holders ----------------------------------------------------------------- */

static void append_clients(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, size_t n_named_max,
                           char *buffer, size_t size) {
        size_t n = 0;

        for (size_t i = 0; i < gpu->n_clients; i++) {
                const struct holder *client = &gpu->clients[i];

                if (snapshot_is_client(snapshot, client) && n++ < n_named_max)
                        text_append_item(buffer, size, ", ", "%s(%d)", client->name[0] ? client->name : "?",
                                         (int)client->pid);
        }
        if (n > n_named_max)
                text_append_item(buffer, size, ", ", "%zu more", n - n_named_max);
}

const char *report_held_by(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, size_t n_named_max,
                           char *buffer, size_t size) {
        bool nobody = gpu->held != HF_YES && gpu->n_clients == 0;
        bool held = gpu->held == HF_YES, kept = false;

        for (size_t i = 0; i < gpu->n_clients; i++) {
                kept |= gpu->clients[i].is_keeper;
                /* A daemon may have a GPU open that it does not report as held: ours while it opens it. */
                held |= !gpu->clients[i].is_keeper && snapshot_is_daemon(snapshot, &gpu->clients[i]);
        }

        buffer[0] = '\0';
        if (held)
                text_append_item(buffer, size, ", ", "daemon");
        if (gpu->legacy == HF_YES)
                text_append_item(buffer, size, ", ", "%s",
                                 gpu->legacy_inferred ? "kernel flag (inferred)" : "kernel flag");
        if (kept && !held) /* for the next daemon */
                text_append_item(buffer, size, ", ", "keeper");
        append_clients(snapshot, gpu, n_named_max, buffer, size);
        if (nobody && snapshot->modeset && gpu->initialised == HF_YES)
                text_append_item(buffer, size, ", ", "nvidia-drm (inferred)");
        if (buffer[0] == '\0')
                (void)text_copy(buffer, size, "-");
        return buffer;
}
