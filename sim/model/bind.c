/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The driver's probe and removal of a GPU.
 *
 *      unbind:  no more deferred opens -> those under way end -> off the list (595.44.02+) -> notice
 *               -> wait for usage 0, without limit -> shut down -> off the list -> minor free
 *
 * If the GPU was lost by surprise, the unbind does not wait: users keep descriptors without a GPU.
 */

#include <errno.h>

#include "base/text.h"
#include "sim/model/private.h"

/* ---- notices ---- */

void model_listen(struct model *model, struct model_listener *listener) {
        (void)pthread_mutex_lock(&model->listen_mutex);
        LIST_INSERT_HEAD(&model->listeners, listener, link);
        (void)pthread_mutex_unlock(&model->listen_mutex);
}

void model_unlisten(struct model *model, struct model_listener *listener) {
        (void)pthread_mutex_lock(&model->listen_mutex);
        LIST_REMOVE(listener, link);
        (void)pthread_mutex_unlock(&model->listen_mutex);
}

void bind_notice(struct model *model, const struct model_gpu *gpu, bool bind) {
        const struct pci_address *address = &gpu->spec.address;
        uint32_t gpu_id = nv_gpu_id(address->domain, address->bus, address->slot);
        struct model_listener *listener;

        if (!model->scenario.bind_notices)
                return;
        journal_add(model, gpu, NULL, "notice", "%s", bind ? "bind" : "unbind");
        model_unlock(model);
        (void)pthread_mutex_lock(&model->listen_mutex);
        LIST_FOREACH(listener, &model->listeners, link)
                listener->notify(listener, gpu_id, bind);
        (void)pthread_mutex_unlock(&model->listen_mutex);
        (void)model_lock(model);
}

/* ---- uevents ---- */

void model_set_uevents(struct model *model, model_uevent uevent, void *user) {
        MODEL_LOCKED(model);

        model->uevent = uevent;
        model->uevent_user = user;
}

void gpu_uevent(struct model *model, const struct model_gpu *gpu, const char *action) {
        if (model->uevent)
                model->uevent(model->uevent_user, action, &gpu->spec.address);
}

/* ---- the kernel log ---- */

void model_set_kernel_log(struct model *model, model_kernel_line line, void *user) {
        MODEL_LOCKED(model);

        model->kernel_line = line;
        model->kernel_line_user = user;
}

/* nv-pci.c logs this when it starts to wait. */
static void say_that_it_waits(struct model *model, const struct model_gpu *gpu) {
        char line[128], address[PCI_ADDRESS_SIZE];

        (void)text_format(line, sizeof(line), "NVRM: Attempting to remove device %s with non-zero usage count!",
                          pci_address_format(&gpu->spec.address, address));
        if (model->kernel_line)
                model->kernel_line(model->kernel_line_user, line);
}

/* ---- probe ---- */

static bool minor_is_free(const struct model *model, uint32_t minor) {
        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].minor == minor)
                        return false;
        return true;
}

void gpu_probe(struct model *model, struct model_gpu *gpu) {
        uint32_t minor = 0;

        while (!minor_is_free(model, minor))
                minor++;
        gpu->minor = minor;
        gpu->probed = gpu->bound = gpu->accepting = true;
        gpu->ever_initialised = false;
        gpu->had_interrupts = false;
        gpu->adapter_status = NV_ERR_INVALID_STATE;
        journal_add(model, gpu, NULL, "bound", "minor %u", minor);
}

/* ---- removal ---- */

static void take_both_locks(struct model *model, struct model_gpu *gpu) {
        turnstile_enter(model, &model->device_list);
        turnstile_enter(model, &gpu->lock);
}

static void leave_both_locks(struct model *model, struct model_gpu *gpu) {
        turnstile_leave(&gpu->lock);
        turnstile_leave(&model->device_list);
}

static bool is_free_to_go(const struct model_gpu *gpu) {
        return gpu->usage == 0 || gpu->spec.surprise;
}

/* Waits until the GPU has no users. Returns 0 with both locks held, or -ESHUTDOWN without them. */
static int wait_unused(struct model *model, struct model_gpu *gpu) {
        if (!is_free_to_go(gpu))
                say_that_it_waits(model, gpu);
        for (;;) {
                while (!is_free_to_go(gpu) && !model->stopping)
                        model_sleep(model);
                if (model->stopping)
                        return -ESHUTDOWN;
                take_both_locks(model, gpu);
                if (is_free_to_go(gpu))
                        return 0;
                leave_both_locks(model, gpu); /* an older driver accepts new users meanwhile */
        }
}

static void forget(struct model *model, struct model_gpu *gpu) {
        gpu->bound = gpu->probed = false;
        gpu->minor = MODEL_MINOR_NONE;
        gpu->had_interrupts = false; /* the kernel removes the folder with the driver's resources for the device */
        gpu->spec.legacy = false;    /* states of the driver, not of the hardware */
        gpu->spec.drain = false;
        if (gpu->remove_device)
                gpu->spec.present = false;
        journal_add(model, gpu, NULL, gpu->remove_device ? "removed" : "unbound", "minor is free");
        gpu_uevent(model, gpu, "unbind");
        if (gpu->remove_device)
                gpu_uevent(model, gpu, "remove");
}

static void begin_removal(struct model *model, struct model_gpu *gpu) {
        bool off_the_list_first = scenario_driver_has(&model->scenario, DRIVER_UNLISTS_BEFORE_WAITING);

        while (gpu->deferred > 0)
                model_sleep(model);
        take_both_locks(model, gpu);
        if (off_the_list_first)
                gpu->bound = false;
        leave_both_locks(model, gpu);
        bind_notice(model, gpu, false);
}

static void removal(struct model *model, void *argument) {
        struct model_gpu *gpu = argument;

        begin_removal(model, gpu);
        if (wait_unused(model, gpu) == 0) {
                if (gpu->kept)
                        gpu_tear_down(model, gpu, NULL);
                files_orphan(model, gpu);
                forget(model, gpu);
                leave_both_locks(model, gpu);
        }
        gpu->removing = false;
        model_changed(model);
}

int gpu_start_unbind(struct model *model, struct model_gpu *gpu, bool remove_device) {
        int result = model_spawn(model, removal, gpu);

        if (result < 0)
                return result;
        gpu->removing = true;
        gpu->remove_device = remove_device;
        gpu->accepting = false;
        journal_add(model, gpu, NULL, "unbind-begun", "usage count %u", gpu->usage);
        return 0;
}
