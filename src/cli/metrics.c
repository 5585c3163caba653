/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast metrics: the daemon's state as Prometheus reads it, in its text format. A scrape without a daemon is a
 * scrape all the same: it says so. Nothing here touches the driver.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/report.h"
#include "client/client.h"

static struct metrics_options {
        const char *textfile;
        uint64_t timeout_usec;
} metrics_options = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        {
                .name = "textfile",
                .argument = "PATH",
                .help = "write them to this file, whole or not at all, for node_exporter's textfile collector; its "
                        "name must end in .prom",
                .kind = OPTION_TEXT,
                .offset = offsetof(struct metrics_options, textfile),
        },
        OPTION_TIMEOUT(struct metrics_options, "wait that long for the daemon's answer (default 5)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "written, also when no daemon runs (holdfast_up is 0 then)"},
        {STATUS_FAILED, "the file could not be written; the old one is as it was"},
        {STATUS_USAGE, "wrong usage"},
        {0},
};

/* What all metrics are taken from. */
struct sample {
        const struct snapshot *snapshot;
        struct hf_stats stats;
        bool stats_known;
        uint64_t now_realtime_usec;
        FILE *stream;
};

/* ---- the text format ------------------------------------------------------------------------------------------ */

/* In a label's value a backslash, a quotation mark and a line feed are written as two characters. */
static void print_label(FILE *stream, const char *separator, const char *name, const char *value) {
        (void)fprintf(stream, "%s%s=\"", separator, name);
        for (; *value != '\0'; value++) {
                if (*value == '\\' || *value == '"')
                        (void)fputc('\\', stream);
                if (*value == '\n')
                        (void)fputs("\\n", stream);
                else
                        (void)fputc(*value, stream);
        }
        (void)fputc('"', stream);
}

static void print_value(FILE *stream, double value) {
        (void)fprintf(stream, " %.16g\n", value); /* microseconds since the epoch have 16 digits */
}

static double seconds(uint64_t usec) {
        return (double)usec / (double)USEC_PER_SEC;
}

/* ---- metrics of the daemon ------------------------------------------------------------------------------------ */

/* A value, or none: an unknown is left out, since 0 would be an answer. */
struct value {
        bool known;
        double number;
};

static struct value value_of(double number) {
        return (struct value){.known = true, .number = number};
}

static struct value value_if(bool known, double number) {
        return (struct value){.known = known, .number = number};
}

static bool is_up(const struct snapshot *snapshot) {
        return snapshot->daemon == DAEMON_HOLDFAST || snapshot->daemon == DAEMON_NVIDIA;
}

static bool is_ours(const struct sample *sample) {
        return sample->snapshot->daemon == DAEMON_HOLDFAST;
}

static struct value get_up(const struct sample *sample) {
        return value_of(is_up(sample->snapshot));
}

static struct value get_gpus(const struct sample *sample) {
        return value_of((double)sample->snapshot->n_gpus);
}

static struct value get_ready(const struct sample *sample) {
        return value_if(is_ours(sample), sample->snapshot->head.ready);
}

static struct value get_started(const struct sample *sample) {
        return value_if(is_ours(sample), seconds(sample->snapshot->head.started_realtime_usec));
}

static struct value get_last_check(const struct sample *sample) {
        return value_of(seconds(sample->now_realtime_usec));
}

#define STATS_VALUE(member)                                                                                            \
        static struct value get_##member(const struct sample *sample) {                                                \
                return value_if(sample->stats_known, (double)sample->stats.member);                                    \
        }

STATS_VALUE(sessions)
STATS_VALUE(sessions_max)
STATS_VALUE(leases)
STATS_VALUE(accepted)
STATS_VALUE(evicted)
STATS_VALUE(expired)
STATS_VALUE(malformed)
STATS_VALUE(calls)
STATS_VALUE(rejected)
STATS_VALUE(refused)

