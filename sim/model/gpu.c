/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One GPU's life in the driver: initialised by its first user, torn down by its last. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/model/private.h"

const struct gpu_settings gpu_default_settings = {
        .power_limit_w = 700,
        .graphics_clock_mhz = 1980,
        .memory_clock_mhz = 2619,
        .compute_mode = "Default",
};

/* ---- initialisation ---- */

/* Errors of the hardware that RM finds once it has the API lock (RmInitAdapter). */
static int refuse_hardware(struct model_gpu *gpu) {
        if (gpu->spec.lost) {
                gpu->adapter_status = NV_ERR_GPU_IS_LOST;
                return -EIO;
        }
        if (gpu->spec.confidential && gpu->spent) {
                gpu->adapter_status = NV_ERR_NOT_SUPPORTED;
                return -EIO;
        }
        if (gpu->spec.fail_opens > 0) {
                if (gpu->spec.fail_opens != -1u)
                        gpu->spec.fail_opens--;
                gpu->adapter_status = gpu->spec.fail_status;
                return -gpu->spec.fail_errno;
        }
        return 0;
}

/* The GSP's boot, which is the only part of an initialisation that can run in parallel with others. */
static int boot(struct model *model, struct model_gpu *gpu) {
        int result = model_spend(model, gpu->spec.init_usec);

        while (result == 0 && gpu->spec.hang) {
                model_sleep(model);
                if (model->stopping)
                        result = -ESHUTDOWN;
        }
        return result;
}

/* With Confidential Computing, RM keeps its lock meanwhile (kernel_gsp.c, relaxed GSP init locking). */
static bool boots_under_lock(const struct model *model, const struct model_gpu *gpu) {
        return gpu->spec.confidential || !scenario_driver_has(&model->scenario, DRIVER_OVERLAPS_INITIALISATIONS);
}

static int initialise_hardware(struct model *model, struct model_gpu *gpu) {
        bool under_lock = boots_under_lock(model, gpu);
        int result;

        turnstile_enter(model, &model->api_lock);
        result = model_spend(model, gpu->spec.lock_usec);
        if (result == 0)
                result = refuse_hardware(gpu);
        if (!under_lock)
                turnstile_leave(&model->api_lock);
        if (result == 0)
                result = boot(model, gpu);
        if (under_lock)
                turnstile_leave(&model->api_lock);
        return result;
}

static void become_initialised(struct model *model, struct model_gpu *gpu, const struct who *who) {
        gpu->initialised = true;
        gpu->ever_initialised = true;
        gpu->spent = true;
        gpu->initialisations++;
        gpu->adapter_status = NV_OK;
        gpu->fabric_ready_usec = clock_monotonic_usec() + gpu->spec.fabric_delay_usec;
        if (gpu->spec.numa != NV_NUMA_DISABLED && gpu->spec.numa_auto_online)
                gpu->spec.numa = NV_NUMA_ONLINE;
        journal_add(model, gpu, who, "initialised", "initialisation %u", gpu->initialisations);
}

static int initialise(struct model *model, struct model_gpu *gpu, const struct who *who) {
        int result;

        journal_add(model, gpu, who, "initialising", "initialisation %u", gpu->initialisations + 1);
        gpu->initialising = true;
        gpu->had_interrupts = true; /* nv_start_device() requests them before rm_init_adapter() */
        result = initialise_hardware(model, gpu);
        gpu->initialising = false;
        if (result == 0)
                become_initialised(model, gpu, who);
        else
                journal_add(model, gpu, who, "initialisation-failed", "%s, NV_STATUS 0x%x", strerrorname_np(-result),
                            gpu->adapter_status);
        return result;
}

void model_enter_api(struct model *model) {
        turnstile_enter(model, &model->api_lock);
        turnstile_leave(&model->api_lock);
}

/* The driver's nv_start_device(). */
static int start(struct model *model, struct model_gpu *gpu, const struct who *who) {
        if (gpu->spec.coherent && model->memblock_size == 0)
                return -EINVAL;
        if (gpu->spec.drain || gpu->kept)
                model_enter_api(model);
        if (gpu->spec.drain)
                return -EIO;
        if (!gpu->kept)
                return initialise(model, gpu, who);
        /* The legacy flag has kept the hardware initialised, so little is to be done (RmPartiallyInitAdapter). */
        gpu->kept = false;
        gpu->initialised = true;
        return 0;
}

/* The driver's nv_open_device(), with its errors in its order. */
int gpu_use(struct model *model, struct model_gpu *gpu, const struct who *who) {
        int result;

        if (model->stopping)
                return -ESHUTDOWN;
        if (gpu->spec.excluded)
                return -EPERM;
        if (gpu->spec.surprise)
                return -ENODEV;
        if (!gpu->initialised) {
                result = start(model, gpu, who);
                if (result < 0)
                        return result;
        } else {
                model_enter_api(model); /* asks RM whether the GPU is drained */
                if (gpu->spec.drain)
                        return -EBUSY;
        }
        gpu->usage++;
        model_changed(model);
        return 0;
}

