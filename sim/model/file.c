/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Open files: the driver's nvidia_open() and nvidia_close(), in the foreground and deferred. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "sim/model/private.h"

/* ---- the list of files ---- */

static struct model_file *file_new(struct model *model, enum model_node node, const struct who *who) {
        struct model_file *file = calloc(1, sizeof(*file));

        if (!file)
                return NULL;
        *file = (struct model_file){.model = model, .node = node, .who = *who};
        LIST_INSERT_HEAD(&model->files, file, link);
        return file;
}

static void file_free(struct model_file *file) {
        LIST_REMOVE(file, link);
        free(file);
}

/* ---- open ---- */

static int open_plain(struct model *model, enum model_node node, const struct who *who, struct model_file **ret_file) {
        struct model_file *file;

        if (model->stopping)
                return -ESHUTDOWN;
        file = file_new(model, node, who);
        if (!file)
                return -ENOMEM;
        file->state = FILE_OPEN;
        journal_add(model, NULL, who, "opened", "%s", node_name(node));
        *ret_file = file;
        return 0;
}

/* Call with gpu->lock held. Releases the lock. */
static void open_finish(struct model *model, struct model_file *file) {
        struct model_gpu *gpu = file->gpu;

        file->open_rc = gpu_use(model, gpu, &file->who);
        file->adapter_status = file->open_rc == 0 ? (uint32_t)NV_OK : gpu->adapter_status;
        file->state = file->open_rc == 0 ? FILE_OPEN : FILE_FAILED;
        if (file->open_rc == 0)
                journal_add(model, gpu, &file->who, "opened", "usage count %u", gpu->usage);
        else
                journal_add(model, gpu, &file->who, "open-failed", "%s", strerrorname_np(-file->open_rc));
        gpu_leave(model, gpu);
}

static int open_foreground(struct model *model, struct model_gpu *gpu, struct model_file *file,
                           struct model_file **ret_file) {
        int result;

        file->gpu = gpu;
        open_finish(model, file);
        result = file->open_rc;
        if (result < 0)
                file_free(file);
        else
                *ret_file = file;
        return result;
}

static void open_deferred(struct model *model, void *argument) {
        struct model_file *file = argument;
        struct model_gpu *gpu = file->gpu;

        turnstile_wait(model, &gpu->lock, file->ticket);
        open_finish(model, file);
        gpu->deferred--;
        model_changed(model);
        if (file->abandoned)
                file_close(model, file);
}

/* The driver's kernel thread for this GPU (nvidia_open_deferred). */
static int defer_open(struct model *model, struct model_gpu *gpu, struct model_file *file) {
        if (!gpu->accepting || model_spawn(model, open_deferred, file) < 0)
                return -EBUSY;
        file->gpu = gpu;
        file->ticket = turnstile_queue(&gpu->lock);
        gpu->deferred++;
        journal_add(model, gpu, &file->who, "open-deferred", "until initialised");
        return 0;
}

/* An open with O_NONBLOCK (nv_try_lock_foreground_open). Call with the device list's lock held. */
static bool try_foreground(struct model_gpu *gpu) {
        return gpu->initialised && turnstile_try(&gpu->lock);
}

static struct model_gpu *find_minor(struct model *model, uint32_t minor) {
        for (size_t i = 0; i < model->n_gpus; i++)
                if (model->gpus[i].bound && model->gpus[i].minor == minor)
                        return &model->gpus[i];
        return NULL;
}

static int open_nonblocking(struct model *model, struct model_file *file, uint32_t minor,
                            struct model_file **ret_file) {
        struct model_gpu *gpu;
        int result = -ENODEV;

        turnstile_enter(model, &model->device_list);
        gpu = find_minor(model, minor);
        if (gpu && try_foreground(gpu)) {
                turnstile_leave(&model->device_list);
                return open_foreground(model, gpu, file, ret_file);
        }
        if (gpu)
                result = defer_open(model, gpu, file);
        turnstile_leave(&model->device_list);
        if (result < 0)
                file_free(file);
        else
                *ret_file = file;
        return result;
}

static int open_blocking(struct model *model, struct model_file *file,
                         bool (*is_it)(const struct model_gpu *gpu, const void *key), const void *key,
                         struct model_file **ret_file) {
        struct model_gpu *gpu = gpu_enter(model, is_it, key);

        if (!gpu) {
                file_free(file);
                return -ENODEV;
        }
        return open_foreground(model, gpu, file, ret_file);
}

