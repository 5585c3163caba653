/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Uses of a GPU through other nodes: UVM registrations and attached GPUs. nvidia_dev_get and nvidia_dev_put look the
 * GPU up in the driver's list. This has a consequence that is modelled here: if an unbind has removed the GPU from the
 * list, its references can never be dropped.
 */

#include <errno.h>
#include <string.h>

#include "sim/model/private.h"

enum { UVM_FLAGS_ALL = 3 };

bool file_references(const struct model_file *file, const struct model_gpu *gpu, bool uvm) {
        const struct reference *reference;

        LIST_FOREACH(reference, &file->references, link)
                if (reference->gpu == gpu && reference->uvm == uvm)
                        return true;
        return false;
}

/* nvidia_dev_get(): returns 0, or negative errno. */
static int use_by_id(struct model *model, const uint32_t *gpu_id, const struct who *who, struct model_gpu **ret_gpu) {
        struct model_gpu *gpu = gpu_enter(model, gpu_has_id, gpu_id);
        int result;

        if (!gpu)
                return -ENODEV;
        result = gpu_use(model, gpu, who);
        gpu_leave(model, gpu);
        if (result == 0)
                *ret_gpu = gpu;
        return result;
}

/*
 * nvidia_dev_get_uuid(): the UUID of a GPU that was never initialised is unknown, so the driver initialises one such
 * GPU after the other, and tears it down again, until it finds the right one. A GPU that cannot be opened ends the
 * search.
 */
static int use_by_uuid(struct model *model, const uint8_t *uuid, const struct who *who, struct model_gpu **ret_gpu) {
        struct model_gpu *gpu;
        int result = -ENODEV;

        while ((gpu = gpu_enter_candidate(model, uuid))) {
                result = gpu_use(model, gpu, who);
                if (result < 0 || gpu_has_uuid(gpu, uuid))
                        break;
                gpu_unuse(model, gpu, who);
                gpu_leave(model, gpu);
                result = -ENODEV;
        }
        if (gpu)
                gpu_leave(model, gpu);
        if (result == 0)
                *ret_gpu = gpu;
        return result;
}

/* Records a use of the GPU. Returns 0, or negative errno after dropping the use. */
static int reference_add(struct model *model, struct model_file *file, struct model_gpu *gpu, bool uvm,
                         struct reference **ret_reference) {
        struct reference *reference = calloc(1, sizeof(*reference));

        if (!reference) {
                turnstile_enter(model, &gpu->lock);
                gpu_unuse(model, gpu, &file->who);
                gpu_leave(model, gpu);
                return -ENOMEM;
        }
        *reference = (struct reference){.gpu = gpu, .uvm = uvm};
        if (uvm)
                gpu->uvm_registrations++;
        LIST_INSERT_HEAD(&file->references, reference, link);
        *ret_reference = reference;
        return 0;
}

static void reference_drop(struct model *model, struct model_file *file, struct reference *dropped) {
        CLEANUP(free_ptr) struct reference *reference = dropped;
        struct model_gpu *gpu = reference->gpu;

        LIST_REMOVE(reference, link);
        if (reference->uvm)
                gpu->uvm_registrations--;
        if (!gpu_enter(model, gpu_has_address, &gpu->spec.address)) {
                journal_add(model, gpu, &file->who, "reference-lost", "%s: the GPU is off the driver's list",
                            reference->uvm ? "uvm" : "attached");
                return;
        }
        gpu_unuse(model, gpu, &file->who);
        gpu_leave(model, gpu);
}

/* UVM's global lock serialises the registrations of all GPUs by all processes. */
void references_drop(struct model *model, struct model_file *file) {
        while (!LIST_EMPTY(&file->references)) {
                bool uvm = LIST_FIRST(&file->references)->uvm;

                if (uvm)
                        turnstile_enter(model, &model->uvm_lock);
                if (!LIST_EMPTY(&file->references)) /* the GPU may have been removed meanwhile */
                        reference_drop(model, file, LIST_FIRST(&file->references));
                if (uvm)
                        turnstile_leave(&model->uvm_lock);
        }
}

void references_orphan(struct model_file *file, const struct model_gpu *gpu) {
        struct reference *next;

        for (struct reference *reference = LIST_FIRST(&file->references); reference; reference = next) {
                next = LIST_NEXT(reference, link);
                if (reference->gpu != gpu)
                        continue;
                LIST_REMOVE(reference, link);
                free(reference);
        }
}

/* ---- attached GPUs ---- */

static void attached_drop(struct model *model, struct model_file *file) {
        references_drop(model, file);
        file->attached = false;
}

int model_attach(struct model_file *file, const uint32_t *gpu_ids, size_t n_gpu_ids,
                 const struct model_caller *caller) {
        struct who who = who_is(caller);
        struct model *model = file->model;
        struct reference *reference;
        struct model_gpu *gpu = NULL; /* gcc does not see that use_by_id() sets it */
        MODEL_LOCKED(model);

        if (file->node != MODEL_NODE_CTL || file->attached || n_gpu_ids == 0)
                return -EINVAL;
        file->attached = true;
        for (size_t i = 0; i < n_gpu_ids; i++) {
                if (gpu_ids[i] == 0)
                        continue;
                if (use_by_id(model, &gpu_ids[i], &file->who, &gpu) < 0 ||
                    reference_add(model, file, gpu, false, &reference) < 0) {
                        attached_drop(model, file);
                        return -EINVAL;
                }
                journal_add(model, reference->gpu, &who, "attached", "usage count %u", reference->gpu->usage);
        }
        return 0;
}

/* ---- UVM ---- */

