/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel's PCI core: binds and unbinds the driver, and resets, removes and adds the device. Verbs and writes to
 * sysfs request these actions.
 */

#include <errno.h>

#include "sim/model/private.h"

int gpu_bind(struct model *model, struct model_gpu *gpu) {
        bool is_new;

        turnstile_enter(model, &model->device_list);
        is_new = !gpu->probed; /* another thread may have bound it first */
        if (is_new)
                gpu_probe(model, gpu);
        turnstile_leave(&model->device_list);
        if (!is_new)
                return -EBUSY;
        bind_notice(model, gpu, true); /* at the end of the probe, before the device core's uevent */
        gpu_uevent(model, gpu, "bind");
        return 0;
}

int gpu_wait_unbound(struct model *model, struct model_gpu *gpu, const struct model_wait *wait) {
        while (gpu->removing && !model->stopping && !(wait && wait->interrupted))
                model_sleep(model);
        return gpu->removing || gpu->probed ? -EINTR : 0;
}

static void reset_hardware(struct model *model, struct model_gpu *gpu, const struct who *who) {
        if (gpu->kept)
                gpu_tear_down(model, gpu, who);
        gpu->spec.lost = gpu->spec.surprise = false;
        gpu->spent = false;
        gpu->adapter_status = NV_ERR_INVALID_STATE;
        journal_add(model, gpu, who, "reset", "no user");
}

int gpu_reset(struct model *model, struct model_gpu *gpu, const struct who *who) {
        bool in_use;

        if (gpu->usage > 0 || gpu->initialising)
                return -EBUSY;
        turnstile_enter(model, &gpu->lock);
        in_use = gpu->usage > 0;
        if (!in_use)
                reset_hardware(model, gpu, who);
        gpu_leave(model, gpu);
        return in_use ? -EBUSY : 0;
}

int gpu_add(struct model *model, struct model_gpu *gpu, const struct who *who) {
        gpu->spec.present = true;
        gpu->spec.lost = gpu->spec.surprise = false;
        gpu->spent = false;
        journal_add(model, gpu, who, "added", "on the bus");
        gpu_uevent(model, gpu, "add");
        return gpu_bind(model, gpu);
}

void gpu_remove_unbound(struct model *model, struct model_gpu *gpu, const struct who *who) {
        gpu->spec.present = false;
        journal_add(model, gpu, who, "removed", "was not bound");
        gpu_uevent(model, gpu, "remove");
}

/* ---- writes to sysfs ---- */

/* A second unbind waits for the first, as it would for the device's lock. */
static int unbind(struct model *model, struct model_gpu *gpu, bool remove_device, const struct model_wait *wait) {
        int result = 0;

        if (!gpu->removing)
                result = gpu_start_unbind(model, gpu, remove_device);
        return result < 0 ? result : gpu_wait_unbound(model, gpu, wait);
}

static int write_unbind(struct model *model, struct model_gpu *gpu, const struct who *who,
                        const struct model_wait *wait) {
        return gpu->probed ? unbind(model, gpu, false, wait) : -ENODEV;
}

static int write_bind(struct model *model, struct model_gpu *gpu, const struct who *who,
                      const struct model_wait *wait) {
        return gpu_bind(model, gpu);
}

/*
 * The PCI core also resets a GPU that is in use. What the driver then does is not known; here its users lose the GPU.
 */
static int write_reset(struct model *model, struct model_gpu *gpu, const struct who *who,
                       const struct model_wait *wait) {
        if (gpu_reset(model, gpu, who) == 0)
                return 0;
        gpu->spec.lost = true;
        journal_add(model, gpu, who, "reset", "while in use: its users lose the GPU");
        return 0;
}

static int write_remove(struct model *model, struct model_gpu *gpu, const struct who *who,
                        const struct model_wait *wait) {
        if (gpu->probed)
                return unbind(model, gpu, true, wait);
        gpu_remove_unbound(model, gpu, who);
        return 0;
}

static struct model_gpu *find_present(struct model *model, const struct pci_address *address) {
        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].spec.present && gpu_has_address(&model->gpus[i], address))
                        return &model->gpus[i];
        return NULL;
}

int model_bus_write(struct model *model, enum model_bus_file file, const struct pci_address *address,
                    const struct model_caller *caller, struct model_wait *wait) {
        static int (*const writers[])(struct model * model, struct model_gpu * gpu, const struct who *who,
                                      const struct model_wait *wait) = {
                [MODEL_BUS_BIND] = write_bind,
                [MODEL_BUS_REMOVE] = write_remove,
                [MODEL_BUS_RESET] = write_reset,
                [MODEL_BUS_UNBIND] = write_unbind,
        };
        struct who who = who_is(caller);
        struct model_gpu *gpu;
        int result;
        MODEL_LOCKED(model);

        gpu = find_present(model, address);
        if (!gpu)
                return -ENODEV;
        result = writers[file](model, gpu, &who, wait);
        model_changed(model);
        return result;
}

void model_bus_rescan(struct model *model, const struct model_caller *caller) {
        struct who who = who_is(caller);
        MODEL_LOCKED(model);

        for (size_t i = 0; i < model->n_gpus; i++)
                if (!model->gpus[i].spec.present)
                        (void)gpu_add(model, &model->gpus[i], &who);
        model_changed(model);
}
