/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probe: persistence mode that is off, and who switched it off. */

#include <limits.h>
#include <string.h>

#include "base/aside.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/node/service.h"
#include "config/config.h"

enum { COMMAND_LINE_SIZE = 4096 };

/* ---- the daemon's options and configuration ---------------------------------- */

/* The daemon's command line, from /proc/PID/cmdline, and its configuration. */
struct instructions {
        char words[COMMAND_LINE_SIZE]; /* each terminated; an empty one ends them */
        char config_path[PATH_MAX];
        struct config config;
        bool off_by_option;
};

static void take_word(struct instructions *instructions, const char *word, const char *next) {
        if (text_equal(word, "--persistence-mode"))
                instructions->off_by_option = false;
        else if (text_equal(word, "--no-persistence-mode"))
                instructions->off_by_option = true;
        else if (text_starts_with(word, "--config="))
                (void)text_copy(instructions->config_path, PATH_MAX, word + strlen("--config="));
        else if (text_equal(word, "--config"))
                (void)text_copy(instructions->config_path, PATH_MAX, next);
}

static void read_instructions(struct instructions *instructions, const struct examination *examination) {
        char path[64], error[CONFIG_ERROR_SIZE];
        ssize_t length;

        *instructions = (struct instructions){0};
        (void)locations_path(instructions->config_path, examination->locations, "/etc/holdfast/holdfast.conf");
        text_set(path, "/proc/%u/cmdline", (unsigned)examination->snapshot->head.pid);
        length = aside_read_file(path, instructions->words, sizeof(instructions->words) - 1);
        if (length >= 0)
                instructions->words[length + 1 < COMMAND_LINE_SIZE ? length + 1 : length] = '\0';
        for (const char *word = instructions->words; *word != '\0'; word += strlen(word) + 1)
                take_word(instructions, word, word + strlen(word) + 1);
        /* Without a configuration that can be read, the defaults count. */
        (void)config_read(&instructions->config, instructions->config_path, error);
}

/* ---- who switched it off ----------------------------------------------------- */

/* The daemon does not report why a GPU is not wanted. */
static bool is_being_unbound(const struct examination *examination, const struct snapshot_gpu *gpu) {
        return gpu->in_driver && !gpu->detail.leased &&
               inventory_is_bound(examination->locations, &gpu->info.address) == 0;
}

static void quote(const struct snapshot_gpu *gpu, const char *who, struct finding *finding) {
        finding_quote(finding, "%s: %s", gpu->label, who);
}

static void blame_holdfast(const struct examination *examination, const struct snapshot_gpu *gpu,
                           const struct instructions *instructions, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        char who[EVIDENCE_SIZE];

        if (gpu->detail.leased) {
                quote(gpu, "released by a lease (holdfast release runs); it is held again when that ends", finding);
                return;
        }
        if (is_being_unbound(examination, gpu)) {
                quote(gpu, "released because it is being unbound, which waits until no process has it open", finding);
                return;
        }
        if (config_persistence(&instructions->config, &gpu->info, (int)gpu->index) == CONFIG_OFF)
                text_set(who, "off by the configuration, %.300s", instructions->config_path);
        else if (instructions->off_by_option && gpu->detail.opens == 0)
                text_set(who, "off by the daemon's option --no-persistence-mode (/proc/%u/cmdline)",
                         (unsigned)snapshot->head.pid);
        else
                text_set(who, "switched off by a client (holdfast set, nvidia-smi -pm); %s since %s",
                         hf_gpu_state_name(gpu->detail.state), report_time_local(gpu->detail.since_realtime_usec).text);
        quote(gpu, who, finding);
}

/* False for a GPU that our daemon wants to hold: if it does not hold it, other probes report the reason. */
static bool is_off(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        if (gpu->info.excluded || gpu->persistence == PERSISTENCE_ON)
                return false;
        if (snapshot->daemon == DAEMON_HOLDFAST)
                return gpu->in_daemon && (!gpu->detail.wanted || gpu->detail.leased);
        return gpu->persistence == PERSISTENCE_OFF;
}

static void blame(const struct examination *examination, const struct snapshot_gpu *gpu,
                  const struct instructions *instructions, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (snapshot->daemon == DAEMON_HOLDFAST)
                blame_holdfast(examination, gpu, instructions, finding);
        else if (snapshot->daemon == DAEMON_NVIDIA)
                quote(gpu, "off in NVIDIA's daemon, by a client or --no-persistence-mode; it does not report which",
                      finding);
        else
                quote(gpu, "off: no daemon, and the kernel's flag is off", finding);
}

