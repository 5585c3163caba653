/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * RM_CONTROL. A table lists the supported controls, with the kind of object, the size, the function that answers, and
 * where the answer comes from. All others return NOT_SUPPORTED, as the driver does for features that a GPU lacks, and
 * are counted. docs/simulator.md has the same table (a test compares them).
 */

#include "sim/rm/private.h"
#include "sim/rm/user_memory.h"

enum target { OF_CLIENT, OF_DEVICE, OF_SUBDEVICE };

/* Where an answer comes from. */
enum worth {
        MODEL,    /* from the model, or done by it */
        SCENARIO, /* from a key of the scenario */
        INVENTED, /* a constant that fits an H100, only so that NVIDIA's programs run */
};

#define FROM_550                                                                                                       \
        { .from = DRIVER_VERSION(550, 40, 7) }
#define FROM_555                                                                                                       \
        { .from = DRIVER_VERSION(555, 42, 2) }
#define UNTIL_555                                                                                                      \
        { .until = DRIVER_VERSION(555, 42, 2) }

static const struct control_row {
        uint32_t command;
        enum target target;
        uint32_t size; /* 0: an index list of any length, which differs between versions */
        struct version_span versions;
        bool privileged; /* root only */
        enum worth origin;
        uint32_t (*run)(struct control *control);
} controls[] = {
        {0x101, OF_CLIENT, sizeof(struct rm_build_version), {0}, false, SCENARIO, control_build_version},
        {0x136, OF_CLIENT, sizeof(struct rm_fabric_status), {0}, false, INVENTED, control_fabric_status},
        {0x201, OF_CLIENT, sizeof(struct rm_attached_ids), {0}, false, MODEL, control_attached_ids},
        {0x202, OF_CLIENT, sizeof(struct rm_id_info), {0}, false, MODEL, control_id_info},
        {0x205, OF_CLIENT, sizeof(struct nv_gpu_id_info), {0}, false, MODEL, control_id_info_v2},
        {0x214, OF_CLIENT, sizeof(struct rm_probed_ids), {0}, false, MODEL, control_probed_ids},
        {0x215, OF_CLIENT, sizeof(struct rm_attach_ids), {0}, false, MODEL, control_attach_ids},
        {0x216, OF_CLIENT, sizeof(struct rm_attached_ids), {0}, false, MODEL, control_detach_ids},
        {0x21b, OF_CLIENT, sizeof(struct rm_pci_info), {0}, false, SCENARIO, control_pci_info},
        {0x278, OF_CLIENT, sizeof(struct nv_drain_state), {0}, true, MODEL, control_modify_drain},
        {0x279, OF_CLIENT, sizeof(struct nv_drain_state), {0}, false, MODEL, control_query_drain},
        {0x289, OF_CLIENT, sizeof(struct rm_gpu_id), FROM_550, false, MODEL, control_async_attach},
        {0x501, OF_CLIENT, sizeof(struct nv_set_notification), {0}, false, MODEL, control_set_notification},
        {0x502, OF_CLIENT, sizeof(struct nv_system_event), {0}, false, MODEL, control_get_event},

        {0x800287, OF_DEVICE, sizeof(struct nv_persistence), {0}, true, MODEL, control_modify_persistence},
        {0x800288, OF_DEVICE, sizeof(struct nv_persistence), {0}, false, MODEL, control_query_persistence},
        {0x800289, OF_DEVICE, sizeof(uint32_t), UNTIL_555, false, INVENTED, control_virtualization},
        {0x800289, OF_DEVICE, sizeof(struct rm_virtualization), FROM_555, false, INVENTED, control_virtualization},
        {0x80028e, OF_DEVICE, sizeof(uint8_t), {0}, false, INVENTED, control_zero},
        {0x800294, OF_DEVICE, sizeof(struct rm_word), {0}, false, INVENTED, control_zero},

        {0x20800102, OF_SUBDEVICE, 0, {0}, false, INVENTED, control_gpu_info},
        {0x20800110, OF_SUBDEVICE, sizeof(struct rm_name), {0}, false, SCENARIO, control_name},
        {0x20800131, OF_SUBDEVICE, sizeof(struct rm_word), {0}, false, MODEL, control_compute_mode},
        {0x2080014a, OF_SUBDEVICE, sizeof(struct rm_gid), {0}, false, SCENARIO, control_gid},
        {0x20800406, OF_SUBDEVICE, sizeof(struct rm_clock_correlation), {0}, false, INVENTED, control_clocks},
        {0x20800802, OF_SUBDEVICE, sizeof(struct rm_pointed_list), {0}, false, INVENTED, control_bios_info},
        {0x20801303, OF_SUBDEVICE, 0, {0}, false, SCENARIO, control_memory_info},
        {0x20801701, OF_SUBDEVICE, sizeof(struct rm_architecture), {0}, false, INVENTED, control_architecture},
        {0x20801801, OF_SUBDEVICE, sizeof(struct rm_pci_ids), {0}, false, INVENTED, control_pci_ids},
        {0x20802068, OF_SUBDEVICE, sizeof(struct rm_word), {0}, false, INVENTED, control_performance_state},
        {0x20803601, OF_SUBDEVICE, sizeof(struct rm_gsp_features), {0}, false, SCENARIO, control_gsp_features},
        {0x20808513, OF_SUBDEVICE, sizeof(struct rm_thermal), {0}, false, SCENARIO, control_thermal},
};

