/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * States of a GPU that the driver keeps and root sets: the legacy flag and the drain state, which belong to RM, and the
 * NUMA state of its memory. The first two need no open file.
 */

#include <errno.h>

#include "sim/model/private.h"

#define MEMORY_SIZE (UINT64_C(96) << 30)
#define MEMORY_BASE (UINT64_C(1) << 44) /* above all system memory */

/* Also finds a GPU that an unbind has removed from the list while it waits for users. */
static struct model_gpu *find_probed(struct model *model, uint32_t minor) {
        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].probed && model->gpus[i].minor == minor)
                        return &model->gpus[i];
        return NULL;
}

/* ---- the legacy flag ---- */

int model_legacy_set(struct model *model, unsigned minor, const struct model_caller *caller, bool enabled) {
        struct who who = who_is(caller);
        struct model_gpu *gpu;
        MODEL_LOCKED(model);

        if (caller->uid != 0)
                return -EPERM;
        gpu = find_probed(model, minor);
        if (!gpu || !(gpu->initialised || gpu->kept))
                return -ENODEV;
        gpu->spec.legacy = enabled;
        journal_add(model, gpu, &who, "legacy", "%s", enabled ? "on" : "off");
        return 0;
}

/* ---- drain ---- */

/* gpumgrModifyGpuDrainState() of gpu_mgr.c: a GPU that is not attached is removed at once. */
static int remove_idle(struct model *model, struct model_gpu *gpu) {
        int r;

        if (gpu->usage > 0 || gpu->initialised || gpu->kept || gpu->removing)
                return 0;
        r = gpu_start_unbind(model, gpu, true);
        return r < 0 ? r : gpu_wait_unbound(model, gpu, NULL);
}

int model_drain(struct model *model, uint32_t gpu_id, const struct model_caller *caller, bool on, bool remove) {
        struct who who = who_is(caller);
        MODEL_LOCKED(model);

        if (caller->uid != 0)
                return -EPERM;
        for (size_t i = 0; i < model->n_gpus; i++) {
                struct model_gpu *gpu = &model->gpus[i];

                if (!gpu->probed || !gpu_has_id(gpu, &gpu_id))
                        continue;
                gpu->spec.drain = on;
                journal_add(model, gpu, &who, "drain", "%s", on ? "on" : "off");
                model_changed(model);
                return on && remove ? remove_idle(model, gpu) : 0;
        }
        return -ENODEV;
}

/* ---- GPU memory as a NUMA node, which programs bring online and offline ---- */

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
