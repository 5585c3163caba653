/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probe: what holdfast-settings.service has found of settings and hooks. */

#include "cli/doctor/doctor.h"
#include "cli/node/settings_state.h"

static void quote(const struct snapshot_gpu *gpu, struct finding *finding) {
        json_t *problems = settings_state_problems(gpu->settings), *problem;
        char label[64];
        size_t i;

        (void)report_label(gpu, label, sizeof(label));
        json_array_foreach(problems, i, problem) finding_quote(finding, "%s: %s", label, json_string_value(problem));
        json_decref(problems);
}

void probe_settings(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        size_t n = 0;

        for (size_t i = 0; i < snapshot->n_gpus; i++) {
                n += settings_state_count_differing(snapshot->gpus[i].settings);
                quote(&snapshot->gpus[i], finding);
        }
        if (n == 0)
                return;
        finding_set(finding, VERDICT_PROBLEM, "%zu setting%s or hook%s not as wanted", n, n == 1 ? "" : "s",
                    n == 1 ? "" : "s");
        finding_cure(finding, "holdfast settings apply");
}