int file_open_address(struct model *model, const struct pci_address *address, const struct who *who,
                      struct model_file **ret_file) {
        struct model_file *file;

        if (model->stopping)
                return -ESHUTDOWN;
        file = file_new(model, MODEL_NODE_GPU, who);
        return file ? open_blocking(model, file, gpu_has_address, address, ret_file) : -ENOMEM;
}

/* Drivers that open one by one hold a lock during all of an open. The wait for it cannot be interrupted. */
static void enter_opens(struct model *model) {
        if (scenario_driver_has(&model->scenario, DRIVER_OPENS_ONE_BY_ONE))
                turnstile_enter(model, &model->open_lock);
}

static void leave_opens(struct model *model) {
        if (scenario_driver_has(&model->scenario, DRIVER_OPENS_ONE_BY_ONE))
                turnstile_leave(&model->open_lock);
}

int model_open_address(struct model *model, const struct pci_address *address, const struct model_caller *caller,
                       struct model_wait *wait, struct model_file **ret_file) {
        struct who who = who_is(caller);
        int result = -EINTR;
        MODEL_LOCKED(model);

        enter_opens(model);
        if (!wait || !wait->interrupted)
                result = file_open_address(model, address, &who, ret_file);
        leave_opens(model);
        return result;
}

static int open_gpu(struct model *model, uint32_t minor, bool nonblock, const struct who *who,
                    const struct model_wait *wait, struct model_file **ret_file) {
        struct model_file *file;

        if (model->stopping)
                return -ESHUTDOWN;
        /* The driver's only interruptible sleep in an open comes first: nv_system_pm_lock. */
        if (wait && wait->interrupted)
                return -EINTR;
        file = file_new(model, MODEL_NODE_GPU, who);
        if (!file)
                return -ENOMEM;
        journal_add(model, find_minor(model, minor), who, "open", "minor %u, %s", minor,
                    nonblock ? "nonblocking" : "blocking");
        if (nonblock && model->scenario.nonblocking_open)
                return open_nonblocking(model, file, minor, ret_file);
        return open_blocking(model, file, gpu_has_minor, &minor, ret_file);
}

int model_open(struct model *model, enum model_node node, unsigned minor, bool nonblock,
               const struct model_caller *caller, struct model_wait *wait, struct model_file **ret_file) {
        struct who who = who_is(caller);
        int result;
        MODEL_LOCKED(model);

        if (node == MODEL_NODE_UVM) /* a separate module with its own lock */
                return open_plain(model, node, &who, ret_file);
        enter_opens(model);
        if (node == MODEL_NODE_GPU)
                result = open_gpu(model, minor, nonblock, &who, wait, ret_file);
        else
                result = open_plain(model, node, &who, ret_file);
        leave_opens(model);
        return result;
}

/* ---- close ---- */

void file_close(struct model *model, struct model_file *file) {
        struct model_gpu *gpu = file->gpu;

        if (gpu)
                journal_add(model, gpu, &file->who, "close", "usage count was %u", gpu->usage);
        else
                journal_add(model, NULL, &file->who, "close", "%s", node_name(file->node));
        references_drop(model, file);
        if (gpu)
                turnstile_enter(model, &gpu->lock);
        /* Remove it from the list first: during the teardown, the file no longer counts as open. */
        LIST_REMOVE(file, link);
        if (gpu && file->state == FILE_OPEN)
                gpu_unuse(model, gpu, &file->who);
        if (gpu)
                gpu_leave(model, gpu);
        free(file);
}

void model_close(struct model_file *file) {
        struct model *model = file->model;
        MODEL_LOCKED(model);

        if (file->state != FILE_OPENING) {
                file_close(model, file);
                return;
        }
        file->abandoned = true;
        journal_add(model, file->gpu, &file->who, "close-deferred", "until its open is done");
}

void files_orphan(struct model *model, struct model_gpu *gpu) {
        struct model_file *file;

        LIST_FOREACH(file, &model->files, link) {
                if (file->gpu == gpu && file->state == FILE_OPEN)
                        file->state = FILE_GONE;
                references_orphan(file, gpu);
        }
        gpu->usage = 0;
        gpu->uvm_registrations = 0;
        gpu->initialised = false;
        gpu->settings = gpu_default_settings;
}

/* ---- reading ---- */

enum model_node model_file_node(const struct model_file *file) {
        return file->node;
}

struct model *model_file_model(const struct model_file *file) {
        return file->model;
}

