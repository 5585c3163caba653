#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The values of a GPU, from which the tables of status, query and metrics choose. */

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

/* Available with any daemon and without one. */
gpu_value gpu_address, gpu_bus_id, gpu_excluded, gpu_held, gpu_index, gpu_initialised, gpu_legacy, gpu_legacy_inferred,
        gpu_minor, gpu_name, gpu_persistence, gpu_state, gpu_uuid;

/* Only our daemon reports these, for the GPUs that it knows. */
gpu_value gpu_configured, gpu_error, gpu_failures, gpu_leased, gpu_open, gpu_opens, gpu_since, gpu_stuck, gpu_uvm,
        gpu_uvm_reason, gpu_wanted;
