/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/gpu_values.h"

#include "base/cleanup.h"
#include "base/text.h"

json_t *gpu_keys_json(const struct gpu_key *keys, size_t n, const struct snapshot *snapshot,
                      const struct snapshot_gpu *gpu) {
        json_t *object = json_object();

        for (size_t i = 0; i < n; i++) {
                const struct value value = keys[i].get(snapshot, gpu);

                (void)json_object_set_new(object, keys[i].name, value_json(&value));
        }
        return object;
}

/* ---- from anybody --------------------------------------------------------------------------------------------- */

#define GPU_VALUE(name, expression)                                                                                    \
        struct value gpu_##name(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {                     \
                return expression;                                                                                     \
        }

static struct value tristate(enum hf_tristate tristate) {
        return tristate == HF_UNKNOWN ? (struct value){0} : value_boolean(tristate == HF_YES);
}

GPU_VALUE(address, value_text(gpu->address))
GPU_VALUE(excluded, value_boolean(gpu->info.excluded))
GPU_VALUE(held, tristate(gpu->held))
GPU_VALUE(index, value_number(gpu->index))
GPU_VALUE(initialised, tristate(gpu->initialised))
GPU_VALUE(legacy, tristate(gpu->legacy))
GPU_VALUE(legacy_inferred, value_boolean(gpu->legacy_inferred))
GPU_VALUE(minor, gpu->info.minor >= 0 ? value_number((uint64_t)gpu->info.minor) : (struct value){0})
GPU_VALUE(name, value_text(gpu->info.model))
GPU_VALUE(uuid, value_text(gpu->info.uuid))

struct value gpu_bus_id(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        char text[PCI_ADDRESS_SIZE];

        return value_text(pci_address_format_nvml(&gpu->info.address, text));
}

struct value gpu_persistence(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        struct value value = {0};

        if (gpu->persistence != PERSISTENCE_UNKNOWN)
                value = value_boolean(gpu->persistence == PERSISTENCE_ON);
        value.colour = gpu->persistence == PERSISTENCE_ON ? COLOUR_GOOD : COLOUR_WARNING;
        return value;
}

struct value gpu_state(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        static const struct {
                const char *state;
                enum colour colour;
        } colours[] = {
                /* clang-format off */
                {"closing", COLOUR_WARNING},
                {"failed", COLOUR_BAD},
                {"held", COLOUR_GOOD},
                {"opening", COLOUR_WARNING},
                {"stuck", COLOUR_BAD},
                /* clang-format on */
        };
        struct value value = value_text(snapshot_state(snapshot, gpu));

        for (size_t i = 0; i < ARRAY_SIZE(colours); i++)
                if (text_equal(colours[i].state, value.text))
                        value.colour = colours[i].colour;
        return value;
}

/* ---- from our daemon ------------------------------------------------------------------------------------------ */

#define DETAIL_VALUE(name, expression)                                                                                 \
        GPU_VALUE(name, snapshot_has_detail(snapshot, gpu) ? (expression) : untold(snapshot))

static struct value untold(const struct snapshot *snapshot) {
        return (struct value){.kind = snapshot->daemon == DAEMON_HOLDFAST ? VALUE_UNKNOWN : VALUE_NOT_SUPPORTED};
}

static const char *const uvm_states[] = {[HF_UVM_OFF] = "off", [HF_UVM_WAITING] = "waiting", [HF_UVM_ON] = "on"};

DETAIL_VALUE(error, value_text(gpu->detail.error_text))
DETAIL_VALUE(failures, value_number(gpu->detail.failures))
DETAIL_VALUE(leased, value_boolean(gpu->detail.leased))
DETAIL_VALUE(open, value_duration(gpu->detail.open_duration_usec))
DETAIL_VALUE(opens, value_number(gpu->detail.opens))
DETAIL_VALUE(since, value_time(gpu->detail.since_realtime_usec))
DETAIL_VALUE(stuck, value_boolean(gpu->detail.stuck))
DETAIL_VALUE(uvm, value_text(uvm_states[gpu->detail.uvm]))
DETAIL_VALUE(uvm_reason, value_text(gpu->detail.uvm_text))
DETAIL_VALUE(wanted, value_boolean(gpu->detail.wanted))
GPU_VALUE(configured, tristate(gpu->configured))
