/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* GPU memory as a NUMA node: the state that the driver keeps for programs that bring it online and offline. */

#include <errno.h>

#include "sim/model/private.h"

#define MEMORY_SIZE (UINT64_C(96) << 30)
#define MEMORY_BASE (UINT64_C(1) << 44) /* above all system memory */

void numa_fill(const struct model *model, const struct model_gpu *gpu, struct model_numa *ret_numa) {
        size_t index = (size_t)(gpu - model->gpus);

        *ret_numa = (struct model_numa){
                .status = gpu->spec.numa,
                .auto_online = gpu->spec.numa_auto_online,
                .memblock_size = model->memblock_size,
        };
        if (gpu->spec.numa == NV_NUMA_DISABLED)
                return;
        ret_numa->node = (int)index + 1;
        ret_numa->memory_address = MEMORY_BASE + index * MEMORY_SIZE;
        ret_numa->memory_size = MEMORY_SIZE;
}

int model_numa_info(struct model_file *file, struct model_numa *ret_numa) {
        struct model *model = file->model;
        MODEL_LOCKED(model);

        if (!file->gpu || file->state != FILE_OPEN)
                return -ENODEV;
        numa_fill(model, file->gpu, ret_numa);
        return 0;
}

/* gpu->lock is held, so the usage count does not change. */
static int set_status(struct model *model, struct model_gpu *gpu, const struct who *who, enum nv_numa_status status) {
        if (gpu->spec.numa == status)
                return 0;
        if (gpu->spec.numa == NV_NUMA_DISABLED || status == NV_NUMA_DISABLED)
                return -EINVAL;
        if (status == NV_NUMA_OFFLINE_IN_PROGRESS && gpu->usage > 1)
                return -EBUSY;
        journal_add(model, gpu, who, "numa", "%d to %d", (int)gpu->spec.numa, (int)status);
        gpu->spec.numa = status;
        return 0;
}

int model_numa_set(struct model_file *file, const struct model_caller *caller, int32_t status) {
        struct model *model = file->model;
        int result;
        MODEL_LOCKED(model);

        if (caller->uid != 0)
                return -EACCES;
        if (!file->gpu || file->state != FILE_OPEN)
                return -EINVAL;
        if (status < NV_NUMA_DISABLED || status > NV_NUMA_OFFLINE_FAILED)
                return -EINVAL;
        turnstile_enter(model, &file->gpu->lock);
        result = set_status(model, file->gpu, &file->who, (enum nv_numa_status)status);
        gpu_leave(model, file->gpu);
        return result;
}
