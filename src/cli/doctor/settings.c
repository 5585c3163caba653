/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probe: what holdfast-settings.service has found of settings and hooks. */

#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/node/settings_state.h"

static const char *text_of(const json_t *row, const char *key) {
        const char *text = json_string_value(json_object_get(row, key));

        return text ? text : "?";
}

static void quote(const struct snapshot_gpu *gpu, const json_t *found, struct finding *finding) {
        char label[64];
        json_t *row;
        size_t i;

        (void)report_label(gpu, label, sizeof(label));
        json_array_foreach(json_object_get(found, "settings"), i, row) {
                if (json_is_true(json_object_get(row, "differs")))
                        finding_quote(finding, "%s: %s, wanted %s: %s", label, text_of(row, "name"),
                                      text_of(row, "wanted"), text_of(row, "reason"));
        }
        json_array_foreach(json_object_get(found, "hooks"), i, row) {
                if (json_is_string(json_object_get(row, "failure")))
                        finding_quote(finding, "%s: hook %s at event %s: %s", label, text_of(row, "name"),
                                      text_of(row, "event"), text_of(row, "failure"));
        }
}

void probe_settings(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        json_t *document = NULL;
        size_t n = 0;

        if (settings_state_read(examination->locations, &document) < 0)
                return; /* the service does not run: nobody need want settings */
        for (size_t i = 0; i < snapshot->n_gpus; i++) {
                char address[PCI_ADDRESS_SIZE];
                const json_t *found =
                        settings_state_find(document, pci_address_format(&snapshot->gpus[i].info.address, address));

                n += settings_state_count_differing(found);
                quote(&snapshot->gpus[i], found, finding);
        }
        json_decref(document);
        if (n == 0)
                return;
        finding_set(finding, VERDICT_PROBLEM, "%zu setting%s or hook%s not as wanted", n, n == 1 ? "" : "s",
                    n == 1 ? "" : "s");
        finding_cure(finding, "holdfast settings apply");
}
