/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/report.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/report/gpu_values.h"

enum { INDENT = 6 }; /* of sentences that take more than a line */

/* ---- cells ------------------------------------------------------------------- */

/* Without the vendor, to save room. */
static struct value name_short(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        static const char vendor[] = "NVIDIA ";
        const char *name = gpu->info.model;

        return value_text(text_starts_with(name, vendor) ? name + strlen(vendor) : name);
}

/* Names at most n_named_max clients; 'holdfast clients' shows all. */
static struct value held_by(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, size_t n_named_max) {
        struct value value = {.kind = VALUE_TEXT};

        (void)report_held_by(snapshot, gpu, n_named_max, value.text, sizeof(value.text));
        return value;
}

static struct value held_by_two(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return held_by(snapshot, gpu, 2);
}

static struct value held_by_one(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return held_by(snapshot, gpu, 1);
}

/* ---- columns ----------------------------------------------------------------- */

/* From the widest to the narrowest. The first that fits is shown. */
enum layout {
        LAYOUT_WHOLE,
        LAYOUT_FULL,
        LAYOUT_NARROW,
        N_LAYOUTS,
};

enum {
        IN_WHOLE = 1 << LAYOUT_WHOLE,
        IN_FULL = 1 << LAYOUT_WHOLE | 1 << LAYOUT_FULL,
        IN_NARROW = 1 << LAYOUT_NARROW,
        IN_ALL = IN_FULL | IN_NARROW,
};

static const struct {
        struct table_column column;
        unsigned layouts;
        bool only_holdfast; /* no other daemon reports it */
        gpu_value *get;
} columns[] = {
        {{.title = "GPU", .right = true}, IN_ALL, false, gpu_index},
        {{.title = "Name"}, IN_FULL, false, gpu_name},
        {{.title = "Name", .width_min = 12}, IN_NARROW, false, name_short},
        {{.title = "Bus-Id"}, IN_FULL, false, gpu_bus_id},
        {{.title = "Bus-Id"}, IN_NARROW, false, gpu_address},
        {{.title = "UUID"}, IN_WHOLE, false, gpu_uuid},
        {{.title = "Persistence-M"}, IN_FULL, false, gpu_persistence},
        {{.title = "Pers-M"}, IN_NARROW, false, gpu_persistence},
        {{.title = "State"}, IN_ALL, false, gpu_state},
        {{.title = "Since"}, IN_FULL, true, gpu_since},
        {{.title = "Open", .right = true}, IN_FULL, true, gpu_open},
        {{.title = "Held by"}, IN_FULL, false, held_by_two},
        {{.title = "Held by"}, IN_NARROW, false, held_by_one},
};

_Static_assert(ARRAY_SIZE(columns) <= TABLE_COLUMNS_MAX, "columns fit");

/* The table refers to `shown`. */
static void fill_table(struct table *table, const struct snapshot *snapshot, enum layout layout,
                       struct table_column *shown) {
        size_t chosen[ARRAY_SIZE(columns)], n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
                if ((columns[i].layouts & 1u << layout) &&
                    (!columns[i].only_holdfast || snapshot->daemon == DAEMON_HOLDFAST)) {
                        shown[n] = columns[i].column;
                        chosen[n++] = i;
                }
        *table = (struct table){.columns = shown, .n_columns = n};
        each_selected(gpu, snapshot) {
                table_row(table);
                for (size_t i = 0; i < n; i++) {
                        const struct value value = columns[chosen[i]].get(snapshot, gpu);

                        value_fill_cell(&value, columns[chosen[i]].only_holdfast ? "-" : "?", table);
                }
        }
}

static int print_table(const struct snapshot *snapshot, const struct report_style *style, FILE *stream) {
        for (int layout = 0; layout < N_LAYOUTS; layout++) {
                CLEANUP(table_done) struct table table = {0};
                struct table_column shown[ARRAY_SIZE(columns)];

                fill_table(&table, snapshot, (enum layout)layout, shown);
                if (style->width == 0 || table_width(&table) <= style->width || layout + 1 == N_LAYOUTS)
                        return table_print(&table, stream, style->width, style->colours);
        }
        return 0;
}

/* ---- the head line ----------------------------------------------------------- */

static void describe_daemon(const struct snapshot *snapshot, char *buffer, size_t size) {
        char pid[24] = "";

        if (snapshot->daemon_pid > 0)
                text_set(pid, " (pid %d)", (int)snapshot->daemon_pid);
        switch (snapshot->daemon) {
        case DAEMON_HOLDFAST:
                (void)text_format(buffer, size, "Holdfast %s (pid %u, %s backend)", snapshot->head.version,
                                  (unsigned)snapshot->head.pid, snapshot->head.backend);
                break;
        case DAEMON_NVIDIA:
                (void)text_format(buffer, size, "NVIDIA's nvidia-persistenced%s", pid);
                break;
        case DAEMON_SILENT:
                (void)text_format(buffer, size, "daemon does not answer%s", pid);
                break;
        case DAEMON_NONE:
                (void)text_copy(buffer, size, "no daemon");
                break;
        }
}