uint32_t model_uvm_initialize(struct model_file *file, uint64_t flags) {
        MODEL_LOCKED(file->model);

        if (flags & ~(uint64_t)UVM_FLAGS_ALL)
                return NV_ERR_INVALID_ARGUMENT;
        if (file->uvm_initialised)
                return file->uvm_flags == flags ? NV_OK : NV_ERR_INVALID_ARGUMENT;
        file->uvm_initialised = true;
        file->uvm_flags = flags;
        return NV_OK;
}

static uint32_t status_of_use(int result) {
        return result == -ENODEV ? NV_ERR_GPU_UUID_NOT_FOUND : NV_ERR_GENERIC;
}

/* RM's answer about a GPU that UVM starts to use. */
static uint32_t check_uvm(const struct model *model, const struct model_gpu *gpu, bool accessible) {
        if (!accessible)
                return NV_ERR_INSUFFICIENT_PERMISSIONS;
        if (gpu->spec.lost)
                return NV_ERR_GPU_IS_LOST;
        if (!gpu->spec.has_uvm)
                return NV_ERR_NOT_SUPPORTED;
        if (scenario_driver_has(&model->scenario, DRIVER_CHECKS_FABRIC) &&
            clock_monotonic_usec() < gpu->fabric_ready_usec)
                return NV_ERR_NVLINK_FABRIC_NOT_READY;
        return NV_OK;
}

static uint32_t uvm_refuse(struct model *model, const struct model_gpu *gpu, const struct who *who, uint32_t status) {
        journal_add(model, gpu, who, "uvm-failed", "NV_STATUS 0x%x", status);
        return status;
}

static struct reference *find_uvm(const struct model_file *file, const uint8_t *uuid) {
        struct reference *reference;

        LIST_FOREACH(reference, &file->references, link)
                if (reference->uvm && gpu_has_uuid(reference->gpu, uuid))
                        return reference;
        return NULL;
}

/* UVM's lock is held. As in the driver, initialises the GPU first and checks everything else then. A failure undoes it.
 */
static uint32_t register_locked(struct model *model, struct model_file *file, const uint8_t *uuid,
                                const struct who *who, bool accessible) {
        struct reference *reference = NULL;
        struct model_gpu *gpu = NULL;
        uint32_t status;
        int result;

        if (find_uvm(file, uuid))
                return uvm_refuse(model, find_uvm(file, uuid)->gpu, who, NV_ERR_INVALID_DEVICE);
        result = use_by_uuid(model, uuid, who, &gpu);
        if (result == 0)
                result = reference_add(model, file, gpu, true, &reference);
        if (result < 0)
                return uvm_refuse(model, NULL, who, status_of_use(result));
        status = check_uvm(model, gpu, accessible);
        if (status != NV_OK) {
                reference_drop(model, file, reference);
                return uvm_refuse(model, gpu, who, status);
        }
        journal_add(model, gpu, who, "uvm-registered", "usage count %u", gpu->usage);
        return NV_OK;
}

static uint32_t uvm_register(struct model *model, struct model_file *file, const uint8_t *uuid, const struct who *who,
                             bool accessible) {
        uint32_t status;

        turnstile_enter(model, &model->uvm_lock);
        status = register_locked(model, file, uuid, who, accessible);
        turnstile_leave(&model->uvm_lock);
        return status;
}

static uint32_t uvm_unregister(struct model *model, struct model_file *file, const uint8_t *uuid) {
        struct reference *reference;

        turnstile_enter(model, &model->uvm_lock);
        reference = find_uvm(file, uuid);
        if (reference) {
                journal_add(model, reference->gpu, &file->who, "uvm-unregistered", "usage count was %u",
                            reference->gpu->usage);
                reference_drop(model, file, reference);
        }
        turnstile_leave(&model->uvm_lock);
        return reference ? NV_OK : NV_ERR_INVALID_DEVICE;
}

static uint32_t find_minor_of(struct model *model, const uint8_t *uuid) {
        MODEL_LOCKED(model);

        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].bound && gpu_has_uuid(&model->gpus[i], uuid))
                        return model->gpus[i].minor;
        return MODEL_MINOR_NONE;
}

uint32_t model_uvm_register(struct model_file *file, const uint8_t uuid[static NV_UUID_SIZE],
                            const struct model_caller *caller, struct model_wait *wait) {
        struct who who = who_is(caller);
        struct model *model = file->model;
        uint32_t minor = find_minor_of(model, uuid);
        /* Call the front's check first, which needs the mutex released. Its result is used once the GPU is initialised.
         */
        bool accessible = minor != MODEL_MINOR_NONE && model_process_has_gpu(model, caller->pid, minor);
        MODEL_LOCKED(model);

        if (!file->uvm_initialised)
                return NV_ERR_ILLEGAL_ACTION;
        return uvm_register(model, file, uuid, &who, accessible);
}

uint32_t model_uvm_unregister(struct model_file *file, const uint8_t uuid[static NV_UUID_SIZE]) {
        MODEL_LOCKED(file->model);

        return file->uvm_initialised ? uvm_unregister(file->model, file, uuid) : (uint32_t)NV_ERR_ILLEGAL_ACTION;
}

uint32_t model_uvm_persistence(struct model_file *file, bool enable) {
        struct model *model = file->model;
        uint8_t uuid[NV_UUID_SIZE];
        MODEL_LOCKED(model);

        if (!file->gpu || file->state != FILE_OPEN)
                return NV_ERR_INVALID_STATE;
        scenario_uuid_bytes(file->gpu->spec.uuid, uuid);
        if (enable == file_references(file, file->gpu, true))
                return NV_OK;
        return enable ? uvm_register(model, file, uuid, &file->who, true) : uvm_unregister(model, file, uuid);
}
