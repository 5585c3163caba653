#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Values of the Holdfast program for tests. Every field has a value of its own, so a mix-up is detected. */

#include <string.h>

#include "rpc/holdfast.h"

static inline struct hf_gpu gpus_failed(void) {
        return (struct hf_gpu){
                .address = {.domain = 0x10001, .bus = 0x17, .slot = 3, .function = 1},
                .minor = -1,
                .uuid = "GPU-7f0c0e5c-6d1b-4f0a-9b1e-0123456789ab",
                .model = "NVIDIA H100 80GB HBM3",
                .state = HF_GPU_FAILED,
                .wanted = true,
                .since_realtime_usec = UINT64_C(1767225600123456),
                .open_duration_usec = UINT64_C(0x100000002),
                .opens = 5,
                .failures = 6,
                .stuck = true,
                .error_number = 19,
                .error_nv_status = 0x0f,
                .error_text = "the GPU is lost: reset it",
                .uvm = HF_UVM_WAITING,
                .uvm_text = "the NVLink fabric is not ready",
                .legacy_flag = HF_UNKNOWN,
                .leased = true,
        };
}

/* Has the maximum size when encoded. */
static inline struct hf_gpu gpus_longest(void) {
        struct hf_gpu gpu = gpus_failed();

        memset(gpu.uuid, 'u', sizeof(gpu.uuid) - 1);
        memset(gpu.model, 'm', sizeof(gpu.model) - 1);
        memset(gpu.error_text, 'e', sizeof(gpu.error_text) - 1);
        memset(gpu.uvm_text, 'v', sizeof(gpu.uvm_text) - 1);
        return gpu;
}

static inline struct hf_stats gpus_stats(void) {
        return (struct hf_stats){
                .started_realtime_usec = UINT64_C(1767225600000001),
                .sessions = 2,
                .sessions_max = 3,
                .leases = 4,
                .accepted = UINT64_C(0x200000005),
                .evicted = 6,
                .expired = 7,
                .malformed = 8,
                .calls = 9,
                .rejected = 10,
                .refused = 11,
        };
}

/* The GPU for true is configured opposite to the one for false. */
static inline struct hf_gpu_configured gpus_configured(bool persistence) {
        return (struct hf_gpu_configured){
                .address = {.domain = 0x10001, .bus = 0x2a, .slot = 3, .function = 4},
                .persistence = persistence,
                .uvm_persistence = !persistence,
        };
}

static inline struct hf_list_head gpus_head(uint32_t n_gpus) {
        return (struct hf_list_head){
                .version = "0.1.0",
                .backend = "kernel",
                .pid = 4711,
                .started_realtime_usec = UINT64_C(1767225600000000),
                .ready = true,
                .serial = UINT64_C(0x200000003),
                .n_gpus = n_gpus,
        };
}
