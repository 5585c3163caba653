/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Controls of a device or a subdevice object, about its GPU, control->gpu. "Invented" marks made-up values: they fit
 * the device id, an H100's, but do not describe real hardware.
 */

#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "sim/rm/private.h"
#include "sim/rm/user_memory.h"

enum {
        KIB_PER_MIB = 1024,
        BAR1_KIB = 128 * KIB_PER_MIB * KIB_PER_MIB,
};

/* ---- device ---- */

uint32_t control_query_persistence(struct control *control) {
        control->parameters.persistence.state = control->gpu.spec.legacy ? 0 : 1;
        return NV_OK;
}

uint32_t control_modify_persistence(struct control *control) {
        uint32_t wanted = control->parameters.persistence.state;
        int r;

        if (wanted > 1)
                return NV_ERR_INVALID_ARGUMENT;
        r = model_legacy_set(control->file->rm->model, control->gpu.minor, control->caller, wanted == 0);
        return r < 0 ? NV_ERR_GPU_IS_LOST : NV_OK;
}

/* Invented: no virtual machine. */
uint32_t control_virtualization(struct control *control) {
        control->parameters.virtualization = (struct rm_virtualization){0};
        return NV_OK;
}

/* Invented: no vGPU (0x80028e), no special brand (0x800294). */
uint32_t control_zero(struct control *control) {
        control->parameters.word.value = 0;
        return NV_OK;
}

/* ---- index lists ---- */

static uint32_t answer_list(struct control *control,
                            uint32_t (*answer)(const struct control *control, uint32_t index)) {
        struct rm_list *list = &control->parameters.list;

        if (list->count > (control->call->params_size - sizeof(list->count)) / sizeof(list->items[0]))
                return NV_ERR_INVALID_ARGUMENT;
        for (uint32_t i = 0; i < list->count; i++)
                list->items[i].data = answer(control, list->items[i].index);
        return NV_OK;
}

/* Invented: the version of the video BIOS, as in /proc. */
static uint32_t bios_info(uint32_t index) {
        enum { REVISION = 0, OEM_REVISION = 1 };

        switch (index) {
        case REVISION:
                return MODEL_BIOS_REVISION;
        case OEM_REVISION:
                return MODEL_BIOS_OEM_REVISION;
        default:
                return 0;
        }
}

uint32_t control_bios_info(struct control *control) {
        const struct rm_pointed_list *list = &control->parameters.pointed_list;
        struct rm_list_item items[RM_BIOS_LIST_MAX];
        size_t size = list->count * sizeof(items[0]);

        if (list->count > ARRAY_SIZE(items))
                return NV_ERR_INVALID_ARGUMENT;
        if (user_memory_read(control->caller->pid, list->items, items, size) < 0)
                return RM_ERR_INVALID_ADDRESS;
        for (uint32_t i = 0; i < list->count; i++)
                items[i].data = bios_info(items[i].index);
        return user_memory_write(control->caller->pid, list->items, items, size) < 0 ? (uint32_t)RM_ERR_INVALID_ADDRESS
                                                                                     : NV_OK;
}

/* MIG is from the scenario. Everything else is invented. */
static uint32_t gpu_info(const struct control *control, uint32_t index) {
        enum { BRAND = 0x11, MIG_MODE = 0x2a };

        switch (index) {
        case BRAND:
                return 1; /* with 0, nvidia-smi refuses to reset */
        case MIG_MODE:
                return control->gpu.spec.mig;
        default:
                return 0;
        }
}

uint32_t control_gpu_info(struct control *control) {
        return answer_list(control, gpu_info);
}

/* In KiB. The size is from the scenario; all of it is free. */
static uint32_t memory_info(const struct control *control, uint32_t index) {
        enum {
                BAR1_SIZE = 0x05,
                RAM_SIZE = 0x07,
                TOTAL_RAM_SIZE = 0x08,
                HEAP_SIZE = 0x09,
                BUS_WIDTH = 0x0b,
                HEAP_FREE = 0x16,
                BAR1_AVAILABLE = 0x1d,
                USABLE_RAM_SIZE = 0x20,
        };

        switch (index) {
        case RAM_SIZE:
        case TOTAL_RAM_SIZE:
        case HEAP_SIZE:
        case HEAP_FREE:
        case USABLE_RAM_SIZE:
                return control->gpu.spec.memory_mib * KIB_PER_MIB;
        case BAR1_SIZE:
        case BAR1_AVAILABLE:
                return BAR1_KIB; /* invented */
        case BUS_WIDTH:
                return 5120; /* invented: bits */
        default:
                return 0;
        }
}

uint32_t control_memory_info(struct control *control) {
        return answer_list(control, memory_info);
}

/* ---- who it is ---- */

uint32_t control_name(struct control *control) {
        struct rm_name *name = &control->parameters.name;
        char text[sizeof(name->ascii)] = "";

        (void)text_copy(text, sizeof(text), control->gpu.spec.model);
        memset(&name->unicode, 0, sizeof(name->unicode));
        if (!name->is_unicode)
                memcpy(name->ascii, text, sizeof(name->ascii));
        for (size_t i = 0; name->is_unicode && i < sizeof(text); i++)
                name->unicode[i] = (unsigned char)text[i];
        return NV_OK;
}