/* ---- teardown ---- */

void gpu_tear_down(struct model *model, struct model_gpu *gpu, const struct who *who) {
        /* All of this holds the API lock (rm_disable_adapter, rm_shutdown_adapter): a GPU that hangs here blocks every
         * initialisation, every teardown, and all calls to RM. */
        turnstile_enter(model, &model->api_lock);
        while (gpu->spec.hang_close && !model->stopping)
                model_sleep(model);
        (void)model_spend(model, gpu->spec.teardown_usec);
        turnstile_leave(&model->api_lock);

        gpu->initialised = false;
        gpu->kept = false;
        gpu->settings = gpu_default_settings;
        gpu->teardowns++;
        if (gpu->spec.numa != NV_NUMA_DISABLED && gpu->spec.numa_auto_online)
                gpu->spec.numa = NV_NUMA_OFFLINE;
        journal_add(model, gpu, who, "torn-down", "teardown %u", gpu->teardowns);
}

/* The driver's nv_close_device() and nv_stop_device(). */
void gpu_unuse(struct model *model, struct model_gpu *gpu, const struct who *who) {
        if (--gpu->usage == 0) {
                if (gpu->spec.legacy) {
                        model_enter_api(model); /* RmPartiallyDisableAdapter */
                        gpu->initialised = false;
                        gpu->kept = true;
                } else {
                        gpu_tear_down(model, gpu, who);
                }
        }
        model_changed(model);
}

/* ---- finding one ---- */

struct model_gpu *gpu_enter(struct model *model, bool (*is_it)(const struct model_gpu *gpu, const void *key),
                            const void *key) {
        struct model_gpu *found = NULL;

        turnstile_enter(model, &model->device_list);
        for (size_t i = 0; i < model->n_gpus && !found; i++)
                if (model->gpus[i].bound && is_it(&model->gpus[i], key))
                        found = &model->gpus[i];
        if (found)
                turnstile_enter(model, &found->lock);
        turnstile_leave(&model->device_list);
        return found;
}

/* Whether the driver can find the GPU by UUID: it knows the UUID once the GPU was initialised since its bind. */
static bool is_known_as(const struct model_gpu *gpu, const void *uuid_bytes) {
        return gpu->ever_initialised && gpu_has_uuid(gpu, uuid_bytes);
}

static bool is_unknown(const struct model_gpu *gpu, const void *nothing) {
        return !gpu->ever_initialised;
}

/* Returns the first matching GPU, with its lock held. Each GPU is checked with its lock held, so this waits for busy
 * ones. */
static struct model_gpu *enter_first(struct model *model, bool (*passes)(const struct model_gpu *gpu, const void *key),
                                     const void *key) {
        for (size_t i = 0; i < model->n_gpus; i++) {
                struct model_gpu *gpu = &model->gpus[i];

                if (!gpu->bound)
                        continue;
                turnstile_enter(model, &gpu->lock);
                if (passes(gpu, key))
                        return gpu;
                turnstile_leave(&gpu->lock);
        }
        return NULL;
}

struct model_gpu *gpu_enter_candidate(struct model *model, const uint8_t *uuid) {
        struct model_gpu *gpu;

        turnstile_enter(model, &model->device_list);
        gpu = enter_first(model, is_known_as, uuid);
        if (!gpu)
                gpu = enter_first(model, is_unknown, NULL);
        turnstile_leave(&model->device_list);
        return gpu;
}

void gpu_leave(struct model *model, struct model_gpu *gpu) {
        turnstile_leave(&gpu->lock);
}

bool gpu_has_minor(const struct model_gpu *gpu, const void *minor) {
        return gpu->minor == *(const uint32_t *)minor;
}

bool gpu_has_address(const struct model_gpu *gpu, const void *address) {
        return pci_address_compare(&gpu->spec.address, address) == 0;
}

bool gpu_has_id(const struct model_gpu *gpu, const void *gpu_id) {
        const struct pci_address *address = &gpu->spec.address;

        return nv_gpu_id(address->domain, address->bus, address->slot) == *(const uint32_t *)gpu_id;
}

/* 16 raw bytes, in the order of the text. */
bool gpu_has_uuid(const struct model_gpu *gpu, const void *uuid_bytes) {
        const uint8_t *bytes = uuid_bytes;
        char text[64];

        (void)text_format(text, sizeof(text),
                          "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", bytes[0],
                          bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9],
                          bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]);
        return text_equal_nocase(text, gpu->spec.uuid);
}