static bool size_fits(const struct control_row *row, uint32_t size) {
        if (row->size != 0)
                return size == row->size;
        return size >= sizeof(uint32_t) && size <= sizeof(struct rm_list) && size % 8 == sizeof(uint32_t);
}

static uint32_t run_control(const struct control_row *row, struct control *control) {
        const struct nv_rm_control *call = control->call;
        pid_t process = control->caller->pid;
        uint32_t status;

        if (!size_fits(row, call->params_size))
                return NV_ERR_INVALID_PARAM_STRUCT;
        if (user_memory_read(process, call->params, &control->parameters, call->params_size) < 0)
                return RM_ERR_INVALID_ADDRESS;
        status = row->run(control);
        if (status == NV_OK && user_memory_write(process, call->params, &control->parameters, call->params_size) < 0)
                return RM_ERR_INVALID_ADDRESS;
        return status;
}

struct found {
        enum target target;
        unsigned minor;
};

/* As in the driver, looks up the client and the object before the control (rs_server.c, serverControl). */
static uint32_t find_target(struct rm_file *file, const struct nv_rm_control *call, struct found *ret_found) {
        const struct root_client *client = client_find(file, call->client);
        const struct object *object;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        *ret_found = (struct found){.target = OF_CLIENT};
        if (call->object == client->handle)
                return NV_OK;
        object = object_find(client, call->object);
        if (!object)
                return NV_ERR_OBJECT_NOT_FOUND;
        if (object->class == NV_CLASS_DEVICE)
                *ret_found = (struct found){.target = OF_DEVICE, .minor = object->minor};
        else if (object->class == RM_CLASS_SUBDEVICE)
                *ret_found = (struct found){.target = OF_SUBDEVICE, .minor = object->minor};
        return NV_OK;
}

static const struct control_row *find_row(const struct rm_file *file, uint32_t command) {
        uint64_t version = version_parse(model_scenario(file->rm->model)->driver_version);

        for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
                if (controls[i].command == command && version_in(version, &controls[i].versions))
                        return &controls[i];
        return NULL;
}

void rm_control(struct rm_file *file, const struct model_caller *caller, struct nv_rm_control *call) {
        struct control control = {.file = file, .caller = caller, .call = call};
        const struct control_row *row;
        struct found found = {0};

        model_wait_api(file->rm->model);
        rm_lock(file->rm);
        call->status = find_target(file, call, &found);
        rm_unlock(file->rm);
        if (call->status != NV_OK)
                return;
        row = find_row(file, call->command);
        if (!row)
                model_note_unknown_ioctl(file->rm->model, MODEL_NODE_CTL, caller, call->command);
        if (!row || row->target != found.target)
                call->status = NV_ERR_NOT_SUPPORTED;
        else if (row->privileged && caller->uid != 0)
                call->status = NV_ERR_INSUFFICIENT_PERMISSIONS;
        else if (row->target != OF_CLIENT && !gpu_by_minor(file->rm->model, found.minor, &control.gpu))
                call->status = NV_ERR_GPU_IS_LOST;
        else if (row->target == OF_SUBDEVICE && control.gpu.spec.lost)
                call->status = NV_ERR_GPU_IS_LOST;
        else
                call->status = run_control(row, &control);
}