uint32_t control_gid(struct control *control) {
        enum { FORMAT_MASK = 3, FORMAT_BYTES = 2 };
        struct rm_gid *gid = &control->parameters.gid;
        bool as_bytes = (gid->flags & FORMAT_MASK) == FORMAT_BYTES;

        memset(gid->data, 0, sizeof(gid->data));
        if (as_bytes)
                scenario_uuid_bytes(control->gpu.spec.uuid, gid->data);
        else
                (void)text_copy((char *)gid->data, sizeof(gid->data), control->gpu.spec.uuid);
        gid->length = as_bytes ? NV_UUID_SIZE : (uint32_t)strlen(control->gpu.spec.uuid) + 1;
        return NV_OK;
}

/* Invented: a GH100 of revision A1. */
uint32_t control_architecture(struct control *control) {
        control->parameters.architecture = (struct rm_architecture){.architecture = 0x180, .revision = 0xa1};
        return NV_OK;
}

/* Invented, the same as in sysfs and NV_ESC_CARD_INFO. */
uint32_t control_pci_ids(struct control *control) {
        control->parameters.pci_ids = (struct rm_pci_ids){
                .device = MODEL_PCI_DEVICE << 16 | MODEL_PCI_VENDOR,
                .subsystem = MODEL_PCI_SUBSYSTEM << 16 | MODEL_PCI_VENDOR,
                .revision = MODEL_PCI_REVISION,
        };
        return NV_OK;
}

/* ---- how it is ---- */

uint32_t control_compute_mode(struct control *control) {
        static const struct {
                const char *name;
                uint32_t rules;
        } modes[] = {{"Default", 0}, {"Prohibited", 2}, {"Exclusive_Process", 3}};

        for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
                if (text_equal(control->gpu.compute_mode, modes[i].name))
                        control->parameters.word.value = modes[i].rules;
        return NV_OK;
}

/* Invented: P0. Each state is a bit. */
uint32_t control_performance_state(struct control *control) {
        control->parameters.word.value = 1;
        return NV_OK;
}

/* Invented: both clocks are the system clock. */
uint32_t control_clocks(struct control *control) {
        struct rm_clock_correlation *clocks = &control->parameters.clocks;

        if (clocks->count > RM_CLOCK_SAMPLES_MAX)
                return NV_ERR_INVALID_ARGUMENT;
        for (size_t i = 0; i < clocks->count; i++)
                clocks->samples[i].cpu = clocks->samples[i].gpu = clock_monotonic_usec() * 1000;
        return NV_OK;
}

/* The firmware's version is the driver's. */
uint32_t control_gsp_features(struct control *control) {
        struct rm_gsp_features *gsp = &control->parameters.gsp;

        *gsp = (struct rm_gsp_features){.valid = 1, .runs_rm = 1};
        (void)text_copy(gsp->version, sizeof(gsp->version), model_scenario(control->file->rm->model)->driver_version);
        return NV_OK;
}

/* One sensor, of the GPU's core. */
static bool execute(const struct control *control, struct rm_thermal_instruction *instruction) {
        enum {
                TARGETS_AVAILABLE = 0x100,
                TARGET_TYPE = 0x101,
                PROVIDER_TYPE = 0x301,
                SENSORS_AVAILABLE = 0x500,
                SENSOR_PROVIDER = 0x510,
                SENSOR_TARGET = 0x520,
                SENSOR_RANGE = 0x540,
                SENSOR_READING = 0x1500,
        };
        uint32_t *operands = instruction->operands;

        switch (instruction->opcode) {
        case TARGETS_AVAILABLE:
        case SENSORS_AVAILABLE:
                operands[0] = 1;
                return true;
        case TARGET_TYPE:
        case PROVIDER_TYPE:
                operands[1] = 1; /* the core, inside the GPU */
                return operands[0] == 0;
        case SENSOR_PROVIDER:
        case SENSOR_TARGET:
                operands[1] = 0;
                return operands[0] == 0;
        case SENSOR_RANGE:
                operands[1] = 0;
                operands[2] = 127;
                return operands[0] == 0;
        case SENSOR_READING:
                operands[1] = control->gpu.spec.temperature;
                return operands[0] == 0;
        default:
                return false;
        }
}

uint32_t control_thermal(struct control *control) {
        struct rm_thermal *thermal = &control->parameters.thermal;

        if (thermal->n_instructions > RM_INSTRUCTIONS_MAX)
                return NV_ERR_INVALID_ARGUMENT;
        thermal->n_successful = 0;
        for (size_t i = 0; i < thermal->n_instructions; i++) {
                struct rm_thermal_instruction *instruction = &thermal->instructions[i];
                bool done = execute(control, instruction);

                instruction->executed = 1;
                instruction->result = done ? NV_OK : NV_ERR_NOT_SUPPORTED;
                thermal->n_successful += done;
        }
        return NV_OK;
}
