#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The interface of NVIDIA's kernel module, as far as we use it: device numbers, ioctl numbers, layouts. Facts are from
 * the open GPU kernel modules, tag 595.45.04 (kernel-open/common/inc/nv-ioctl*.h, src/common/sdk/nvidia/inc/,
 * nvidia-uvm/uvm_ioctl.h); the names are ours. The driver checks only the number and the size of an ioctl. Sizes are
 * asserted below.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

enum {
        NV_MAJOR = 195, /* fixed; UVM's and the capabilities' majors are dynamic */
        NV_MINOR_CTL = 255,
        NV_NUMA_OFFLINE_MAX = 64,
};

/* ---- ioctls of /dev/nvidiactl and /dev/nvidiaN ---- */

struct nv_pci_info {
        uint32_t domain;
        uint8_t bus;
        uint8_t slot;
        uint8_t function; /* never filled: 0 */
        uint8_t pad;
        uint16_t vendor_id;
        uint16_t device_id;
};

struct nv_card_info {
        uint8_t valid;
        uint8_t pad0[3];
        struct nv_pci_info pci;
        uint32_t gpu_id;
        uint16_t interrupt_line;
        uint8_t pad1[2];
        uint64_t reg_address;
        uint64_t reg_size;
        uint64_t fb_address;
        uint64_t fb_size;
        uint32_t minor;
        uint8_t dev_name[10];
        uint8_t pad2[2];
};

struct nv_version_check {
        uint32_t command; /* 0 strict, '1' relaxed, '2' query */
        uint32_t reply;   /* 1: recognised */
        char version[64];
};

struct nv_status_code {
        uint32_t domain;
        uint8_t bus;
        uint8_t slot;
        uint8_t pad[2];
        uint32_t status; /* out: NV_STATUS of that adapter's last initialisation */
};

struct nv_os_event {
        uint32_t client;
        uint32_t device;
        uint32_t fd;
        uint32_t status;
};

struct nv_sys_params {
        uint64_t memblock_size; /* bytes */
};

struct nv_wait_open {
        int32_t rc;              /* 0 or negative errno of the open */
        uint32_t adapter_status; /* NV_STATUS */
};

struct nv_numa_info {
        int32_t nid;
        int32_t status; /* enum nv_numa_status */
        uint64_t memblock_size;
        uint64_t memory_address;
        uint64_t memory_size;
        uint8_t use_auto_online; /* since 535.43.02 */
        uint8_t pad0[7];
        uint64_t offline_addresses[NV_NUMA_OFFLINE_MAX];
        uint32_t n_offline_addresses; /* in: capacity, at most 64 */
        uint32_t pad1;
};

struct nv_numa_info_before_535 { /* before 535.43.02 */
        int32_t nid;
        int32_t status;
        uint64_t memblock_size;
        uint64_t memory_address;
        uint64_t memory_size;
        uint64_t offline_addresses[NV_NUMA_OFFLINE_MAX];
        uint32_t n_offline_addresses;
        uint32_t pad;
};

enum nv_numa_status {
        NV_NUMA_DISABLED = 0,
        NV_NUMA_OFFLINE = 1,
        NV_NUMA_ONLINE_IN_PROGRESS = 2,
        NV_NUMA_ONLINE = 3,
        NV_NUMA_ONLINE_FAILED = 4,
        NV_NUMA_OFFLINE_IN_PROGRESS = 5,
        NV_NUMA_OFFLINE_FAILED = 6,
};

struct nv_transfer {
        uint32_t command;
        uint32_t size;
        uint64_t pointer;
};

#define NV_IOCTL(number, size) _IOC(_IOC_READ | _IOC_WRITE, 'F', number, size)

#define NV_ESC_CARD_INFO(count) NV_IOCTL(200, sizeof(struct nv_card_info) * (count)) /* ctl */
#define NV_ESC_ALLOC_OS_EVENT NV_IOCTL(206, sizeof(struct nv_os_event))
#define NV_ESC_FREE_OS_EVENT NV_IOCTL(207, sizeof(struct nv_os_event))
#define NV_ESC_STATUS_CODE NV_IOCTL(209, sizeof(struct nv_status_code)) /* ctl */
#define NV_ESC_CHECK_VERSION_STR NV_IOCTL(210, sizeof(struct nv_version_check))
#define NV_ESC_SYS_PARAMS NV_IOCTL(214, sizeof(struct nv_sys_params)) /* ctl */
#define NV_ESC_NUMA_INFO NV_IOCTL(215, sizeof(struct nv_numa_info))   /* GPU */
#define NV_ESC_NUMA_INFO_BEFORE_535 NV_IOCTL(215, sizeof(struct nv_numa_info_before_535))
#define NV_ESC_SET_NUMA_STATUS NV_IOCTL(216, sizeof(int32_t))                /* GPU; CAP_SYS_ADMIN */
#define NV_ESC_WAIT_OPEN_COMPLETE NV_IOCTL(218, sizeof(struct nv_wait_open)) /* GPU; ctl answers zeros */

