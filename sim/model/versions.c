/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/model/versions.h"

#include <stdio.h>

/* The first and last tags with each were looked up in the published source; the file says where. */
static const struct version_span traits[N_DRIVER_TRAITS] = {
        /* Each open of a node of major 195, nvidiactl too, waits for the one before: nvidia_frontend_open() keeps
         * nv_module_table_lock over the whole open (nv-frontend.c). A close takes no part. */
        [DRIVER_OPENS_ONE_BY_ONE] = {.until = DRIVER_VERSION(545, 23, 6)},

        /* NUMA_INFO tells use_auto_online, and is 8 bytes larger for it (nv-ioctl-numa.h). */
        [DRIVER_NUMA_AUTO_ONLINE] = {.from = DRIVER_VERSION(535, 43, 2)},

        /* O_NONBLOCK defers an open, WAIT_OPEN_COMPLETE (218) waits for it; before, O_NONBLOCK does nothing and 218 is
         * an unknown ioctl, which the driver logs (nv.c). */
        [DRIVER_DEFERS_OPENS] = {.from = DRIVER_VERSION(550, 40, 7)},

        /* The firmware boots without RM's API lock (kernel_gsp.c, _kgspBootGspRm); before, the lock is kept over all of
         * an initialisation. */
        [DRIVER_OVERLAPS_INITIALISATIONS] = {.from = DRIVER_VERSION(550, 40, 7)},

        /* A registration with UVM is refused until the NVLink fabric is ready (nv_gpu_ops.c, _gpuGetFabricStatus). */
        [DRIVER_CHECKS_FABRIC] = {.from = DRIVER_VERSION(570, 86, 15)},

        /* RM tells its clients of bind and unbind; before, control 0x502 is another one (ctrl0000event.h). */
        [DRIVER_ANNOUNCES_UNBINDS] = {.from = DRIVER_VERSION(575, 51, 2)},

        /* `information` has no line "GPU UUID" until the UUID is known; before, the line has question marks
         * (nv-procfs.c). */
        [DRIVER_HIDES_UNKNOWN_UUID] = {.from = DRIVER_VERSION(590, 44, 1)},

        /* A line of `power` (nv-procfs.c). */
        [DRIVER_SHOWS_RAIL_GATING] = {.from = DRIVER_VERSION(590, 44, 1)},

        /* An unbind takes the GPU off the driver's list before it waits for users; before, afterwards (nv-pci.c). */
        [DRIVER_UNLISTS_BEFORE_WAITING] = {.from = DRIVER_VERSION(595, 44, 2)},

        /* Sizes are checked ahead of everything (nv.c, nv_validate_ioctls); before, by each ioctl for itself, and not
         * by WAIT_OPEN_COMPLETE. */
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
