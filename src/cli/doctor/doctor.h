#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Probes of `holdfast doctor`. Each looks for one kind of problem and gives one finding: a verdict, a sentence,
 * evidence, and what cures it, usually a command. Probes open no GPU and change nothing.
 *
 *      snapshot, service --> examination --> probe 1 .. n --> findings --> text or JSON
 */

#include "base/locations.h"
#include "cli/node/snapshot.h"
#include "cli/report/report.h"

enum {
        EVIDENCE_MAX = 8, /* a node has rarely more GPUs; further ones are only counted */
        EVIDENCE_SIZE = 448,
};

enum verdict {
        VERDICT_OK,
        VERDICT_PROBLEM,
        VERDICT_NOTE,    /* no problem, but it explains what one may wonder about; not counted */
        VERDICT_UNKNOWN, /* it cannot be found out here */
};

struct finding {
        enum verdict verdict;
        char summary[256];
        size_t n_evidence; /* also those without room */
        char evidence[EVIDENCE_MAX][EVIDENCE_SIZE];
        char cure[320];         /* a command; empty: there is none */
        char runbook[PATH_MAX]; /* its path on this node, or else in the project */
};

struct service;

/* Gathered once, for all probes. */
struct examination {
        const struct locations *locations;
        const struct snapshot *snapshot;
        const struct service *service;
        char runtime_directory[128]; /* of the socket and the pid file */
};

struct probe {
        const char *id;
        const char *title;   /* what is true if it finds nothing */
        const char *runbook; /* docs/runbooks/NAME.md */
        void (*examine)(const struct examination *examination, struct finding *finding);
};

/* ---- filling in a finding (cli/doctor/doctor.c) ---- */

/* Sets verdict and sentence. */
void finding_set(struct finding *finding, enum verdict verdict, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Adds evidence, and makes it printable: other programs may have written it. */
void finding_quote(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

void finding_cure(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same from a template, in which UNIT stands for the unit's name (service_command()). */
void finding_cure_unit(struct finding *finding, const struct examination *examination, const char *template);

/* ---- printing (cli/doctor/report.c) ---- */

/* Problems first, then notes and unknowns; if verbose also what is OK. findings are in the probes' order. */
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
