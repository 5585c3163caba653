/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "rpc/holdfast.h"

#include "base/cleanup.h"

static const char *const state_names[] = {
        /* clang-format off */
        [HF_GPU_RELEASED] = "released",
        [HF_GPU_OPENING] = "opening",
        [HF_GPU_HELD] = "held",
        [HF_GPU_CLOSING] = "closing",
        [HF_GPU_FAILED] = "failed",
        /* clang-format on */
};

static void name_encode(struct xdr_writer *writer, const char name[static HF_NAME_SIZE]) {
        xdr_write_string(writer, name, HF_NAME_SIZE - 1);
}

static void text_encode(struct xdr_writer *writer, const char text[static HF_TEXT_SIZE]) {
        xdr_write_string(writer, text, HF_TEXT_SIZE - 1);
}

void hf_address_decode(struct xdr_reader *reader, struct hf_address *address) {
        address->domain = xdr_read_u32(reader);
        address->bus = xdr_read_u32(reader);
        address->slot = xdr_read_u32(reader);
        address->function = xdr_read_u32(reader);
}

void hf_address_encode(struct xdr_writer *writer, const struct hf_address *address) {
        xdr_write_u32(writer, address->domain);
        xdr_write_u32(writer, address->bus);
        xdr_write_u32(writer, address->slot);
        xdr_write_u32(writer, address->function);
}

void hf_list_head_decode(struct xdr_reader *reader, struct hf_list_head *head) {
        xdr_read_string(reader, head->version, sizeof(head->version));
        xdr_read_string(reader, head->backend, sizeof(head->backend));
        head->pid = xdr_read_u32(reader);
        head->started_realtime_usec = xdr_read_u64(reader);
        head->ready = xdr_read_bool(reader);
        head->serial = xdr_read_u64(reader);
        head->n_gpus = xdr_read_at_most(reader, HF_GPUS_MAX);
}

void hf_list_head_encode(struct xdr_writer *writer, const struct hf_list_head *head) {
        name_encode(writer, head->version);
        name_encode(writer, head->backend);
        xdr_write_u32(writer, head->pid);
        xdr_write_u64(writer, head->started_realtime_usec);
        xdr_write_bool(writer, head->ready);
        xdr_write_u64(writer, head->serial);
        xdr_write_u32(writer, head->n_gpus);
}

void hf_gpu_decode(struct xdr_reader *reader, struct hf_gpu *gpu) {
        hf_address_decode(reader, &gpu->address);
        gpu->minor = xdr_read_i32(reader);
        xdr_read_string(reader, gpu->uuid, sizeof(gpu->uuid));
        xdr_read_string(reader, gpu->model, sizeof(gpu->model));
        gpu->state = xdr_read_at_most(reader, HF_GPU_FAILED);
        gpu->wanted = xdr_read_bool(reader);
        gpu->since_realtime_usec = xdr_read_u64(reader);
        gpu->open_duration_usec = xdr_read_u64(reader);
        gpu->opens = xdr_read_u32(reader);
        gpu->failures = xdr_read_u32(reader);
        gpu->stuck = xdr_read_bool(reader);
        gpu->error_number = xdr_read_i32(reader);
        gpu->error_nv_status = xdr_read_u32(reader);
        xdr_read_string(reader, gpu->error_text, sizeof(gpu->error_text));
        gpu->uvm = xdr_read_at_most(reader, HF_UVM_ON);
        xdr_read_string(reader, gpu->uvm_text, sizeof(gpu->uvm_text));
        gpu->legacy_flag = xdr_read_at_most(reader, HF_UNKNOWN);
        gpu->leased = xdr_read_bool(reader);
}

void hf_gpu_encode(struct xdr_writer *writer, const struct hf_gpu *gpu) {
        hf_address_encode(writer, &gpu->address);
        xdr_write_i32(writer, gpu->minor);
        name_encode(writer, gpu->uuid);
        name_encode(writer, gpu->model);
        xdr_write_u32(writer, gpu->state);
        xdr_write_bool(writer, gpu->wanted);
        xdr_write_u64(writer, gpu->since_realtime_usec);
        xdr_write_u64(writer, gpu->open_duration_usec);
        xdr_write_u32(writer, gpu->opens);
        xdr_write_u32(writer, gpu->failures);
        xdr_write_bool(writer, gpu->stuck);
        xdr_write_i32(writer, gpu->error_number);
        xdr_write_u32(writer, gpu->error_nv_status);
        text_encode(writer, gpu->error_text);
        xdr_write_u32(writer, gpu->uvm);
        text_encode(writer, gpu->uvm_text);
        xdr_write_u32(writer, gpu->legacy_flag);
        xdr_write_bool(writer, gpu->leased);
}

void hf_stats_decode(struct xdr_reader *reader, struct hf_stats *stats) {
        stats->started_realtime_usec = xdr_read_u64(reader);
        stats->sessions = xdr_read_u32(reader);
        stats->sessions_max = xdr_read_u32(reader);
        stats->leases = xdr_read_u32(reader);
        stats->accepted = xdr_read_u64(reader);
        stats->evicted = xdr_read_u64(reader);
        stats->expired = xdr_read_u64(reader);
        stats->malformed = xdr_read_u64(reader);
        stats->calls = xdr_read_u64(reader);
        stats->rejected = xdr_read_u64(reader);
        stats->refused = xdr_read_u64(reader);
}

void hf_stats_encode(struct xdr_writer *writer, const struct hf_stats *stats) {
        xdr_write_u64(writer, stats->started_realtime_usec);
        xdr_write_u32(writer, stats->sessions);
        xdr_write_u32(writer, stats->sessions_max);
        xdr_write_u32(writer, stats->leases);
        xdr_write_u64(writer, stats->accepted);
        xdr_write_u64(writer, stats->evicted);
        xdr_write_u64(writer, stats->expired);
        xdr_write_u64(writer, stats->malformed);
        xdr_write_u64(writer, stats->calls);
        xdr_write_u64(writer, stats->rejected);
        xdr_write_u64(writer, stats->refused);
}

void hf_release_head_decode(struct xdr_reader *reader, struct hf_release_head *head) {
        head->all = xdr_read_bool(reader);
        head->n_gpus = xdr_read_at_most(reader, HF_GPUS_MAX);
}

void hf_release_head_encode(struct xdr_writer *writer, const struct hf_release_head *head) {
        xdr_write_bool(writer, head->all);
        xdr_write_u32(writer, head->n_gpus);
}

uint32_t hf_configured_decode_count(struct xdr_reader *reader) {
        return xdr_read_at_most(reader, HF_GPUS_MAX);
}

void hf_gpu_configured_decode(struct xdr_reader *reader, struct hf_gpu_configured *gpu) {
        hf_address_decode(reader, &gpu->address);
        gpu->persistence = xdr_read_bool(reader);
        gpu->uvm_persistence = xdr_read_bool(reader);
}

void hf_gpu_configured_encode(struct xdr_writer *writer, const struct hf_gpu_configured *gpu) {
        hf_address_encode(writer, &gpu->address);
        xdr_write_bool(writer, gpu->persistence);
        xdr_write_bool(writer, gpu->uvm_persistence);
}

const char *hf_gpu_state_name(uint32_t state) {
        return state < ARRAY_SIZE(state_names) ? state_names[state] : "?";
}
