#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What `holdfast doctor` looks for. A probe looks for one kind of trouble and gives one finding: a verdict, one
 * sentence, what was read that shows it, and a command that cures it. Probes look only: no GPU is opened, nothing is
 * changed.
 *
 *      snapshot, service --> examination --> probe 1 .. n --> findings --> text or JSON
 */

#include "base/locations.h"
#include "cli/node/snapshot.h"
#include "cli/report/report.h"

enum {
        EVIDENCE_MAX = 8, /* GPUs of the largest usual node; further ones are counted */
        EVIDENCE_SIZE = 448,
};

enum verdict {
        VERDICT_OK,
        VERDICT_PROBLEM,
        VERDICT_NOTE,    /* nothing is wrong, but who wonders about a GPU should know it; not counted */
        VERDICT_UNKNOWN, /* it cannot be told from here */
};

struct finding {
        enum verdict verdict;
        char summary[256];
        size_t n_evidence; /* also those that found no room */
        char evidence[EVIDENCE_MAX][EVIDENCE_SIZE];
        char cure[320];         /* a command; empty: there is nothing to do, or no command does it */
        char runbook[PATH_MAX]; /* where this node has it, or else its place in the project */
};

struct service;

/* All that was gathered once, for the probes to look at. */
struct examination {
        const struct locations *locations;
        const struct snapshot *snapshot;
        const struct service *service;
        char runtime_directory[128]; /* of the socket and the pid file */
};

struct probe {
        const char *id;
        const char *title;   /* what is right when it finds nothing */
        const char *runbook; /* docs/runbooks/NAME.md */
        void (*examine)(const struct examination *examination, struct finding *finding);
};

/* ---- filling in a finding (cli/doctor/doctor.c) ---- */

/* Sets verdict and sentence. */
void finding_set(struct finding *finding, enum verdict verdict, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Adds what was read. Made printable: it may be anybody's text. */
void finding_quote(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

void finding_cure(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same of a template: its words UNIT become the unit's name (service_command()). */
void finding_cure_unit(struct finding *finding, const struct examination *examination, const char *template);

/* ---- printing (cli/doctor/report.c) ---- */

/* Problems first, then notes; what cannot be told and, if verbose, what is right. findings are in the probes' order. */
void doctor_text(const struct probe *probes, const struct finding *findings, size_t n, bool verbose,
                 const struct report_style *style, FILE *stream);

/* docs/schemas/doctor.json. NULL: out of memory. */
json_t *doctor_json(const struct probe *probes, const struct finding *findings, size_t n);

size_t doctor_count(const struct finding *findings, size_t n, enum verdict verdict);

/* ---- the probes, by file ---- */

/* cli/doctor/driver.c */
void probe_gpu_on_bus(const struct examination *examination, struct finding *finding);
void probe_driver_module(const struct examination *examination, struct finding *finding);
void probe_driver_loaded(const struct examination *examination, struct finding *finding);

/* cli/doctor/files.c */
void probe_versions(const struct examination *examination, struct finding *finding);
void probe_nodes(const struct examination *examination, struct finding *finding);

/* cli/doctor/service.c */
void probe_unit(const struct examination *examination, struct finding *finding);
void probe_unit_exec(const struct examination *examination, struct finding *finding);
void probe_unit_result(const struct examination *examination, struct finding *finding);
void probe_runtime_directory(const struct examination *examination, struct finding *finding);

/* cli/doctor/socket.c */
void probe_daemon(const struct examination *examination, struct finding *finding);
void probe_daemon_kind(const struct examination *examination, struct finding *finding);
void probe_one_daemon(const struct examination *examination, struct finding *finding);
void probe_socket(const struct examination *examination, struct finding *finding);
void probe_socket_inode(const struct examination *examination, struct finding *finding);

/* cli/doctor/unbind.c */
void probe_unbind(const struct examination *examination, struct finding *finding);

/* cli/doctor/persistence.c */
void probe_persistence(const struct examination *examination, struct finding *finding);

/* cli/doctor/gpu.c */
void probe_excluded(const struct examination *examination, struct finding *finding);
void probe_fabric(const struct examination *examination, struct finding *finding);
void probe_initialisation(const struct examination *examination, struct finding *finding);
void probe_stuck(const struct examination *examination, struct finding *finding);

/* cli/doctor/holders.c */
void probe_other_holder(const struct examination *examination, struct finding *finding);
void probe_reset(const struct examination *examination, struct finding *finding);

/* cli/doctor/settings.c */
void probe_settings(const struct examination *examination, struct finding *finding);