static const struct {
        const char *name;
        const char *type;
        const char *help;
        struct value (*get)(const struct sample *sample);
} daemon_metrics[] = {
        {"holdfast_up", "gauge", "Whether a persistence daemon, Holdfast's or NVIDIA's, answers.", get_up},
        {"holdfast_gpus", "gauge", "GPUs that the driver or the daemon knows.", get_gpus},
        {"holdfast_daemon_ready", "gauge", "Whether the daemon has attempted every GPU that was there at its start.",
         get_ready},
        {"holdfast_daemon_start_time_seconds", "gauge", "When the daemon started, in seconds since the epoch.",
         get_started},
        {"holdfast_last_check_timestamp_seconds", "gauge", "When this was written, in seconds since the epoch.",
         get_last_check},
        {"holdfast_sessions", "gauge", "Connections that the daemon has open.", get_sessions},
        {"holdfast_sessions_limit", "gauge", "Connections that the daemon has room for.", get_sessions_max},
        {"holdfast_leases", "gauge", "Leases that last now.", get_leases},
        {"holdfast_connections_total", "counter", "Connections accepted.", get_accepted},
        {"holdfast_sessions_evicted_total", "counter", "Connections ended to make room for another.", get_evicted},
        {"holdfast_sessions_expired_total", "counter",
         "Connections ended for half a call, or an answer not taken, for too long.", get_expired},
        {"holdfast_sessions_malformed_total", "counter", "Connections ended for a record that is none.", get_malformed},
        {"holdfast_calls_total", "counter", "Calls of a method that there is.", get_calls},
        {"holdfast_calls_rejected_total", "counter",
         "Calls of a program, version or procedure that is not served, or with garbage for arguments.", get_rejected},
        {"holdfast_calls_refused_total", "counter", "Calls of somebody who may not.", get_refused},
};

static void print_head(FILE *stream, const char *name, const char *type, const char *help) {
        (void)fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_daemon_metrics(const struct sample *sample) {
        for (size_t i = 0; i < ARRAY_SIZE(daemon_metrics); i++) {
                struct value value = daemon_metrics[i].get(sample);

                if (!value.known)
                        continue;
                print_head(sample->stream, daemon_metrics[i].name, daemon_metrics[i].type, daemon_metrics[i].help);
                (void)fputs(daemon_metrics[i].name, sample->stream);
                print_value(sample->stream, value.number);
        }
}

static void print_build_info(const struct sample *sample) {
        const struct snapshot *snapshot = sample->snapshot;
        FILE *stream = sample->stream;

        print_head(stream, "holdfast_build_info", "gauge", "The version of the holdfast command that wrote this.");
        print_label(stream, "holdfast_build_info{", "version", HOLDFAST_VERSION);
        (void)fputs("} 1\n", stream);
        if (!is_up(snapshot))
                return;
        print_head(stream, "holdfast_daemon_info", "gauge", "Which daemon answers; NVIDIA's tells no version.");
        print_label(stream, "holdfast_daemon_info{", "kind", is_ours(sample) ? "holdfast" : "nvidia");
        print_label(stream, ",", "version", is_ours(sample) ? snapshot->head.version : "");
        print_label(stream, ",", "backend", is_ours(sample) ? snapshot->head.backend : "");
        (void)fputs("} 1\n", stream);
}

/* ---- metrics of each GPU -------------------------------------------------------------------------------------- */

static bool has_detail(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return is_ours(sample) && gpu->in_daemon;
}

static struct value get_held(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(gpu->held != HF_UNKNOWN, gpu->held == HF_YES);
}

/* NVML's rule. Without a daemon the kernel's flag alone decides, and is not known. */
static struct value get_persistence(const struct sample *sample, const struct snapshot_gpu *gpu) {
        bool known =
                gpu->held == HF_YES || gpu->legacy != HF_UNKNOWN || (is_up(sample->snapshot) && gpu->held == HF_NO);

        return value_if(known, gpu->held == HF_YES || gpu->legacy == HF_YES);
}

static struct value get_legacy(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(gpu->legacy != HF_UNKNOWN, gpu->legacy == HF_YES);
}

static struct value get_excluded(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_of(gpu->info.excluded);
}

static struct value get_open_duration(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(has_detail(sample, gpu) && gpu->detail.open_duration_usec != 0,
                        seconds(gpu->detail.open_duration_usec));
}

static struct value get_since(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(has_detail(sample, gpu) && gpu->detail.since_realtime_usec != 0,
                        seconds(gpu->detail.since_realtime_usec));
}

static struct value get_uvm(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(has_detail(sample, gpu), gpu->detail.uvm == HF_UVM_ON);
}

static struct value get_uvm_waiting(const struct sample *sample, const struct snapshot_gpu *gpu) {
        return value_if(has_detail(sample, gpu), gpu->detail.uvm == HF_UVM_WAITING);
}

#define DETAIL_VALUE(member)                                                                                           \
        static struct value get_gpu_##member(const struct sample *sample, const struct snapshot_gpu *gpu) {            \
                return value_if(has_detail(sample, gpu), (double)gpu->detail.member);                                  \
        }

