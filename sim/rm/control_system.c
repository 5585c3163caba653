/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Controls of a client: about RM as a whole, and about GPUs by id, for which no object is needed. */

#include <string.h>

#include "base/text.h"
#include "sim/rm/private.h"
#include "sim/rm/user_memory.h"

static struct model *model_of(const struct control *control) {
        return control->file->rm->model;
}

static uint32_t id_of(const struct model_gpu_view *gpu) {
        return nv_gpu_id(gpu->spec.address.domain, gpu->spec.address.bus, gpu->spec.address.slot);
}

/* ---- finding a GPU ---- */

bool gpu_by_minor(struct model *model, unsigned minor, struct model_gpu_view *ret_gpu) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(model, views);

        for (size_t i = 0; i < n_views; i++)
                if (views[i].probed && views[i].minor == minor) {
                        *ret_gpu = views[i];
                        return true;
                }
        return false;
}

static bool gpu_by_id(struct model *model, uint32_t gpu_id, struct model_gpu_view *ret_gpu) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(model, views);

        for (size_t i = 0; i < n_views; i++)
                if (views[i].probed && id_of(&views[i]) == gpu_id) {
                        *ret_gpu = views[i];
                        return true;
                }
        return false;
}

/* ---- RM as a whole ---- */

static uint32_t put_string(const struct control *control, uint64_t address, const char *text) {
        uint32_t room = control->parameters.build.string_size;
        size_t length = strlen(text) + 1;

        if (address == 0)
                return NV_OK;
        if (length > room)
                return NV_ERR_INVALID_ARGUMENT;
        return user_memory_write(control->caller->pid, address, text, length) < 0 ? (uint32_t)RM_ERR_INVALID_ADDRESS
                                                                                  : NV_OK;
}

/* The version is from the scenario. The two other strings and the changelists are invented. */
uint32_t control_build_version(struct control *control) {
        struct rm_build_version *build = &control->parameters.build;
        const char *version = model_scenario(model_of(control))->driver_version;
        uint32_t status = put_string(control, build->driver_version, version);

        if (status == NV_OK)
                status = put_string(control, build->version, "simulated");
        if (status == NV_OK)
                status = put_string(control, build->title, "holdfast-sim");
        build->changelist = build->official_changelist = 0;
        return status;
}

/* Invented: there is no NVSwitch in this system. */
uint32_t control_fabric_status(struct control *control) {
        control->parameters.fabric.status = 1; /* NV0000_CTRL_GET_SYSTEM_FABRIC_STATUS_SKIP */
        return NV_OK;
}

/* ---- lists of GPUs ---- */

static void fill_ids(struct control *control, uint32_t *ids, size_t room,
                     bool (*is_one)(const struct model_gpu_view *gpu)) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(model_of(control), views), n_ids = 0;

        for (size_t i = 0; i < n_views && n_ids < room; i++)
                if (is_one(&views[i]))
                        ids[n_ids++] = id_of(&views[i]);
        while (n_ids < room)
                ids[n_ids++] = (uint32_t)RM_GPU_ID_NONE;
}

static bool is_attached(const struct model_gpu_view *gpu) {
        return gpu->probed && gpu->initialised;
}

static bool is_probed(const struct model_gpu_view *gpu) {
        return gpu->probed && !gpu->spec.excluded;
}

static bool is_excluded(const struct model_gpu_view *gpu) {
        return gpu->probed && gpu->spec.excluded;
}

uint32_t control_attached_ids(struct control *control) {
        fill_ids(control, control->parameters.attached.gpu_ids, RM_ATTACHED_MAX, is_attached);
        return NV_OK;
}

uint32_t control_probed_ids(struct control *control) {
        struct rm_probed_ids *probed = &control->parameters.probed;

        fill_ids(control, probed->gpu_ids, RM_PROBED_MAX, is_probed);
        fill_ids(control, probed->excluded_gpu_ids, RM_PROBED_MAX, is_excluded);
        return NV_OK;
}

/* Returns the first of the ids that belongs to no GPU, or RM_GPU_ID_NONE. */
static uint32_t find_stranger(const struct control *control, const uint32_t *ids, size_t n) {
        struct model_gpu_view gpu;

        for (size_t i = 0; i < n && ids[i] != (uint32_t)RM_GPU_ID_NONE && ids[0] != RM_GPU_IDS_ALL; i++)
                if (!gpu_by_id(model_of(control), ids[i], &gpu))
                        return ids[i];
        return (uint32_t)RM_GPU_ID_NONE;
}