/* ---- the resource manager (RM) ---- */

struct nv_rm_free {
        uint32_t root;
        uint32_t parent;
        uint32_t object;
        uint32_t status;
};

struct nv_rm_control {
        uint32_t client;
        uint32_t object;
        uint32_t command;
        uint32_t flags;
        uint64_t params;
        uint32_t params_size;
        uint32_t status;
};

struct nv_rm_alloc {
        uint32_t root;
        uint32_t parent;
        uint32_t object;
        uint32_t class;
        uint64_t params;
        uint32_t params_size;
        uint32_t status;
};

#define NV_ESC_RM_CONTROL NV_IOCTL(0x2a, sizeof(struct nv_rm_control))
#define NV_ESC_RM_ALLOC NV_IOCTL(0x2b, sizeof(struct nv_rm_alloc))

enum {
        NV_CLASS_ROOT_CLIENT = 0x41,
        NV_CLASS_EVENT_OS = 0x79,
        NV_CLASS_DEVICE = 0x80,

        NV_CONTROL_GPU_GET_ID_INFO_V2 = 0x205,
        NV_CONTROL_GPU_QUERY_DRAIN_STATE = 0x279, /* unprivileged: CUDA uses it, too */
        NV_CONTROL_EVENT_SET_NOTIFICATION = 0x501,
        NV_CONTROL_GET_SYSTEM_EVENT_DATA = 0x502, /* before 575.51.02 another control, of 8 bytes */
        NV_CONTROL_QUERY_PERSISTENCE = 0x800288,  /* struct nv_persistence, on an NV_CLASS_DEVICE object */

        NV_NOTIFIER_GPU_BIND_UNBIND = 3,
        NV_EVENT_WITHOUT_DATA = 0x10000000, /* combined with a notifier: the event only wakes its descriptor */
        NV_NOTIFICATION_REPEAT = 2,
};

struct nv_device_params { /* NV0080_ALLOC_PARAMETERS */
        uint32_t device_id;
        uint32_t client_share;
        uint32_t target_client;
        uint32_t target_device;
        uint32_t flags;
        uint32_t pad;
        uint64_t va_space_size;
        uint64_t va_start_internal;
        uint64_t va_limit_internal;
        uint32_t va_mode;
        uint32_t pad1;
};

struct nv_event_params { /* NV0005_ALLOC_PARAMETERS */
        uint32_t parent_client;
        uint32_t source_resource;
        uint32_t class;
        uint32_t notify_index;
        uint64_t data; /* the event descriptor */
};

struct nv_set_notification {
        uint32_t event;
        uint32_t action;
};

struct nv_system_event {
        uint32_t event;
        uint32_t gpu_id;
        uint8_t bind; /* 1 bound, 0 being unbound */
        uint8_t pad[3];
};

struct nv_gpu_id_info {  /* NV0000_CTRL_GPU_GET_ID_INFO_V2_PARAMS */
        uint32_t gpu_id; /* in */
        uint32_t flags;
        uint32_t device_instance; /* device_id of struct nv_device_params */
        uint32_t subdevice_instance;
        uint32_t sli_status;
        uint32_t board_id;
        uint32_t gpu_instance;
        int32_t numa_node;
};

struct nv_drain_state { /* NV0000_CTRL_GPU_QUERY_DRAIN_STATE_PARAMS */
        uint32_t gpu_id;
        uint32_t state; /* 0 not drained, 1 drained */
        uint32_t flags; /* 1: the GPU will be removed at the last close */
};

struct nv_persistence {
        uint32_t state; /* 0 enabled, 1 disabled */
};

/* gpu_id: src/nvidia/src/kernel/gpu/gpu.c, gpuGenerate32BitId */
static inline uint32_t nv_gpu_id(uint32_t domain, uint8_t bus, uint8_t slot) {
        return (domain & 0xffff) << 16 | (uint32_t)bus << 8 | slot;
}

