/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast doctor: looks for known problems; shows evidence and cure of those that it finds. */

#include "cli/doctor/doctor.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/node/service.h"

enum {
        STATUS_PROBLEMS_MAX = 100,
        STATUS_DOCTOR_FAILED = 125,
};

/* In the order of causes: an early problem explains later ones. */
static const struct probe probes[] = {
        {"gpu-on-bus", "the GPUs are on the PCI bus", "kernel-or-gpu-missing", probe_gpu_on_bus},
        {"driver-module", "this kernel has the driver's module", "kernel-or-gpu-missing", probe_driver_module},
        {"driver-loaded", "the driver is loaded and lists every GPU", "driver-not-loaded", probe_driver_loaded},
        {"versions", "driver and libraries have the same version", "version-mismatch", probe_versions},
        {"nodes", "the device nodes are there and can be opened", "nodes-missing", probe_nodes},
        {"unit", "the unit is there and enabled", "unit-masked-or-disabled", probe_unit},
        {"unit-exec", "the unit's program can be executed", "exec-failed", probe_unit_exec},
        {"unit-result", "the unit has not failed", "daemon-not-running", probe_unit_result},
        {"runtime-directory", "the daemon's user can write to its directory", "runtime-directory",
         probe_runtime_directory},
        {"daemon", "a persistence daemon runs", "daemon-not-running", probe_daemon},
        {"daemon-kind", "the daemon is Holdfast's", "migration-from-nvidia", probe_daemon_kind},
        {"one-daemon", "only one daemon runs", "socket", probe_one_daemon},
        {"socket", "the socket answers, for everybody", "socket", probe_socket},
        {"socket-inode", "daemon and containers have the same socket", "socket", probe_socket_inode},
        {"persistence", "persistence mode is on", "persistence-off", probe_persistence},
        {"unbind", "the daemon learns of unbinds", "gpu-stuck", probe_unbind},
        {"excluded", "no GPU is excluded from the driver", "gpu-excluded", probe_excluded},
        {"initialisation", "every GPU initialises", "gpu-lost-or-failing", probe_initialisation},
        {"stuck", "no GPU is stuck in the driver", "gpu-stuck", probe_stuck},
        {"fabric", "UVM and the NVLink fabric are ready", "fabric-not-ready", probe_fabric},
        {"other-holder", "only the daemon keeps GPUs initialised", "other-holder", probe_other_holder},
        {"reset", "no client blocks a reset", "reset-and-ecc", probe_reset},
        {"settings", "settings and hooks are as wanted", "settings-differ", probe_settings},
};

/* ---- filling in a finding ---- */

void finding_set(struct finding *finding, enum verdict verdict, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(finding->summary, sizeof(finding->summary), format, arguments);
        va_end(arguments);
        (void)text_printable(finding->summary);
        finding->verdict = verdict;
}

void finding_quote(struct finding *finding, const char *format, ...) {
        size_t i = finding->n_evidence++;
        va_list arguments;

        if (i >= EVIDENCE_MAX)
                return;
        va_start(arguments, format);
        (void)vsnprintf(finding->evidence[i], EVIDENCE_SIZE, format, arguments);
        va_end(arguments);
        (void)text_printable(finding->evidence[i]);
}

void finding_cure(struct finding *finding, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(finding->cure, sizeof(finding->cure), format, arguments);
        va_end(arguments);
        (void)text_printable(finding->cure);
}

void finding_cure_unit(struct finding *finding, const struct examination *examination, const char *template) {
        service_command(examination->service, template, finding->cure, sizeof(finding->cure));
        (void)text_printable(finding->cure);
}

/* ---- the command ---- */

static struct doctor_options {
        bool json;
        bool verbose;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 5 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_JSON(struct doctor_options, "print JSON (docs/schemas/doctor.json)"),
        OPTION_LETTER(struct doctor_options, verbose, "verbose", 'v',
                      "also show checks without a problem, and all details of the others"),
        OPTION_TIMEOUT(struct doctor_options, "wait that long for the daemon's and for systemd's answer (default 5)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "no problem was found"},
        {1, "one problem was found; 2 to 100: that many (100: or more)"},
        {STATUS_DOCTOR_FAILED, "the command itself failed, or wrong usage"},
        {0},
};

/* The number of problems; but STATUS_DOCTOR_FAILED if the output could not be written. */
static int status_of(const struct invocation *invocation, size_t problems) {
        if (fflush(stdout) != 0 || ferror(stdout))
                return STATUS_DOCTOR_FAILED;
        return problems < STATUS_PROBLEMS_MAX ? (int)problems : STATUS_PROBLEMS_MAX;
}

static void find_runbook(const struct locations *locations, const char *name, struct finding *finding) {
        char installed[256];

        text_set(installed, HOLDFAST_DOC_DIR "/runbooks/%s.md", name);
        if (locations_path(finding->runbook, locations, installed) < 0 || access(finding->runbook, F_OK) < 0)
                text_set(finding->runbook, "docs/runbooks/%s.md", name);
}

static int examine(const struct invocation *invocation, const struct examination *examination) {
        CLEANUP(free_ptr) struct finding *findings = calloc(ARRAY_SIZE(probes), sizeof(*findings));
        struct report_style style = report_style_of(stdout);

        if (!findings)
                return complain_memory(invocation);
        for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
                finding_set(&findings[i], VERDICT_OK, "%s", probes[i].title);
                probes[i].examine(examination, &findings[i]);
                find_runbook(examination->locations, probes[i].runbook, &findings[i]);
        }
        if (!chosen.json)
                doctor_text(probes, findings, ARRAY_SIZE(probes), chosen.verbose, &style, stdout);
        else if (command_print_json(invocation, doctor_json(probes, findings, ARRAY_SIZE(probes))) != STATUS_DONE)
                return STATUS_DOCTOR_FAILED;
        return status_of(invocation, doctor_count(findings, ARRAY_SIZE(probes), VERDICT_PROBLEM));
}

/* The socket's folder. */
static void find_runtime_directory(struct examination *examination) {
        char *end;

        text_set(examination->runtime_directory, "%s", examination->snapshot->daemon_socket);
        end = strrchr(examination->runtime_directory, '/');
        if (end)
                *end = '\0';
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct examination examination = {.locations = invocation->locations};
        struct service service;

        if (command_look(invocation, SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE, chosen.timeout_usec,
                         &snapshot) != STATUS_DONE)
                return STATUS_DOCTOR_FAILED;
        examination.snapshot = snapshot;
        service_find(&service, invocation->locations, snapshot_find_daemon(snapshot), chosen.timeout_usec);
        examination.service = &service;
        find_runtime_directory(&examination);
        return examine(invocation, &examination);
}

const struct command doctor_command = {
        .name = "doctor",
        .summary = "find what is wrong, and how to cure it",
        .description = "Checks the driver, the device nodes, the unit, the daemon, its socket, and each\n"
                       "GPU. For each problem it shows the evidence, what cures it (usually a command),\n"
                       "and the runbook. Notes are not counted as problems. It changes nothing and\n"
                       "opens no GPU. As root it sees more.",
        .examples = "  holdfast doctor\n"
                    "  holdfast doctor --verbose\n"
                    "  holdfast doctor --json | jq '.checks[] | select(.verdict == \"problem\").cure'",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .failed_status = STATUS_DOCTOR_FAILED,
        .run = run,
};