/* On Unix, opening a GPU attaches it. These controls only check the ids. */
uint32_t control_attach_ids(struct control *control) {
        struct rm_attach_ids *attach = &control->parameters.attach;

        attach->failed_id = find_stranger(control, attach->gpu_ids, RM_PROBED_MAX);
        return attach->failed_id == (uint32_t)RM_GPU_ID_NONE ? NV_OK : NV_ERR_INVALID_ARGUMENT;
}

uint32_t control_async_attach(struct control *control) {
        uint32_t stranger = find_stranger(control, &control->parameters.gpu_id.gpu_id, 1);

        return stranger == (uint32_t)RM_GPU_ID_NONE ? NV_OK : NV_ERR_INVALID_ARGUMENT;
}

uint32_t control_detach_ids(struct control *control) {
        uint32_t stranger = find_stranger(control, control->parameters.attached.gpu_ids, RM_ATTACHED_MAX);

        return stranger == (uint32_t)RM_GPU_ID_NONE ? NV_OK : NV_ERR_INVALID_ARGUMENT;
}

/* ---- one GPU, by its id ---- */

/* RM knows only attached GPUs, that is, initialised ones: gpumgrGetGpuFromId(). */
static bool find_attached(const struct control *control, uint32_t gpu_id, struct model_gpu_view *ret_gpu) {
        return gpu_by_id(model_of(control), gpu_id, ret_gpu) && ret_gpu->initialised;
}

static int32_t numa_node(const struct model_gpu_view *gpu) {
        return gpu->numa.status == NV_NUMA_DISABLED ? -1 : gpu->numa.node;
}

/* Counts clients with a device object, UVM and attached files, but not open files of the GPU's node. */
static bool is_in_use(const struct control *control, const struct model_gpu_view *gpu) {
        struct rm *rm = control->file->rm;
        unsigned n_clients;

        rm_lock(rm);
        n_clients = object_count_users(rm, gpu->minor);
        rm_unlock(rm);
        return n_clients > 0 || gpu->uvm_registrations > 0 || gpu->attachments > 0;
}

uint32_t control_id_info(struct control *control) {
        struct rm_id_info *info = &control->parameters.id_info;
        struct model_gpu_view gpu;

        if (!find_attached(control, info->gpu_id, &gpu))
                return NV_ERR_INVALID_ARGUMENT;
        info->flags = is_in_use(control, &gpu);
        info->device_instance = info->gpu_instance = gpu.minor;
        info->subdevice_instance = info->sli_status = info->board_id = 0;
        info->numa_node = numa_node(&gpu);
        return NV_OK;
}

uint32_t control_id_info_v2(struct control *control) {
        struct nv_gpu_id_info *info = &control->parameters.id_info_v2;
        struct model_gpu_view gpu;

        if (!find_attached(control, info->gpu_id, &gpu))
                return NV_ERR_INVALID_ARGUMENT;
        info->flags = is_in_use(control, &gpu);
        info->device_instance = info->gpu_instance = gpu.minor;
        info->subdevice_instance = 0;
        info->numa_node = numa_node(&gpu);
        return NV_OK;
}

uint32_t control_pci_info(struct control *control) {
        struct rm_pci_info *pci = &control->parameters.pci;
        struct model_gpu_view gpu;

        if (!gpu_by_id(model_of(control), pci->gpu_id, &gpu))
                return NV_ERR_INVALID_ARGUMENT;
        pci->domain = gpu.spec.address.domain;
        pci->bus = gpu.spec.address.bus;
        pci->slot = gpu.spec.address.slot;
        return NV_OK;
}

/* For any GPU that the driver has probed, initialised or not. */
uint32_t control_query_drain(struct control *control) {
        struct nv_drain_state *drain = &control->parameters.drain;
        struct model_gpu_view gpu;

        if (!gpu_by_id(model_of(control), drain->gpu_id, &gpu))
                return NV_ERR_INVALID_ARGUMENT;
        drain->state = gpu.spec.drain;
        drain->flags = 0;
        return NV_OK;
}

uint32_t control_modify_drain(struct control *control) {
        const struct nv_drain_state *drain = &control->parameters.drain;
        bool remove = drain->flags & RM_DRAIN_REMOVE_DEVICE;
        int r;

        if (drain->state > 1 || (drain->state == 1 && (drain->flags & RM_DRAIN_LINK_DISABLE) && !remove))
                return NV_ERR_INVALID_ARGUMENT;
        r = model_drain(model_of(control), drain->gpu_id, control->caller, drain->state == 1, remove);
        return r < 0 ? NV_ERR_INVALID_ARGUMENT : NV_OK;
}