DETAIL_VALUE(failures)
DETAIL_VALUE(leased)
DETAIL_VALUE(opens)
DETAIL_VALUE(stuck)
DETAIL_VALUE(wanted)

static const struct {
        const char *name;
        const char *type;
        const char *help;
        struct value (*get)(const struct sample *sample, const struct snapshot_gpu *gpu);
} gpu_metrics[] = {
        {"holdfast_gpu_held", "gauge", "Whether the daemon holds the GPU.", get_held},
        {"holdfast_gpu_persistence_mode", "gauge",
         "Persistence mode as NVML tells it: held by the daemon, or kept by the kernel's own flag.", get_persistence},
        {"holdfast_gpu_legacy_flag", "gauge", "Whether the kernel's own, deprecated persistence flag is on.",
         get_legacy},
        {"holdfast_gpu_excluded", "gauge", "Whether the administrator has excluded the GPU from the driver.",
         get_excluded},
        {"holdfast_gpu_wanted", "gauge", "Whether the daemon wants to hold the GPU.", get_gpu_wanted},
        {"holdfast_gpu_leased", "gauge", "Whether a lease keeps the GPU released.", get_gpu_leased},
        {"holdfast_gpu_stuck", "gauge", "Whether the GPU has been in the driver for longer than the limit.",
         get_gpu_stuck},
        {"holdfast_gpu_state_since_timestamp_seconds", "gauge",
         "Since when the GPU is in its state, in seconds since the epoch.", get_since},
        {"holdfast_gpu_open_duration_seconds", "gauge", "How long the driver took to open the GPU last.",
         get_open_duration},
        {"holdfast_gpu_opens_total", "counter", "Successful opens of the GPU by this daemon.", get_gpu_opens},
        {"holdfast_gpu_failures_total", "counter", "Failed opens of the GPU by this daemon.", get_gpu_failures},
        {"holdfast_gpu_uvm_persistence", "gauge", "Whether UVM persistence is on.", get_uvm},
        {"holdfast_gpu_uvm_waiting", "gauge", "Whether UVM persistence is asked for and not on yet.", get_uvm_waiting},
};

/* The address as DCGM's exporter and nvidia-smi spell it, so that series can be joined. */
static void print_gpu_labels(FILE *stream, const char *name, const struct snapshot_gpu *gpu) {
        char index[24], bus_id[PCI_ADDRESS_SIZE];

        (void)text_format(index, sizeof(index), "%zu", gpu->index);
        (void)fputs(name, stream);
        print_label(stream, "{", "gpu", index);
        print_label(stream, ",", "pci_bus_id", pci_address_format_nvml(&gpu->info.address, bus_id));
}

static void print_gpu_metrics(const struct sample *sample) {
        const struct snapshot *snapshot = sample->snapshot;

        for (size_t i = 0; i < ARRAY_SIZE(gpu_metrics); i++) {
                bool headed = false;

                for (size_t j = 0; j < snapshot->n_gpus; j++) {
                        struct value value = gpu_metrics[i].get(sample, &snapshot->gpus[j]);

                        if (!value.known)
                                continue;
                        if (!headed)
                                print_head(sample->stream, gpu_metrics[i].name, gpu_metrics[i].type,
                                           gpu_metrics[i].help);
                        headed = true;
                        print_gpu_labels(sample->stream, gpu_metrics[i].name, &snapshot->gpus[j]);
                        (void)fputc('}', sample->stream);
                        print_value(sample->stream, value.number);
                }
        }
}

static void print_gpu_info(const struct sample *sample) {
        static const char name[] = "holdfast_gpu_info";
        const struct snapshot *snapshot = sample->snapshot;

        if (snapshot->n_gpus > 0)
                print_head(sample->stream, name, "gauge", "Each GPU's names; the value is always 1.");
        for (size_t i = 0; i < snapshot->n_gpus; i++) {
                print_gpu_labels(sample->stream, name, &snapshot->gpus[i]);
                print_label(sample->stream, ",", "uuid", snapshot->gpus[i].info.uuid);
                print_label(sample->stream, ",", "model", snapshot->gpus[i].info.model);
                (void)fputs("} 1\n", sample->stream);
        }
}