static void describe_driver(const struct snapshot *snapshot, char *buffer, size_t size) {
        if (snapshot->driver_version[0] != '\0')
                (void)text_format(buffer, size, "driver %s", snapshot->driver_version);
        else
                (void)text_copy(buffer, size, snapshot->driver_loaded ? "driver version unknown" : "driver not seen");
}

static size_t count_initialised(const struct snapshot *snapshot) {
        size_t n = 0;

        each_gpu(gpu, snapshot)
                n += gpu->initialised == HF_YES;
        return n;
}

static void describe_gpus(const struct snapshot *snapshot, char *buffer, size_t size) {
        const char *plural = text_plural(snapshot->n_gpus);

        if (snapshot->n_gpus == 0)
                (void)text_copy(buffer, size, "no GPUs");
        else if (snapshot->daemon == DAEMON_HOLDFAST || snapshot->daemon == DAEMON_NVIDIA)
                (void)text_format(buffer, size, "%zu of %zu GPU%s held%s", snapshot_count_held(snapshot),
                                  snapshot->n_gpus, plural,
                                  snapshot->daemon == DAEMON_HOLDFAST && !snapshot->head.ready ? ", starting" : "");
        else if (snapshot->daemon == DAEMON_SILENT)
                (void)text_format(buffer, size, "%zu GPU%s", snapshot->n_gpus, plural);
        else
                (void)text_format(buffer, size, "%zu of %zu GPU%s initialised", count_initialised(snapshot),
                                  snapshot->n_gpus, plural);
}

static void print_head(const struct snapshot *snapshot, const struct report_style *style, FILE *stream) {
        static const char separator[] = "  |  ";
        char daemon[2 * HF_NAME_SIZE + 48], driver[64], gpus[96];
        bool fits;

        describe_daemon(snapshot, daemon, sizeof(daemon));
        describe_driver(snapshot, driver, sizeof(driver));
        describe_gpus(snapshot, gpus, sizeof(gpus));
        fits = style->width == 0 ||
               strlen(daemon) + strlen(driver) + strlen(gpus) + 2 * strlen(separator) <= style->width;
        colour_print(stream, style->colours, COLOUR_BOLD, daemon);
        (void)fprintf(stream, "%s%s%s%s\n", fits ? separator : "\n", driver, separator, gpus);
}

/* ---- remarks on single GPUs -------------------------------------------------- */

/* Sentences below the table, after one blank line. */
struct remarks {
        const struct report_style *style;
        FILE *stream;
        bool begun;
};

static void begin_remark(struct remarks *remarks) {
        if (!remarks->begun)
                (void)fputc('\n', remarks->stream);
        remarks->begun = true;
}

static void print_gpu_line(const struct snapshot_gpu *gpu, enum colour colour, const char *what,
                           struct remarks *remarks) {
        begin_remark(remarks);
        colour_print(remarks->stream, remarks->style->colours, colour, gpu->label);
        (void)fputs(": ", remarks->stream);
        text_wrap(remarks->stream, what, strlen(gpu->label) + 2, INDENT, remarks->style->width);
}

static void print_stuck(const struct snapshot_gpu *gpu, struct remarks *remarks) {
        char what[256];

        text_set(what, "stuck in the driver, %s, since %s: see the kernel log; the other GPUs are not affected",
                 hf_gpu_state_name(gpu->detail.state), report_time_local(gpu->detail.since_realtime_usec).text);
        print_gpu_line(gpu, COLOUR_BAD, what, remarks);
}

static void print_error(const struct snapshot_gpu *gpu, struct remarks *remarks) {
        char what[HF_TEXT_SIZE + 64];

        if (gpu->detail.state == HF_GPU_HELD) /* a close failed */
                text_set(what, "%s", gpu->detail.error_text);
        else
                text_set(what, "%s (%u failed open%s so far)", gpu->detail.error_text, (unsigned)gpu->detail.failures,
                         text_plural(gpu->detail.failures));
        print_gpu_line(gpu, COLOUR_BAD, what, remarks);
}

static void print_detail(const struct snapshot_gpu *gpu, struct remarks *remarks) {
        if (gpu->detail.stuck)
                print_stuck(gpu, remarks);
        if (gpu->detail.error_text[0] != '\0')
                print_error(gpu, remarks);
        if (gpu->detail.uvm == HF_UVM_WAITING) {
                char what[HF_TEXT_SIZE + 64];

                text_set(what, "UVM persistence is not on yet: %s",
                         gpu->detail.uvm_text[0] ? gpu->detail.uvm_text : "it is being tried");
                print_gpu_line(gpu, COLOUR_WARNING, what, remarks);
        }
}

