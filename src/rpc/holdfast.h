#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Holdfast's own RPC program. src/rpc/holdfast.x defines it and explains each field: read that first. Strings have a
 * maximum length; encoders truncate longer ones, decoders reject them.
 */

#include "rpc/message.h"

enum {
        HF_PROGRAM = 0x20484644,
        HF_VERSION = 1,
        HF_LIST = 1,
        HF_WATCH = 2,
        HF_STATS = 3,
        HF_RELEASE = 4,
        HF_CONFIGURED = 5,

        HF_GPUS_MAX = 256,
        HF_NAME_SIZE = 96,  /* HF_NAME_MAX and the terminator */
        HF_TEXT_SIZE = 256, /* HF_TEXT_MAX and the terminator */

        /* Upper bounds of the encodings, in bytes, for the buffers of server and client. */
        HF_GPU_ENCODED_MAX = 4 * 4 + 4 + 2 * (4 + HF_NAME_SIZE) + 4 + 4 + 8 + 8 + 4 + 4 + 4 + 4 + 4 +
                             (4 + HF_TEXT_SIZE) + 4 + (4 + HF_TEXT_SIZE) + 4 + 4,
        HF_GPU_CONFIGURED_ENCODED_MAX = 4 * 4 + 4 + 4,
        HF_LIST_HEAD_ENCODED_MAX = 2 * (4 + HF_NAME_SIZE) + 4 + 8 + 4 + 8 + 4,
};

struct hf_address {
        uint32_t domain;
        uint32_t bus;
        uint32_t slot;
        uint32_t function;
};

enum hf_gpu_state {
        HF_GPU_RELEASED = 0,
        HF_GPU_OPENING = 1,
        HF_GPU_HELD = 2,
        HF_GPU_CLOSING = 3,
        HF_GPU_FAILED = 4,
};

enum hf_uvm_state {
        HF_UVM_OFF = 0,
        HF_UVM_WAITING = 1,
        HF_UVM_ON = 2,
};

enum hf_tristate {
        HF_NO = 0,
        HF_YES = 1,
        HF_UNKNOWN = 2,
};

struct hf_gpu {
        struct hf_address address;
        int32_t minor;
        char uuid[HF_NAME_SIZE];
        char model[HF_NAME_SIZE];
        uint32_t state;
        bool wanted;
        uint64_t since_realtime_usec;
        uint64_t open_duration_usec;
        uint32_t opens;
        uint32_t failures;
        bool stuck;
        int32_t error_number;
        uint32_t error_nv_status;
        char error_text[HF_TEXT_SIZE];
        uint32_t uvm;
        char uvm_text[HF_TEXT_SIZE];
        uint32_t legacy_flag;
        bool leased;
};

struct hf_list_head {
        char version[HF_NAME_SIZE];
        char backend[HF_NAME_SIZE];
        uint32_t pid;
        uint64_t started_realtime_usec;
        bool ready;
        uint64_t serial;
        uint32_t n_gpus; /* so many struct hf_gpu follow */
};

struct hf_stats {
        uint64_t started_realtime_usec;
        uint32_t sessions;
        uint32_t sessions_max;
        uint32_t leases;
        uint64_t accepted;
        uint64_t evicted;
        uint64_t expired;
        uint64_t malformed;
        uint64_t calls;
        uint64_t rejected;
        uint64_t refused;
};

/* n_gpus addresses follow, each read by hf_address_decode(). */
struct hf_release_head {
        bool all;
        uint32_t n_gpus;
};

struct hf_gpu_configured {
        struct hf_address address;
        bool persistence;
        bool uvm_persistence;
};

/* Reads the number of GPUs, which comes first. A number over HF_GPUS_MAX fails the reader. */
uint32_t hf_configured_decode_count(struct xdr_reader *reader);
void hf_gpu_configured_decode(struct xdr_reader *reader, struct hf_gpu_configured *gpu);
void hf_gpu_configured_encode(struct xdr_writer *writer, const struct hf_gpu_configured *gpu);

void hf_stats_decode(struct xdr_reader *reader, struct hf_stats *stats);
void hf_stats_encode(struct xdr_writer *writer, const struct hf_stats *stats);
void hf_release_head_decode(struct xdr_reader *reader, struct hf_release_head *head);
void hf_release_head_encode(struct xdr_writer *writer, const struct hf_release_head *head);
void hf_address_decode(struct xdr_reader *reader, struct hf_address *address);
void hf_address_encode(struct xdr_writer *writer, const struct hf_address *address);

/*
 * These decoders fail the reader if an enum value is out of range, a string is too long, or n_gpus is over HF_GPUS_MAX.
 */
void hf_list_head_decode(struct xdr_reader *reader, struct hf_list_head *head);
void hf_list_head_encode(struct xdr_writer *writer, const struct hf_list_head *head);
void hf_gpu_decode(struct xdr_reader *reader, struct hf_gpu *gpu);
void hf_gpu_encode(struct xdr_writer *writer, const struct hf_gpu *gpu);

/* "released", "opening", "held", "closing", "failed"; "?" for an unknown value. */
const char *hf_gpu_state_name(uint32_t state);
