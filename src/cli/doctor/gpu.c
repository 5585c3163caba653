/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: problems of single GPUs, from the daemon, the PCI bus and the kernel log. */

#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/node/kernel_log.h"
#include "gpu/failure.h"

/* For probes that need our daemon's answer. */
static bool is_unknown(const struct examination *examination, struct finding *finding) {
        if (examination->snapshot->daemon == DAEMON_HOLDFAST)
                return false;
        finding_set(finding, VERDICT_UNKNOWN, "only Holdfast's daemon can report this, and it does not answer here");
        return true;
}

/* ---- excluded ---------------------------------------------------------------- */

void probe_excluded(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (!snapshot->driver_loaded)
                finding_set(finding, VERDICT_UNKNOWN, "unknown without the driver");
        each_gpu(gpu, snapshot) {
                if (!gpu->info.excluded)
                        continue;
                finding_set(finding, VERDICT_NOTE, "a GPU is excluded from the driver, so no process can use it");
                finding_quote(finding, "%s: %s/proc/driver/nvidia/gpus/%s/information: GPU Excluded: Yes", gpu->label,
                              examination->locations->root, gpu->address);
                finding_cure(finding,
                             "grep -r -e NVreg_ExcludedGpus -e NVreg_GpuBlacklist /etc/modprobe.d /proc/cmdline");
        }
}

/* ---- failing, lost ----------------------------------------------------------- */

/* Reads of a device that is off the bus return ones. */
static bool is_off_bus(const struct locations *locations, const struct snapshot_gpu *gpu) {
        char relative[96], path[PATH_MAX];
        unsigned char config[4097];

        text_set(relative, "/sys/bus/pci/devices/%s/config", gpu->address);
        if (locations_path(path, locations, relative) < 0 || file_read(path, (char *)config, sizeof(config)) < 4)
                return false;
        return config[0] == 0xff && config[1] == 0xff && config[2] == 0xff && config[3] == 0xff;
}

/* Whether the GPU was lost since it was opened; an older line may be about a problem that a reset has cured. */
static bool was_lost(const struct snapshot *snapshot, const struct snapshot_gpu *gpu,
                     const struct kernel_log_line *line) {
        return strstr(line->text, "fallen off the bus") && snapshot_has_detail(snapshot, gpu) &&
               gpu->detail.state == HF_GPU_HELD && line->realtime_usec > gpu->detail.since_realtime_usec;
}

static bool is_kept_open(const struct snapshot_gpu *gpu) {
        return gpu->detail.state == HF_GPU_HELD || gpu->detail.state == HF_GPU_CLOSING;
}

/* Whether its last close failed, and the daemon still tries to release it. */
static bool is_unreleased(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot_has_detail(snapshot, gpu) && is_kept_open(gpu) && gpu->detail.error_text[0] != '\0' &&
               (!gpu->detail.wanted || gpu->detail.leased);
}

/* If the GPU is kept open, its error is that of a close, and its initialisation has not failed. */
static bool has_failed(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        if (snapshot_has_detail(snapshot, gpu))
                return gpu->detail.state == HF_GPU_FAILED || (!is_kept_open(gpu) && gpu->detail.error_text[0] != '\0');
        return snapshot->daemon == DAEMON_NVIDIA && gpu->get_status != NVPD_SUCCESS;
}

static void quote_failure(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, struct finding *finding) {
        const struct hf_gpu *detail = &gpu->detail;
        const char *status = nv_status_name(detail->error_nv_status);
        bool told = snapshot_has_detail(snapshot, gpu);

        if (!told || detail->error_text[0] == '\0') {
                finding_quote(finding, "%s: %s", gpu->label, told ? "failed" : nvpd_status_text(gpu->get_status));
                return;
        }
        if (status && strstr(detail->error_text, status))
                status = NULL;
        finding_quote(finding, "%s: %s (errno %d%s%s; %u failed open%s)", gpu->label, detail->error_text,
                      (int)detail->error_number, status ? ", " : "", status ? status : "", (unsigned)detail->failures,
                      text_plural(detail->failures));
}

static void quote_log(const struct examination *examination, int r, const struct kernel_log_line *line,
                      struct finding *finding) {
        if (r == 0)
                finding_quote(finding, "kernel log: %s", line->text);
        else if (r == -EACCES || r == -EPERM)
                finding_quote(finding, "kernel log: not readable for this user (%s/dev/kmsg: %s); run as root",
                              examination->locations->root, strerror(-r));
}

