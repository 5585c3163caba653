/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probe: whether the daemon learns that a GPU is being unbound. Otherwise the unbind waits for it forever. */

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"

/* Compares the last component: the service manager may have opened the log at another path. */
static bool is_kernel_log(int folder_fd, const char *name) {
        char target[PATH_MAX];
        ssize_t length = readlinkat(folder_fd, name, target, sizeof(target) - 1);
        const char *last;

        if (length <= 0)
                return false;
        target[length] = '\0';
        last = strrchr(target, '/');
        return last && text_equal(last, "/kmsg");
}

/* Whether the daemon has the kernel log open: 1, 0, or negative errno. */
static int reads_kernel_log(const struct snapshot *snapshot) {
        CLEANUP(dir_done) DIR *dir = NULL;
        char path[64];
        struct dirent *entry;

        text_set(path, "/proc/%d/fd", (int)snapshot_find_daemon(snapshot));
        dir = opendir(path);
        if (!dir)
                return -errno;
        while ((entry = readdir(dir)))
                if (is_kernel_log(dirfd(dir), entry->d_name))
                        return 1;
        return 0;
}

/* The daemon learns of the unbind in time, but once the unbind has begun, this driver can drop no UVM registration. */
static void note_uvm(const struct snapshot *snapshot, struct finding *finding) {
        each_gpu(gpu, snapshot) {
                if (!gpu->in_daemon || gpu->detail.uvm != HF_UVM_ON)
                        continue;
                finding_set(
                        finding, VERDICT_NOTE,
                        "an unbind of a GPU never ends while the daemon keeps its UVM state: release the GPU first");
                finding_quote(finding, "%s: UVM state is kept (uvm-persistence), driver %s", gpu->label,
                              snapshot->driver_version);
                finding_cure(finding, "holdfast release --gpu ID -- COMMAND    # with the command that unbinds");
        }
}

void probe_unbind(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;
        int r;

        if (snapshot->daemon != DAEMON_HOLDFAST) {
                finding_set(finding, VERDICT_UNKNOWN, "Holdfast's daemon does not answer");
                return;
        }
        if (!inventory_driver_is_before(examination->locations, 595, 44, 2))
                note_uvm(snapshot, finding);
        if (!inventory_driver_is_before(examination->locations, 575, 51, 2))
                return;
        r = reads_kernel_log(snapshot);
        if (r > 0)
                return;
        if (r < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "unknown whether the daemon learns of unbinds");
                finding_quote(finding, "/proc/%d/fd: %s", (int)snapshot_find_daemon(snapshot), strerror(-r));
                return;
        }
        finding_set(finding, VERDICT_NOTE,
                    "this driver does not announce unbinds and the daemon cannot read the kernel log, so an unbind of "
                    "a held GPU waits until a client tells the daemon to release it");
        finding_quote(finding, "driver %s; drivers from 575.51.02 on announce them", snapshot->driver_version);
        finding_quote(finding, "process %d has no descriptor of /dev/kmsg", (int)snapshot_find_daemon(snapshot));
        finding_cure(finding, "holdfast release --gpu ID -- COMMAND    # with the command that unbinds");
}
