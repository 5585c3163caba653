/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/model/versions.h"

#include <stdio.h>

/* From the tags of the published source. The file names in parentheses show where each behaviour is implemented. */
static const struct version_span traits[N_DRIVER_TRAITS] = {
        /* Each open of a node of major 195, nvidiactl too, waits for the one before: nvidia_frontend_open() keeps
         * nv_module_table_lock over the whole open (nv-frontend.c). A close does not take it. */
        [DRIVER_OPENS_ONE_BY_ONE] = {.until = DRIVER_VERSION(545, 23, 6)},

        /* NUMA_INFO has the member use_auto_online, which makes it 8 bytes larger (nv-ioctl-numa.h). */
        [DRIVER_NUMA_AUTO_ONLINE] = {.from = DRIVER_VERSION(535, 43, 2)},

        /* O_NONBLOCK defers an open, WAIT_OPEN_COMPLETE (218) waits for it; before, O_NONBLOCK does nothing and 218 is
         * an unknown ioctl, which the driver logs (nv.c). */
        [DRIVER_DEFERS_OPENS] = {.from = DRIVER_VERSION(550, 40, 7)},

        /* The firmware boots without RM's API lock (kernel_gsp.c, _kgspBootGspRm); before, the lock is kept over all of
         * an initialisation. */
        [DRIVER_OVERLAPS_INITIALISATIONS] = {.from = DRIVER_VERSION(550, 40, 7)},

        /* A registration with UVM is refused until the NVLink fabric is ready (nv_gpu_ops.c, _gpuGetFabricStatus). */
        [DRIVER_CHECKS_FABRIC] = {.from = DRIVER_VERSION(570, 86, 15)},

        /* RM notifies its clients of bind and unbind. Earlier, 0x502 is a different control (ctrl0000event.h). */
        [DRIVER_ANNOUNCES_UNBINDS] = {.from = DRIVER_VERSION(575, 51, 2)},

        /* `information` has no line "GPU UUID" until the UUID is known. Earlier, the line has question marks
         * (nv-procfs.c). */
        [DRIVER_HIDES_UNKNOWN_UUID] = {.from = DRIVER_VERSION(590, 44, 1)},

        /* A line of `power` (nv-procfs.c). */
        [DRIVER_SHOWS_RAIL_GATING] = {.from = DRIVER_VERSION(590, 44, 1)},

        /* An unbind removes the GPU from the driver's list before it waits for users. Earlier, afterwards (nv-pci.c).
         */
        [DRIVER_UNLISTS_BEFORE_WAITING] = {.from = DRIVER_VERSION(595, 44, 2)},

        /* Sizes are checked before everything else (nv.c, nv_validate_ioctls). Earlier, each ioctl checks its own size,
         * except WAIT_OPEN_COMPLETE. */
        [DRIVER_CHECKS_ALL_SIZES] = {.from = DRIVER_VERSION(595, 44, 2)},
};

uint64_t version_parse(const char *text) {
        unsigned parts[3] = {0};

        if (sscanf(text, "%4u.%4u.%4u", &parts[0], &parts[1], &parts[2]) < 2)
                return 0;
        return DRIVER_VERSION(parts[0], parts[1], parts[2]);
}

bool version_in(uint64_t version, const struct version_span *span) {
        return version >= span->from && (span->until == 0 || version < span->until);
}

bool version_has(uint64_t version, enum driver_trait trait) {
        return version_in(version, &traits[trait]);
}
