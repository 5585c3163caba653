/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast metrics: the state of the daemon and of the GPUs in Prometheus' text format. Without a daemon, it prints
 * what the driver lists, and that no daemon runs. It reads the driver's files, but opens no GPU.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/gpu_values.h"
#include "cli/report/metrics_writer.h"
#include "client/client.h"

enum { GPU_LABELS_MAX = 4 };

static struct metrics_options {
        bool json;
        const char *textfile;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_JSON(struct metrics_options, "print JSON (docs/schemas/metrics.json)"),
        OPTION_VALUE(struct metrics_options, textfile, OPTION_TEXT, "textfile", "PATH",
                     "write them to this file, as a whole or not at all, for node_exporter's textfile collector; its "
                     "name must end in .prom"),
        OPTION_TIMEOUT(struct metrics_options, "wait that long for the daemon's answer (default 5)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "written, even if no daemon runs (holdfast_up is then 0)"},
        {STATUS_FAILED, "the file could not be written; the old one is unchanged"},
        {STATUS_USAGE, "wrong usage"},
        {0},
};

struct scrape {
        const struct snapshot *snapshot;
        struct hf_stats stats;
        bool stats_known;
        struct metrics_writer writer;
};

static const struct metrics_label no_labels[] = {{0}};

static bool is_ours(const struct scrape *scrape) {
        return scrape->snapshot->daemon == DAEMON_HOLDFAST;
}

/* ---- metrics of the daemon ------------------------------------------------------------------------------------ */

#define DAEMON_VALUE(name, expression)                                                                                 \
        static struct value get_##name(const struct scrape *scrape) {                                                  \
                return expression;                                                                                     \
        }
#define STATS_VALUE(member)                                                                                            \
        DAEMON_VALUE(member, scrape->stats_known ? value_number(scrape->stats.member) : (struct value){0})

DAEMON_VALUE(up, value_boolean(snapshot_has_daemon(scrape->snapshot)))
DAEMON_VALUE(gpus, value_number(scrape->snapshot->n_gpus))
DAEMON_VALUE(ready, is_ours(scrape) ? value_boolean(scrape->snapshot->head.ready) : (struct value){0})
DAEMON_VALUE(started, value_time(is_ours(scrape) ? scrape->snapshot->head.started_realtime_usec : 0))
DAEMON_VALUE(last_check, value_time(scrape->snapshot->realtime_usec))
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
        const char *help;
        struct value (*get)(const struct scrape *scrape);
} daemon_metrics[] = {
        {"holdfast_up", "Whether a persistence daemon, Holdfast's or NVIDIA's, answers.", get_up},
        {"holdfast_gpus", "GPUs known to the driver or the daemon.", get_gpus},
        {"holdfast_daemon_ready", "Whether the daemon has tried every GPU that was present at its start.", get_ready},
        {"holdfast_daemon_start_time_seconds", "When the daemon started, in seconds since the epoch.", get_started},
        {"holdfast_last_check_timestamp_seconds", "When this was written, in seconds since the epoch.", get_last_check},
        {"holdfast_sessions", "Connections that the daemon has open.", get_sessions},
        {"holdfast_sessions_limit", "Maximum number of connections of the daemon.", get_sessions_max},
        {"holdfast_leases", "Leases that are active now.", get_leases},
        {"holdfast_connections_total", "Connections accepted.", get_accepted},
        {"holdfast_sessions_evicted_total", "Connections closed to make room for another.", get_evicted},
        {"holdfast_sessions_expired_total",
         "Connections closed because a call was incomplete or a reply was not read for too long.", get_expired},
        {"holdfast_sessions_malformed_total", "Connections closed because of an invalid record.", get_malformed},
        {"holdfast_calls_total", "Calls of a known method.", get_calls},
        {"holdfast_calls_rejected_total",
         "Calls of an unknown program, version or procedure, or with invalid arguments.", get_rejected},
        {"holdfast_calls_refused_total", "RPC calls refused for lack of permission.", get_refused},
};

