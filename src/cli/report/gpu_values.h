#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What is known of a GPU, value by value, for the tables of status, query and metrics to choose from. */

#include "cli/node/snapshot.h"
#include "cli/report/value.h"

typedef struct value gpu_value(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);

/* A key of a JSON object. */
struct gpu_key {
        const char *name;
        gpu_value *get;
};

json_t *gpu_keys_json(const struct gpu_key *keys, size_t n, const struct snapshot *snapshot,
                      const struct snapshot_gpu *gpu);

/* From anybody. */
gpu_value gpu_address, gpu_bus_id, gpu_excluded, gpu_held, gpu_index, gpu_initialised, gpu_legacy, gpu_legacy_inferred,
        gpu_minor, gpu_name, gpu_persistence, gpu_state, gpu_uuid;

/* From our daemon only; of a GPU that it does not know they are unknown. */
gpu_value gpu_configured, gpu_error, gpu_failures, gpu_leased, gpu_open, gpu_opens, gpu_since, gpu_stuck, gpu_uvm,
        gpu_uvm_reason, gpu_wanted;
