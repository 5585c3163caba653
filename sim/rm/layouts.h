#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Parameters of the controls that only NVIDIA's own programs use; those that Holdfast uses are in gpu/abi.h. Facts from
 * the open GPU kernel modules (src/common/sdk/nvidia/inc/ctrl/, tags 535.98, 550.54.14 and 555.42.02); sizes are
 * asserted below. The names are ours.
 */

#include "gpu/abi.h"

enum {
        RM_ATTACHED_MAX = 32, /* NV0000_CTRL_GPU_MAX_ATTACHED_GPUS */
        RM_PROBED_MAX = 32,   /* NV0000_CTRL_GPU_MAX_PROBED_GPUS */
        RM_GPU_ID_NONE = -1,
        RM_GPU_IDS_ALL = 0xffff, /* as the first id: all probed GPUs */

        RM_BIOS_LIST_MAX = 15, /* NV2080_CTRL_BIOS_INFO_MAX_SIZE */
        RM_LIST_MAX = 128,     /* entries of an index list: more than any version has (70 in 595.45.04) */
        RM_CLOCK_SAMPLES_MAX = 16,
        RM_INSTRUCTIONS_MAX = 32,
};

struct rm_build_version { /* 0x101 */
        uint32_t string_size;
        uint32_t pad;
        uint64_t driver_version, version, title; /* addresses in the caller's memory */
        uint32_t changelist, official_changelist;
};

struct rm_fabric_status { /* 0x136 */
        uint32_t status;
};

struct rm_attached_ids { /* 0x201, 0x216 */
        uint32_t gpu_ids[RM_ATTACHED_MAX];
};

struct rm_id_info { /* 0x202: as 0x205, with an unused pointer */
        uint32_t gpu_id;
        uint32_t flags; /* bit 0: in use */
        uint32_t device_instance;
        uint32_t subdevice_instance;
        uint64_t name;
        uint32_t sli_status;
        uint32_t board_id;
        uint32_t gpu_instance;
        int32_t numa_node;
};

struct rm_probed_ids { /* 0x214 */
        uint32_t gpu_ids[RM_PROBED_MAX];
        uint32_t excluded_gpu_ids[RM_PROBED_MAX];
};

struct rm_attach_ids { /* 0x215 */
        uint32_t gpu_ids[RM_PROBED_MAX];
        uint32_t failed_id;
};

struct rm_pci_info { /* 0x21b */
        uint32_t gpu_id;
        uint32_t domain;
        uint16_t bus;
        uint16_t slot;
};

struct rm_gpu_id { /* 0x289 */
        uint32_t gpu_id;
};

struct rm_word { /* controls with one number: 0x80028e (a byte), 0x800294, 0x20800131, 0x20802068 */
        uint32_t value;
};

struct rm_virtualization { /* 0x800289 */
        uint32_t mode;
        uint32_t is_grid_build; /* from 555.42.02 on */
};

struct rm_list_item {
        uint32_t index;
        uint32_t data;
};

struct rm_list { /* 0x20800102, 0x20801303: always the full array, whose length depends on the version */
        uint32_t count;
        struct rm_list_item items[RM_LIST_MAX];
};

struct rm_pointed_list { /* 0x20800802 */
        uint32_t count;
        uint32_t pad;
        uint64_t items; /* an address in the caller's memory */
};

struct rm_name { /* 0x20800110 */
        uint32_t is_unicode;
        union {
                char ascii[64];
                uint16_t unicode[64];
        };
};

struct rm_gid { /* 0x2080014a */
        uint32_t index;
        uint32_t flags; /* bits 0 and 1: 0 text, 2 bytes */
        uint32_t length;
        uint8_t data[256];
};

struct rm_clock_correlation { /* 0x20800406 */
        uint8_t clock;
        uint8_t count;
        uint8_t pad[6];
        struct {
                uint64_t cpu, gpu;
        } samples[RM_CLOCK_SAMPLES_MAX];
};

struct rm_architecture { /* 0x20801701 */
        uint32_t architecture, implementation, revision;
        uint8_t subrevision;
};

struct rm_pci_ids { /* 0x20801801 */
        uint32_t device, subsystem, revision, extended_device;
};

struct rm_gsp_features { /* 0x20803601 */
        uint32_t features;
        uint8_t valid;
        uint8_t runs_rm;
        char version[64];
};

struct rm_thermal { /* 0x20808513 (headers of 580 on), a small program for the sensors */
        uint32_t version, revision, instruction_size, flags;
        uint32_t n_successful;
        uint32_t n_instructions;
        struct rm_thermal_instruction {
                uint32_t result, executed, opcode;
                uint32_t operands[8];
        } instructions[RM_INSTRUCTIONS_MAX];
};

union control_parameters {
        struct nv_set_notification notification;
        struct nv_system_event system_event;
        struct nv_persistence persistence;
        struct nv_gpu_id_info id_info_v2;
        struct nv_drain_state drain;
        struct rm_build_version build;
        struct rm_fabric_status fabric;
        struct rm_attached_ids attached;
        struct rm_id_info id_info;
        struct rm_probed_ids probed;
        struct rm_attach_ids attach;
        struct rm_pci_info pci;
        struct rm_gpu_id gpu_id;
        struct rm_word word;
        struct rm_virtualization virtualization;
        struct rm_list list;
        struct rm_pointed_list pointed_list;
        struct rm_name name;
        struct rm_gid gid;
        struct rm_clock_correlation clocks;
        struct rm_architecture architecture;
        struct rm_pci_ids pci_ids;
        struct rm_gsp_features gsp;
        struct rm_thermal thermal;
};

_Static_assert(sizeof(struct rm_build_version) == 40 && sizeof(struct rm_attached_ids) == 128, "RM parameters");
_Static_assert(sizeof(struct rm_id_info) == 40 && sizeof(struct rm_probed_ids) == 256, "RM parameters");
_Static_assert(sizeof(struct rm_attach_ids) == 132 && sizeof(struct rm_pci_info) == 12, "RM parameters");
_Static_assert(sizeof(struct rm_list_item) == 8 && sizeof(struct rm_pointed_list) == 16, "RM parameters");
_Static_assert(sizeof(struct rm_virtualization) == 8 && sizeof(struct rm_name) == 132, "RM parameters");
_Static_assert(sizeof(struct rm_gid) == 268 && sizeof(struct rm_clock_correlation) == 264, "RM parameters");
_Static_assert(sizeof(struct rm_architecture) == 16 && sizeof(struct rm_pci_ids) == 16, "RM parameters");
_Static_assert(sizeof(struct rm_gsp_features) == 72 && sizeof(struct rm_thermal) == 1432, "RM parameters");