static void tell_daemon_metrics(struct scrape *scrape) {
        for (size_t i = 0; i < ARRAY_SIZE(daemon_metrics); i++) {
                const struct value value = daemon_metrics[i].get(scrape);
                double sample;

                if (!value_sample(&value, &sample))
                        continue;
                metrics_family(&scrape->writer, daemon_metrics[i].name, daemon_metrics[i].help);
                metrics_series(&scrape->writer, no_labels, sample);
        }
}

static void tell_build_info(struct scrape *scrape) {
        const struct snapshot *snapshot = scrape->snapshot;
        const struct metrics_label build[] = {{"version", HOLDFAST_VERSION}, {0}};
        const struct metrics_label daemon[] = {
                {"kind", is_ours(scrape) ? "holdfast" : "nvidia"},
                {"version", is_ours(scrape) ? snapshot->head.version : ""},
                {"backend", is_ours(scrape) ? snapshot->head.backend : ""},
                {0},
        };

        metrics_family(&scrape->writer, "holdfast_build_info", "The version of the holdfast command that wrote this.");
        metrics_series(&scrape->writer, build, 1);
        if (!snapshot_has_daemon(snapshot))
                return;
        metrics_family(&scrape->writer, "holdfast_daemon_info", "Which daemon answers; NVIDIA's reports no version.");
        metrics_series(&scrape->writer, daemon, 1);
}

/* ---- metrics of each GPU -------------------------------------------------------------------------------------- */

/* NVML's rule: on if the daemon holds the GPU, or if the kernel's flag is set. Only our daemon reports the flag, so the
 * value is unknown without a daemon. */
static struct value get_persistence(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        bool known = gpu->held == HF_YES || gpu->legacy != HF_UNKNOWN ||
                     (snapshot_has_daemon(snapshot) && gpu->held == HF_NO);

        return known ? value_boolean(gpu->held == HF_YES || gpu->legacy == HF_YES) : (struct value){0};
}

static struct value is_uvm(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, enum hf_uvm_state state) {
        return snapshot_has_detail(snapshot, gpu) ? value_boolean(gpu->detail.uvm == state) : (struct value){0};
}

static struct value get_uvm_on(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return is_uvm(snapshot, gpu, HF_UVM_ON);
}

static struct value get_uvm_waiting(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return is_uvm(snapshot, gpu, HF_UVM_WAITING);
}

static const struct {
        const char *name;
        const char *help;
        gpu_value *get;
} gpu_metrics[] = {
        {"holdfast_gpu_held", "Whether the daemon holds the GPU.", gpu_held},
        {"holdfast_gpu_persistence_mode",
         "Persistence mode as NVML reports it: held by the daemon, or kept initialised by the kernel's own flag.",
         get_persistence},
        {"holdfast_gpu_legacy_flag", "Whether the kernel's own, deprecated persistence flag is on.", gpu_legacy},
        {"holdfast_gpu_excluded", "Whether the administrator has excluded the GPU from the driver.", gpu_excluded},
        {"holdfast_gpu_wanted", "Whether the daemon wants to hold the GPU.", gpu_wanted},
        {"holdfast_gpu_configured", "Whether the daemon's options and configuration file enable persistence.",
         gpu_configured},
        {"holdfast_gpu_leased", "Whether a lease keeps the GPU released.", gpu_leased},
        {"holdfast_gpu_stuck", "Whether a driver call for the GPU has taken longer than the limit.", gpu_stuck},
        {"holdfast_gpu_state_since_timestamp_seconds",
         "Since when the GPU is in its state, in seconds since the epoch.", gpu_since},
        {"holdfast_gpu_open_duration_seconds", "How long the driver took to open the GPU last.", gpu_open},
        {"holdfast_gpu_opens_total", "Successful opens of the GPU by this daemon.", gpu_opens},
        {"holdfast_gpu_failures_total", "Failed opens of the GPU by this daemon.", gpu_failures},
        {"holdfast_gpu_uvm_persistence", "Whether UVM persistence is on.", get_uvm_on},
        {"holdfast_gpu_uvm_waiting", "Whether UVM persistence is requested but not on yet.", get_uvm_waiting},
};

