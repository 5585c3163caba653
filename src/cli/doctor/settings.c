/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probe: settings and hooks, as holdfast-settings.service has found them. */

#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/node/settings_state.h"

static void quote(const struct snapshot_gpu *gpu, struct finding *finding) {
        json_t *problems = settings_state_problems(gpu->settings), *problem;
        size_t i;

        json_array_foreach(problems, i, problem)
                finding_quote(finding, "%s: %s", gpu->label, json_string_value(problem));
        json_decref(problems);
}

void probe_settings(const struct examination *examination, struct finding *finding) {
        size_t n = 0;

        each_gpu(gpu, examination->snapshot) {
                n += settings_state_count_differing(gpu->settings);
                quote(gpu, finding);
        }
        if (n == 0)
                return;
        finding_set(finding, VERDICT_PROBLEM, "%zu setting%s or hook%s not as wanted", n, text_plural(n),
                    text_plural(n));
        finding_cure(finding, "holdfast settings apply");
}