/* ---- /dev/nvidia-uvm: raw numbers; ioctl() returns 0 or an errno, the result is in rm_status ---- */

enum {
        UVM_INITIALIZE = 0x30000001,
        UVM_DEINITIALIZE = 0x30000002,
        UVM_REGISTER_GPU = 37,
        UVM_UNREGISTER_GPU = 38,

        UVM_FLAG_MULTI_PROCESS_SHARING = 2, /* not bound to an address space: lasts as long as the descriptor */
        NV_UUID_SIZE = 16,
};

struct uvm_initialize {
        uint64_t flags;
        uint32_t rm_status;
        uint32_t pad;
};

struct uvm_register_gpu {
        uint8_t uuid[NV_UUID_SIZE];
        uint8_t numa_enabled;
        uint8_t pad[3];
        int32_t numa_node;
        int32_t rm_ctrl_fd; /* -1 when not MIG */
        uint32_t client;
        uint32_t smc_partition;
        uint32_t rm_status;
};

struct uvm_unregister_gpu {
        uint8_t uuid[NV_UUID_SIZE];
        uint32_t rm_status;
};

/* ---- NV_STATUS (src/common/sdk/nvidia/inc/nvstatuscodes.h) ---- */

enum {
        NV_OK = 0x00,
        NV_ERR_GPU_IS_LOST = 0x0f,
        NV_ERR_GPU_UUID_NOT_FOUND = 0x12,
        NV_ERR_ILLEGAL_ACTION = 0x16,
        NV_ERR_INSUFFICIENT_PERMISSIONS = 0x1b,
        NV_ERR_INSUFFICIENT_POWER = 0x1c,
        NV_ERR_INVALID_ARGUMENT = 0x1f,
        NV_ERR_INVALID_CLIENT = 0x23,
        NV_ERR_INVALID_COMMAND = 0x24,
        NV_ERR_INVALID_DEVICE = 0x26,
        NV_ERR_INVALID_PARAM_STRUCT = 0x3a,
        NV_ERR_INVALID_STATE = 0x40,
        NV_ERR_NOT_SUPPORTED = 0x56,
        NV_ERR_OBJECT_NOT_FOUND = 0x57,
        NV_ERR_OPERATING_SYSTEM = 0x59,
        NV_ERR_NVLINK_FABRIC_NOT_READY = 0x81,
        NV_ERR_GENERIC = 0xffff,
};

_Static_assert(sizeof(struct nv_pci_info) == 12, "nv_pci_info");
_Static_assert(sizeof(struct nv_card_info) == 72 && offsetof(struct nv_card_info, minor) == 56, "nv_card_info");
_Static_assert(sizeof(struct nv_version_check) == 72, "nv_version_check");
_Static_assert(sizeof(struct nv_status_code) == 12, "nv_status_code");
_Static_assert(sizeof(struct nv_os_event) == 16, "nv_os_event");
_Static_assert(sizeof(struct nv_transfer) == 16, "nv_transfer");
_Static_assert(sizeof(struct nv_numa_info) == 560 && offsetof(struct nv_numa_info, offline_addresses) == 40,
               "nv_numa_info");
_Static_assert(sizeof(struct nv_numa_info_before_535) == 552, "nv_numa_info_before_535");
_Static_assert(sizeof(struct nv_gpu_id_info) == 32, "nv_gpu_id_info");
_Static_assert(sizeof(struct nv_drain_state) == 12, "nv_drain_state");
_Static_assert(sizeof(struct nv_rm_free) == 16, "nv_rm_free");
_Static_assert(sizeof(struct nv_rm_control) == 32 && sizeof(struct nv_rm_alloc) == 32, "RM calls");
_Static_assert(sizeof(struct nv_device_params) == 56 && sizeof(struct nv_event_params) == 24, "RM parameters");
_Static_assert(sizeof(struct nv_system_event) == 12, "nv_system_event");
_Static_assert(sizeof(struct uvm_initialize) == 16 && sizeof(struct uvm_register_gpu) == 40, "UVM");
_Static_assert(offsetof(struct uvm_register_gpu, rm_status) == 36 && sizeof(struct uvm_unregister_gpu) == 20, "UVM");
_Static_assert(NV_ESC_CARD_INFO(1) == 0xc04846c8 && NV_ESC_WAIT_OPEN_COMPLETE == 0xc00846da, "ioctl numbers");
_Static_assert(NV_ESC_NUMA_INFO == 0xc23046d7 && NV_ESC_CHECK_VERSION_STR == 0xc04846d2, "ioctl numbers");