/* A GPU's value, under index and address as DCGM's exporter and nvidia-smi spell it, so that series can be joined. */
static void tell_gpu(struct scrape *scrape, const struct snapshot_gpu *gpu, const struct metrics_label *more,
                     double value) {
        char index[24], bus_id[PCI_ADDRESS_SIZE];
        struct metrics_label labels[GPU_LABELS_MAX + 1] = {
                {"gpu", index},
                {"pci_bus_id", pci_address_format_nvml(&gpu->info.address, bus_id)},
        };
        size_t n = 2;

        text_set(index, "%zu", gpu->index);
        for (; more->name; more++)
                labels[n++] = *more;
        metrics_series(&scrape->writer, labels, value);
}

static void tell_gpu_metrics(struct scrape *scrape) {
        for (size_t i = 0; i < ARRAY_SIZE(gpu_metrics); i++) {
                bool begun = false;

                each_gpu(gpu, scrape->snapshot) {
                        const struct value value = gpu_metrics[i].get(scrape->snapshot, gpu);
                        double sample;

                        if (!value_sample(&value, &sample))
                                continue;
                        if (!begun)
                                metrics_family(&scrape->writer, gpu_metrics[i].name, gpu_metrics[i].help);
                        begun = true;
                        tell_gpu(scrape, gpu, no_labels, sample);
                }
        }
}

static void tell_gpu_info(struct scrape *scrape) {
        if (scrape->snapshot->n_gpus > 0)
                metrics_family(&scrape->writer, "holdfast_gpu_info", "Each GPU's names; the value is always 1.");
        each_gpu(gpu, scrape->snapshot) {
                const struct metrics_label names[] = {{"uuid", gpu->info.uuid}, {"model", gpu->info.model}, {0}};

                tell_gpu(scrape, gpu, names, 1);
        }
}

/* Alerts wait for some minutes of "failed", so a retry must not interrupt that state. */
static uint32_t state_of(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot_has_failed(snapshot, gpu) ? HF_GPU_FAILED : gpu->detail.state;
}

/* One series for each state, exactly one of them 1, so that alerts can count GPUs by state. */
static void tell_gpu_states(struct scrape *scrape) {
        const struct snapshot *snapshot = scrape->snapshot;

        if (!is_ours(scrape) || snapshot->head.n_gpus == 0)
                return;
        metrics_family(&scrape->writer, "holdfast_gpu_state",
                       "Which state the GPU is in; failed also while the daemon retries it.");
        each_gpu(gpu, snapshot)
                for (uint32_t state = HF_GPU_RELEASED; state <= HF_GPU_FAILED; state++) {
                        const struct metrics_label label[] = {{"state", hf_gpu_state_name(state)}, {0}};

                        if (gpu->in_daemon)
                                tell_gpu(scrape, gpu, label, state_of(snapshot, gpu) == state);
                }
}

/* ---- settings of GPUs ----------------------------------------------------------------------------------------- */

static const struct {
        const char *name;
        const char *key; /* in docs/schemas/settings.json */
        const char *help;
} setting_metrics[] = {
        {"holdfast_setting_wanted", "wanted_value", "The wanted setting: watts, MHz, NVML's number of a mode, 0 or 1."},
        {"holdfast_setting_actual", "actual_value", "The GPU's actual setting, in the same unit."},
        {"holdfast_setting_drift", "differs", "Whether the setting differs from the wanted one, or is unknown."},
};

static void tell_settings_of(struct scrape *scrape, const struct snapshot_gpu *gpu, const char *key) {
        json_t *setting;
        size_t i;

        json_array_foreach(json_object_get(gpu->settings, "settings"), i, setting) {
                const char *name = json_string_value(json_object_get(setting, "name"));
                const json_t *value = json_object_get(setting, key);
                const struct metrics_label label[] = {{"setting", name}, {0}};

                if (name && json_is_boolean(value))
                        tell_gpu(scrape, gpu, label, json_is_true(value));
                else if (name && json_is_integer(value))
                        tell_gpu(scrape, gpu, label, (double)json_integer_value(value));
        }
}