/* The GPUs that are off. */
struct off {
        size_t n_meant;    /* as configured, which is no problem */
        size_t n;          /* not as configured */
        char ids[200];     /* of these n: neither leased nor being unbound */
        char unbound[200]; /* of these n: being unbound */
};

static void set_cure(const struct examination *examination, const struct off *off, struct finding *finding) {
        if (!snapshot_has_daemon(examination->snapshot))
                finding_cure_unit(finding, examination, service_start_cure(examination->service));
        else if (off->ids[0] != '\0')
                finding_cure(finding, "holdfast set on --gpu %s", off->ids);
        else if (off->unbound[0] != '\0')
                finding_cure(finding, "holdfast clients --gpu %s", off->unbound);
        else
                finding_cure(finding, "holdfast wait --timeout infinity");
}

/* Off as configured. */
static bool is_meant(const struct snapshot_gpu *gpu) {
        return gpu->configured == HF_NO && !gpu->detail.leased;
}

static bool any_unknown(const struct snapshot *snapshot) {
        each_gpu(gpu, snapshot)
                if (snapshot->daemon != DAEMON_HOLDFAST && !gpu->info.excluded &&
                    gpu->persistence == PERSISTENCE_UNKNOWN)
                        return true;
        return false;
}

/* GPUs that the daemon wants and does not hold: it opens them now, or another probe reports their failure. */
static size_t count_awaited(const struct snapshot *snapshot) {
        size_t n = 0;

        each_gpu(gpu, snapshot)
                n += snapshot->daemon == DAEMON_HOLDFAST && gpu->detail.wanted && gpu->held != HF_YES &&
                     !gpu->info.excluded;
        return n;
}

static void judge_awaited(const struct snapshot *snapshot, struct finding *finding) {
        size_t n = count_awaited(snapshot);

        finding_quote(finding, "%zu of %zu GPUs held by the daemon", snapshot_count_held(snapshot), snapshot->n_gpus);
        if (n == 0)
                return;
        finding_set(finding, VERDICT_NOTE, "%zu GPU%s wanted, and not held yet", n, n == 1 ? " is" : "s are");
        finding_cure(finding, "holdfast wait");
}

static void add_off(const struct examination *examination, const struct snapshot_gpu *gpu,
                    const struct instructions *instructions, struct off *off, struct finding *finding) {
        blame(examination, gpu, instructions, finding);
        if (is_meant(gpu)) {
                off->n_meant++;
                return;
        }
        off->n++;
        if (gpu->detail.leased)
                return;
        if (is_being_unbound(examination, gpu))
                text_append_item(off->unbound, sizeof(off->unbound), ",", "%zu", gpu->index);
        else
                text_append_item(off->ids, sizeof(off->ids), ",", "%zu", gpu->index);
}

/* Problems come first. */
static void find_off(const struct examination *examination, const struct instructions *instructions, struct off *off,
                     struct finding *finding) {
        each_gpu(gpu, examination->snapshot)
                if (is_off(examination->snapshot, gpu) && !is_meant(gpu))
                        add_off(examination, gpu, instructions, off, finding);
        each_gpu(gpu, examination->snapshot)
                if (is_off(examination->snapshot, gpu) && is_meant(gpu))
                        add_off(examination, gpu, instructions, off, finding);
}

static void judge_off(const struct examination *examination, const struct off *off, struct finding *finding) {
        size_t n_gpus = examination->snapshot->n_gpus;
        char meant[64] = "";

        if (off->n == 0) {
                finding_set(finding, VERDICT_NOTE, "persistence mode is off for %zu of %zu GPUs, as configured",
                            off->n_meant, n_gpus);
                return;
        }
        if (off->n_meant > 0)
                text_set(meant, "; %zu more %s off as configured", off->n_meant, off->n_meant == 1 ? "is" : "are");
        finding_set(finding, VERDICT_PROBLEM, "persistence mode is off for %zu of %zu GPUs%s", off->n, n_gpus, meant);
        set_cure(examination, off, finding);
}

void probe_persistence(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        struct instructions instructions;
        struct off off = {0};

        read_instructions(&instructions, examination);
        find_off(examination, &instructions, &off, finding);
        if (off.n + off.n_meant > 0)
                judge_off(examination, &off, finding);
        else if (snapshot->n_gpus == 0 || any_unknown(snapshot))
                finding_set(finding, VERDICT_UNKNOWN, "%s",
                            snapshot->n_gpus == 0 ? "there are no GPUs to look at"
                                                  : "no daemon reports the mode of a GPU, and reading the "
                                                    "kernel's flag would open that GPU");
        else
                judge_awaited(snapshot, finding);
}