/* Returns whether this GPU is in trouble. */
static bool judge_gpu(const struct examination *examination, const struct snapshot_gpu *gpu, struct finding *finding) {
        struct kernel_log_line line = {0};
        bool failed = has_failed(examination->snapshot, gpu), lost = is_off_bus(examination->locations, gpu);
        int r = kernel_log_find(examination->locations, &gpu->info.address, &line);

        lost |= r == 0 && was_lost(examination->snapshot, gpu, &line);
        if (!failed && !lost)
                return false;
        if (failed)
                quote_failure(examination->snapshot, gpu, finding);
        if (lost)
                finding_quote(finding, "%s: fell off the bus", gpu->label);
        quote_log(examination, r, &line, finding);
        return true;
}

/* A close fails because of the keeper, or because the system uses the GPU's memory. A reset cures neither. */
static void judge_unreleased(const struct examination *examination, struct finding *finding) {
        const struct snapshot_gpu *first = NULL;
        size_t n = 0;

        each_gpu(gpu, examination->snapshot) {
                if (!is_unreleased(examination->snapshot, gpu))
                        continue;
                first = first ? first : gpu;
                n++;
                finding_quote(finding, "%s: %s", gpu->label, gpu->detail.error_text);
        }
        if (n == 0)
                return;
        finding_set(finding, VERDICT_PROBLEM, "%zu GPU%s cannot be released; the daemon goes on trying", n,
                    text_plural(n));
        if (first->detail.error_number == ETIMEDOUT) /* the keeper did not answer */
                finding_cure(finding, "systemctl restart holdfast-keeper.service");
        else
                finding_cure(finding, "holdfast clients --gpu %zu", first->index);
}

void probe_initialisation(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        const struct snapshot_gpu *first = NULL;
        size_t n = 0;

        each_gpu(gpu, snapshot) {
                if (gpu->info.excluded || !judge_gpu(examination, gpu, finding))
                        continue;
                first = first ? first : gpu;
                n++;
        }
        if (n > 0) {
                finding_set(finding, VERDICT_PROBLEM, "%zu GPU%s not initialise, or %s lost", n,
                            n == 1 ? " does" : "s do", n == 1 ? "is" : "are");
                finding_cure(finding, "holdfast release --gpu %zu -- nvidia-smi --gpu-reset -i %s", first->index,
                             first->address);
        } else if (!snapshot_has_daemon(examination->snapshot))
                finding_set(finding, VERDICT_UNKNOWN,
                            "no daemon answers, and only opening a GPU would show whether it initialises");
        else
                judge_unreleased(examination, finding);
}

/* ---- stuck ------------------------------------------------------------------- */

void probe_stuck(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (is_unknown(examination, finding))
                return;
        each_gpu(gpu, snapshot) {
                struct kernel_log_line line;

                if (!snapshot_has_detail(snapshot, gpu) || !gpu->detail.stuck)
                        continue;
                finding_set(finding, VERDICT_PROBLEM, "a GPU is stuck in the driver; the others are not affected");
                finding_quote(finding, "%s: %s since %s", gpu->label, hf_gpu_state_name(gpu->detail.state),
                              report_time_local(gpu->detail.since_realtime_usec).text);
                quote_log(examination, kernel_log_find(examination->locations, &gpu->info.address, &line), &line,
                          finding);
                finding_cure(finding, "nvidia-bug-report.sh; then: systemctl reboot");
        }
}

/* ---- fabric ------------------------------------------------------------------ */

void probe_fabric(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (is_unknown(examination, finding))
                return;
        each_gpu(gpu, snapshot) {
                if (!snapshot_has_detail(snapshot, gpu) || gpu->detail.uvm != HF_UVM_WAITING ||
                    gpu->detail.uvm_text[0] == '\0')
                        continue;
                finding_set(finding, VERDICT_PROBLEM, "UVM persistence is not on yet; the daemon keeps retrying");
                finding_quote(finding, "%s: %s", gpu->label, gpu->detail.uvm_text);
                finding_cure(finding, "systemctl restart nvidia-fabricmanager");
        }
}