static int wait_done(struct model_file *file, const struct model_wait *wait) {
        struct model *model = file->model;

        while (file->state == FILE_OPENING) {
                if (model->stopping)
                        return -ESHUTDOWN;
                if (wait && wait->interrupted)
                        return -EINTR;
                model_sleep(model);
        }
        return 0;
}

int model_wait_open(struct model_file *file, struct model_wait *wait, int *ret_rc, uint32_t *ret_adapter_status) {
        struct model *model = file->model;
        int result;
        MODEL_LOCKED(model);

        if (!scenario_driver_has(&model->scenario, DRIVER_DEFERS_OPENS))
                return -EINVAL;
        result = wait_done(file, wait);
        if (result < 0)
                return result;
        *ret_rc = file->open_rc;
        *ret_adapter_status = file->adapter_status;
        return 0;
}

bool model_file_is_opening(struct model_file *file) {
        MODEL_LOCKED(file->model);

        return file->state == FILE_OPENING;
}

void model_wait_deferred(struct model_file *file, struct model_wait *wait) {
        MODEL_LOCKED(file->model);

        (void)wait_done(file, wait);
}

int model_file_usable(struct model_file *file, struct model_wait *wait) {
        struct model *model = file->model;
        int result;
        MODEL_LOCKED(model);

        result = wait_done(file, wait);
        if (result < 0)
                return result;
        if (file->state == FILE_FAILED)
                return -EIO;
        return file->state == FILE_GONE || (file->gpu && file->gpu->spec.surprise) ? -EINVAL : 0;
}

short model_file_poll(struct model_file *file) {
        MODEL_LOCKED(file->model);

        if (file->node != MODEL_NODE_GPU)
                return 0;
        if (file->state == FILE_OPENING || file->state == FILE_FAILED)
                return POLLERR;
        return file->state == FILE_GONE || file->gpu->spec.surprise ? POLLHUP : 0;
}

static bool books_have_gpu(const struct model *model, pid_t pid, uint32_t minor) {
        const struct model_file *file;

        LIST_FOREACH(file, &model->files, link)
                if (file->gpu && file->gpu->minor == minor && file->who.pid == pid && file->state != FILE_FAILED &&
                    file->state != FILE_GONE && !file->abandoned)
                        return true;
        return false;
}

bool model_process_has_gpu(struct model *model, pid_t pid, unsigned minor) {
        if (model->process_check && model->process_check(model->process_check_user, pid, minor))
                return true;

        MODEL_LOCKED(model);
        return books_have_gpu(model, pid, minor);
}

static void fill_view(const struct model *model, const struct model_gpu *gpu, struct model_gpu_view *ret_view) {
        const struct model_file *file;

        *ret_view = (struct model_gpu_view){
                .spec = gpu->spec,
                .minor = gpu->minor,
                .bound = gpu->bound,
                .probed = gpu->probed,
                .unbinding = gpu->removing,
                .initialised = gpu->initialised || gpu->kept,
                .ever_initialised = gpu->ever_initialised,
                .initialising = gpu->initialising,
                .tearing_down = gpu->initialised && gpu->usage == 0,
                .interrupts = gpu->initialised || gpu->kept || gpu->initialising,
                .had_interrupts = gpu->had_interrupts,
                .usage_count = gpu->usage,
                .adapter_status = gpu->adapter_status,
                .initialisations = gpu->initialisations,
                .teardowns = gpu->teardowns,
                .uvm_registrations = gpu->uvm_registrations,
                .compute_mode = gpu->settings.compute_mode,
        };
        LIST_FOREACH(file, &model->files, link)
                ret_view->attachments += file_references(file, gpu, false);
        numa_fill(model, gpu, &ret_view->numa);
}

static int compare_minors(const void *left, const void *right) {
        const struct model_gpu_view *a = left, *b = right;

        if (a->minor != b->minor)
                return a->minor < b->minor ? -1 : 1;
        return pci_address_compare(&a->spec.address, &b->spec.address);
}

size_t model_list(struct model *model, struct model_gpu_view *views) {
        MODEL_LOCKED(model);

        for (size_t i = 0; i < model->n_gpus; i++)
                fill_view(model, &model->gpus[i], &views[i]);
        qsort(views, model->n_gpus, sizeof(*views), compare_minors);
        return model->n_gpus;
}

void model_wait_device_list(struct model *model) {
        MODEL_LOCKED(model);

        turnstile_enter(model, &model->device_list);
        turnstile_leave(&model->device_list);
}

void model_wait_api(struct model *model) {
        MODEL_LOCKED(model);

        model_enter_api(model);
}
