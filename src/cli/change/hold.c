/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/change/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/locations.h"
#include "base/text.h"

static int open_node(const struct locations *locations, int minor, int *ret_fd) {
        char node[32], path[PATH_MAX];
        int r;

        text_set(node, "/dev/nvidia%d", minor);
        r = locations_path(path, locations, node);
        if (r < 0)
                return r;
        *ret_fd = open(path, O_RDWR | O_CLOEXEC);
        return *ret_fd < 0 ? -errno : 0;
}

int hold_open(struct hold *hold, const struct snapshot *snapshot, const struct locations *locations, size_t *ret_row) {
        int result = 0;

        *hold = (struct hold){.fds = calloc(snapshot->n_gpus + 1, sizeof(*hold->fds))};
        if (!hold->fds)
                return -ENOMEM;
        for (; hold->n < snapshot->n_gpus; hold->n++) {
                const struct snapshot_gpu *gpu = &snapshot->gpus[hold->n];
                int r = 0;

                hold->fds[hold->n] = -1;
                if (gpu->initialised != HF_YES || (gpu->info.minor == GPU_MINOR_UNKNOWN && snapshot->n_untold == 0))
                        continue;
                r = gpu->info.minor == GPU_MINOR_UNKNOWN ? -ETIMEDOUT
                                                         : open_node(locations, gpu->info.minor, &hold->fds[hold->n]);
                hold->n_held += r == 0;
                if (r < 0 && result == 0) {
                        result = r;
                        *ret_row = hold->n;
                }
        }
        return result;
}

void hold_done(struct hold *hold) {
        for (size_t i = 0; i < hold->n; i++)
                fd_done(&hold->fds[i]);
        free(hold->fds);
        *hold = (struct hold){0};
}