/* What holdfast-settings.service has found; nothing if it does not run. */
static void tell_settings(struct scrape *scrape) {
        if (!scrape->snapshot->settings)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(setting_metrics); i++) {
                metrics_family(&scrape->writer, setting_metrics[i].name, setting_metrics[i].help);
                each_gpu(gpu, scrape->snapshot)
                        tell_settings_of(scrape, gpu, setting_metrics[i].key);
        }
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static void ask_stats(struct scrape *scrape, const struct invocation *invocation) {
        CLEANUP(client_done) struct client *client = NULL;

        if (is_ours(scrape) && client_connect(&client, scrape->snapshot->daemon_socket, chosen.timeout_usec) == 0)
                scrape->stats_known = client_stats(client, &scrape->stats) == 0;
}

static void tell_all(struct scrape *scrape) {
        tell_daemon_metrics(scrape);
        tell_build_info(scrape);
        tell_gpu_info(scrape);
        tell_gpu_metrics(scrape);
        tell_gpu_states(scrape);
        tell_settings(scrape);
}

static int print_json(const struct invocation *invocation, struct scrape *scrape) {
        json_t *document;

        scrape->writer.families = json_array();
        tell_all(scrape);
        document = json_pack("{s:s, s:o}", "schema", "holdfast.metrics/1", "metrics", scrape->writer.families);
        if (scrape->writer.out_of_memory) {
                json_decref(document);
                document = NULL;
        }
        return command_print_json(invocation, document);
}

static int print_to_memory(struct scrape *scrape, char **ret_text, size_t *ret_size) {
        scrape->writer.stream = open_memstream(ret_text, ret_size);
        if (!scrape->writer.stream)
                return -errno;
        tell_all(scrape);
        return fclose(scrape->writer.stream) == 0 ? 0 : -errno;
}

static int write_textfile(const struct invocation *invocation, struct scrape *scrape, const char *path) {
        CLEANUP(free_ptr) char *text = NULL;
        size_t size;
        int r = print_to_memory(scrape, &text, &size);

        if (r == 0)
                r = file_replace(path, text, size, 0644);
        if (r < 0)
                return complain(invocation, STATUS_FAILED, "cannot write %s: %s; the old file is unchanged", path,
                                strerror(-r));
        return STATUS_DONE;
}

/* The collector silently ignores other names. */
static bool is_collected(const char *path) {
        size_t length = strlen(path);

        return length > strlen(".prom") && text_equal(path + length - strlen(".prom"), ".prom");
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct scrape scrape = {0};

        if (chosen.textfile && !is_collected(chosen.textfile))
                return complain_usage(invocation, "--textfile: the name '%.80s' does not end in .prom",
                                      chosen.textfile);
        if (chosen.textfile && chosen.json)
                return complain_usage(invocation, "--json and --textfile: the collector reads no JSON");
        if (command_look(invocation, SNAPSHOT_DAEMON, chosen.timeout_usec, &snapshot) != STATUS_DONE)
                return STATUS_FAILED;
        scrape.snapshot = snapshot;
        ask_stats(&scrape, invocation);
        if (chosen.textfile)
                return write_textfile(invocation, &scrape, chosen.textfile);
        if (chosen.json)
                return print_json(invocation, &scrape);
        scrape.writer.stream = stdout;
        tell_all(&scrape);
        return STATUS_DONE;
}

const struct command metrics_command = {
        .name = "metrics",
        .summary = "print metrics for Prometheus, or write them to a file",
        .description = "Prints the daemon's state in Prometheus' text format: what it holds, failures,\n"
                       "leases, calls. Without a daemon holdfast_up is 0. Unknown values are left out.",
        .examples = "  holdfast metrics\n"
                    "  holdfast metrics --textfile /var/lib/prometheus/node-exporter/holdfast.prom",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