/* One series a state, of which exactly one is 1: so alerts can count states without knowing numbers. */
static void print_gpu_states(const struct sample *sample) {
        static const char name[] = "holdfast_gpu_state";
        const struct snapshot *snapshot = sample->snapshot;

        if (!is_ours(sample) || snapshot->head.n_gpus == 0)
                return;
        print_head(sample->stream, name, "gauge", "Which state the GPU is in.");
        for (size_t i = 0; i < snapshot->n_gpus; i++)
                for (uint32_t state = HF_GPU_RELEASED; state <= HF_GPU_FAILED; state++) {
                        if (!snapshot->gpus[i].in_daemon)
                                continue;
                        print_gpu_labels(sample->stream, name, &snapshot->gpus[i]);
                        print_label(sample->stream, ",", "state", hf_gpu_state_name(state));
                        (void)fputc('}', sample->stream);
                        print_value(sample->stream, snapshot->gpus[i].detail.state == state);
                }
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static void ask_stats(struct sample *sample, const struct invocation *invocation) {
        const struct metrics_options *chosen = invocation->options;
        CLEANUP(client_done) struct client *client = NULL;

        if (is_ours(sample) && client_connect(&client, sample->snapshot->daemon_socket, chosen->timeout_usec) == 0)
                sample->stats_known = client_stats(client, &sample->stats) == 0;
}

static void print_all(const struct sample *sample) {
        print_daemon_metrics(sample);
        print_build_info(sample);
        print_gpu_info(sample);
        print_gpu_metrics(sample);
        print_gpu_states(sample);
}

static int print_to_memory(struct sample *sample, char **ret_text, size_t *ret_size) {
        sample->stream = open_memstream(ret_text, ret_size);
        if (!sample->stream)
                return -errno;
        print_all(sample);
        return fclose(sample->stream) == 0 ? 0 : -errno;
}

static int write_textfile(const struct invocation *invocation, struct sample *sample, const char *path) {
        CLEANUP(free_ptr) char *text = NULL;
        size_t size;
        int r = print_to_memory(sample, &text, &size);

        if (r == 0)
                r = file_replace(path, text, size, 0644);
        if (r < 0)
                return complain(invocation, STATUS_FAILED, "cannot write %s: %s; what was there is as it was", path,
                                strerror(-r));
        return STATUS_DONE;
}

/* The collector reads no other names, silently: better to hear of it now. */
static bool is_collected(const char *path) {
        size_t length = strlen(path);

        return length > strlen(".prom") && text_equal(path + length - strlen(".prom"), ".prom");
}

static int run(const struct invocation *invocation) {
        const struct metrics_options *chosen = invocation->options;
        const struct snapshot_request request = {
                .root = invocation->root,
                .flags = SNAPSHOT_DAEMON,
                .timeout_usec = chosen->timeout_usec,
        };
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct sample sample = {.now_realtime_usec = clock_realtime_usec(), .stream = stdout};

        if (chosen->textfile && !is_collected(chosen->textfile))
                return complain_usage(invocation, "--textfile: the name '%.80s' does not end in .prom",
                                      chosen->textfile);
        if (snapshot_read(&request, &snapshot) < 0)
                return complain(invocation, STATUS_FAILED, "out of memory");
        sample.snapshot = snapshot;
        ask_stats(&sample, invocation);
        if (chosen->textfile)
                return write_textfile(invocation, &sample, chosen->textfile);
        print_all(&sample);
        return STATUS_DONE;
}

const struct command metrics_command = {
        .name = "metrics",
        .summary = "print metrics for Prometheus, or write them to a file",
        .description = "Prints the daemon's state in Prometheus' text format: what it holds, failures,\n"
                       "leases, calls. Without a daemon holdfast_up is 0. What is not known is left out.",
        .examples = "  holdfast metrics\n"
                    "  holdfast metrics --textfile /var/lib/prometheus/node-exporter/holdfast.prom",
        .options = options,
        .exits = exits,
        .defaults = &metrics_options,
        .run = run,
};