static void print_trouble(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, struct remarks *remarks) {
        if (gpu->info.excluded) {
                print_gpu_line(
                        gpu, COLOUR_WARNING,
                        "excluded from the driver by the administrator (NVreg_ExcludedGpus): no process can open it",
                        remarks);
                return;
        }
        if (snapshot->daemon == DAEMON_HOLDFAST)
                print_detail(gpu, remarks);
        if (snapshot->daemon == DAEMON_HOLDFAST && !gpu->in_daemon)
                print_gpu_line(gpu, COLOUR_WARNING, "the driver lists it, but the daemon does not know it yet",
                               remarks);
        if (snapshot->daemon == DAEMON_NVIDIA && gpu->get_status != NVPD_SUCCESS)
                print_gpu_line(gpu, COLOUR_BAD, nvpd_status_text(gpu->get_status), remarks);
}

/* ---- notes about the node ---------------------------------------------------- */

static bool any_persistence_unknown(const struct snapshot *snapshot) {
        each_selected(gpu, snapshot)
                if (gpu->persistence == PERSISTENCE_UNKNOWN)
                        return true;
        return false;
}

static void print_note(struct remarks *remarks, const char *text) {
        static const char head[] = "note: ";

        begin_remark(remarks);
        (void)fputs(head, remarks->stream);
        text_wrap(remarks->stream, text, strlen(head), INDENT, remarks->style->width);
}

static void print_daemon_note(const struct snapshot *snapshot, struct remarks *remarks) {
        char text[sizeof(snapshot->daemon_error) + 160];

        switch (snapshot->daemon) {
        case DAEMON_NONE:
                text_set(text,
                         "%s. A GPU is torn down when its last user closes it; start nvidia-persistenced to "
                         "keep it ready.",
                         snapshot->daemon_error);
                print_note(remarks, text);
                break;
        case DAEMON_SILENT:
                print_note(remarks, snapshot->daemon_error);
                break;
        case DAEMON_NVIDIA:
                print_note(remarks, "NVIDIA's daemon reports only whether a GPU is held, but not since when, and no "
                                    "failures or reasons.");
                break;
        case DAEMON_HOLDFAST:
                break;
        }
}

/* NVML does not count a GPU that does not initialise, so the GPUs after it have smaller indices there. */
static void print_count_note(const struct snapshot *snapshot, struct remarks *remarks) {
        for (size_t i = 0; i + 1 < snapshot->n_gpus; i++) {
                const struct snapshot_gpu *gpu = &snapshot->gpus[i];
                char text[192];

                if (!snapshot_has_failed(snapshot, gpu) || snapshot->gpus[i + 1].info.excluded)
                        continue;
                text_set(text,
                         "nvidia-smi leaves out GPU %zu, which does not initialise, and gives smaller indices to the "
                         "GPUs after it: name GPUs by address",
                         gpu->index);
                print_note(remarks, text);
                return;
        }
}

static void print_settings_note(const struct snapshot *snapshot, struct remarks *remarks) {
        size_t n = snapshot_count_differing(snapshot);
        char text[128];

        if (n == 0)
                return;
        text_set(text, "%zu setting%s or hook%s of GPUs %s not as wanted; see 'holdfast settings'.", n, text_plural(n),
                 text_plural(n), n == 1 ? "is" : "are");
        print_note(remarks, text);
}

static void print_notes(const struct snapshot *snapshot, struct remarks *remarks) {
        char untold[SNAPSHOT_GAP_SIZE], text[SNAPSHOT_GAP_SIZE + 1];
        const char *why;

        if (snapshot->inventory_error < 0) {
                text_set(text, "cannot read the driver's list of GPUs (/proc/driver/nvidia): %s.",
                         strerror(-snapshot->inventory_error));
                print_note(remarks, text);
        }
        print_daemon_note(snapshot, remarks);
        print_count_note(snapshot, remarks);
        print_settings_note(snapshot, remarks);
        if (snapshot->daemon == DAEMON_NONE && any_persistence_unknown(snapshot))
                print_note(remarks,
                           "where Persistence-M is '?', the kernel's own flag cannot be read without opening the GPU, "
                           "which this command never does.");
        if (snapshot_untold(snapshot, untold, sizeof(untold))) {
                text_set(text, "%s.", untold);
                print_note(remarks, text);
        }
        if (!snapshot->clients_known)
                return;
        why = snapshot_gap(snapshot, "clients of other users cannot be seen; run as root to see them.", text,
                           sizeof(text));
        if (why)
                print_note(remarks, why);
}

/* ----------------------------------------------------------------------------- */

int report_text(const struct snapshot *snapshot, const struct report_style *style, FILE *stream) {
        struct remarks remarks = {.style = style, .stream = stream};
        int r;

        print_head(snapshot, style, stream);
        if (snapshot->n_gpus > 0) {
                (void)fputc('\n', stream);
                r = print_table(snapshot, style, stream);
                if (r < 0)
                        return r;
        }
        each_selected(gpu, snapshot)
                print_trouble(snapshot, gpu, &remarks);
        print_notes(snapshot, &remarks);
        return 0;
}
