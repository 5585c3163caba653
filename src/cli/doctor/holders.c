/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: what keeps a GPU initialised besides the daemon, and which clients block its reset. */

#include <string.h>

#include "base/locations.h"
#include "cli/doctor/doctor.h"

#define HIDDEN "clients of other users cannot be seen; run as root"

/* Whether the GPU is to be released or has failed. Other clients then block the release, or a reset. */
static bool is_to_be_free(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot_has_detail(snapshot, gpu) &&
               (gpu->detail.leased || gpu->detail.state == HF_GPU_FAILED || gpu->detail.state == HF_GPU_CLOSING);
}

/* ---- other holders ----------------------------------------------------------- */

static void judge_modeset(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        enum verdict verdict = VERDICT_NOTE;

        if (!snapshot->modeset)
                return;
        each_gpu(gpu, snapshot)
                if (is_to_be_free(snapshot, gpu))
                        verdict = VERDICT_PROBLEM;
        finding_set(finding, verdict, "nvidia-drm keeps every GPU initialised from inside the kernel%s",
                    verdict == VERDICT_PROBLEM ? ": a released GPU is not free" : "");
        finding_quote(finding, "%s/sys/module/nvidia_drm/parameters/modeset: Y", examination->locations->root);
        finding_cure(finding,
                     "echo 'options nvidia-drm modeset=0' > /etc/modprobe.d/nvidia-drm.conf && modprobe -r nvidia_drm");
}

static void judge_flag(const struct examination *examination, struct finding *finding) {
        each_gpu(gpu, examination->snapshot) {
                if (gpu->legacy != HF_YES)
                        continue;
                if (finding->verdict == VERDICT_OK) {
                        finding_set(finding, VERDICT_NOTE,
                                    "the kernel's own persistence flag is on, which a later driver will not have");
                        finding_cure_unit(finding, examination,
                                          "systemctl stop UNIT; nvidia-smi -pm 0; systemctl start UNIT");
                }
                finding_quote(finding, "%s: %s", gpu->label,
                              gpu->legacy_inferred ? "initialised, although no process has it open"
                                                   : "the driver says so");
        }
}

/* Whether the flag is unknown and may be on. If persistence mode is known to be off, so is the flag. */
static bool is_flag_unknown(const struct snapshot_gpu *gpu) {
        return gpu->legacy == HF_UNKNOWN && gpu->persistence != PERSISTENCE_OFF;
}

static void admit_unknown_flags(const struct snapshot *snapshot, struct finding *finding) {
        each_gpu(gpu, snapshot) {
                if (!is_flag_unknown(gpu))
                        continue;
                finding_set(finding, VERDICT_UNKNOWN,
                            "it is not known whether the kernel's own persistence flag is on");
                finding_quote(finding, "%s: %s, and its flag is not known", gpu->label, snapshot_state(snapshot, gpu));
        }
}

void probe_other_holder(const struct examination *examination, struct finding *finding) {
        judge_modeset(examination, finding);
        judge_flag(examination, finding);
        if (finding->verdict != VERDICT_OK)
                return;
        if (!examination->snapshot->driver_loaded)
                finding_set(finding, VERDICT_UNKNOWN, "unknown without the driver");
        else
                admit_unknown_flags(examination->snapshot, finding);
}

/* ---- reset ------------------------------------------------------------------- */

static size_t quote_clients(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, struct finding *finding) {
        size_t n = 0;

        for (size_t i = 0; i < gpu->n_clients; i++) {
                const struct holder *client = &gpu->clients[i];

                if (!snapshot_is_client(snapshot, client))
                        continue;
                finding_quote(finding, "%s: %s (pid %d) has it open", gpu->label,
                              client->name[0] ? client->name : "a process", (int)client->pid);
                n++;
        }
        return n;
}

void probe_reset(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        char gap[SNAPSHOT_GAP_SIZE];
        const char *why = snapshot_gap(snapshot, HIDDEN, gap, sizeof(gap));
        size_t n = 0;

        each_gpu(gpu, snapshot) {
                size_t n_clients = quote_clients(snapshot, gpu, finding);

                n += n_clients;
                if (n_clients > 0 && is_to_be_free(snapshot, gpu))
                        finding_set(finding, VERDICT_PROBLEM,
                                    "a GPU should be free, but clients have it open: it cannot be reset");
        }
        if (n > 0 && finding->verdict == VERDICT_OK)
                finding_set(finding, VERDICT_NOTE, "clients have GPUs open: those cannot be reset now");
        if (n > 0)
                finding_cure(finding, "end those jobs, then: holdfast release -- nvidia-smi --gpu-reset");
        else if (!snapshot->clients_known || why)
                finding_set(finding, VERDICT_UNKNOWN, "%s", why ? why : HIDDEN);
        if (n > 0 && why)
                finding_quote(finding, "%s", why);
}
