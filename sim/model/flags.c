/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The two states of a GPU that RM keeps without an open file: the legacy flag and the drain state. */

#include <errno.h>

#include "sim/model/private.h"

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
