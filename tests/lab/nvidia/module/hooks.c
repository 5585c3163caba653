// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/*
 * Replaces the functions of NVIDIA's resource manager that access a GPU. These sleep, fail and hang as control.c
 * commands. ../build.py weakens their names in the compiled resource manager and compiles this file into nvidia.ko, so
 * the definitions here are used. The rest of the driver is NVIDIA's.
 *
 * The package has nv.h and nv-linux.h but not the resource manager's headers, so its functions are declared here.
 */

#include "lab-control.h"
#include "nv-linux.h"

NvBool RmInitAdapter(nv_state_t *nv);
void RmShutdownAdapter(nv_state_t *nv);
void RmDisableAdapter(nv_state_t *nv);
NvBool RmPartiallyInitAdapter(nv_state_t *nv);
void RmPartiallyDisableAdapter(nv_state_t *nv);
NV_STATUS RmGetAdapterStatus(nv_state_t *nv, NvU32 *ret_status);
void osHandleGpuLost(void *gpu);

enum {
        API_LOCK_PLAIN = 0,
        API_LOCK_FOR_INITIALISATION = 0x400000, /* as in rm_init_adapter(): the lock's holder, for statistics */
};

/* NVIDIA's functions that are called here. */
NV_STATUS rmapiLockAcquire(NvU32 flags, NvU32 module);
void rmapiLockRelease(void);
NV_STATUS gpumgrSetUuid(NvU32 gpu_id, NvU8 *uuid);
NvBool RmInitPrivateState(nv_state_t *nv);
void RmFreePrivateState(nv_state_t *nv);

static unsigned int slot_of(const nv_state_t *nv) {
        return nv->pci_info.slot;
}

static void lend_state(nv_state_t *nv) {
        const nv_linux_state_t *nvl = NV_GET_NVL_FROM_NV_STATE(nv);
        const struct lab_driver_state state = {
                .users = &nvl->usage_count,
                .minor = &nvl->minor_num,
                .flags = &nv->flags,
                .legacy_flag = NV_FLAG_PERSISTENT_SW_STATE,
                .surprise_flag = NV_FLAG_IN_SURPRISE_REMOVAL,
                .external = &nv->is_external_gpu,
        };

        lab_gpu_probed(slot_of(nv), &state);
}

/* ---- from probe to remove ---- */

NvBool rm_init_private_state(nvidia_stack_t *stack, nv_state_t *nv) {
        if (!RmInitPrivateState(nv))
                return NV_FALSE;
        lend_state(nv);
        return NV_TRUE;
}

void rm_free_private_state(nvidia_stack_t *stack, nv_state_t *nv) {
        lab_gpu_removed(slot_of(nv));
        RmFreePrivateState(nv);
}

/* ---- initialisation and teardown: entered with the resource manager's lock held ---- */

static void set_uuid(nv_state_t *nv) {
        lab_gpu_uuid(slot_of(nv), nv->nv_uuid_cache.uuid);
        nv->nv_uuid_cache.valid = NV_TRUE;
        gpumgrSetUuid(nv->gpu_id, nv->nv_uuid_cache.uuid);
}

NvBool RmInitAdapter(nv_state_t *nv) {
        if (!lab_gpu_initialise(slot_of(nv)))
                return NV_FALSE;
#ifdef LAB_BOOTS_WITHOUT_LOCK
        rmapiLockRelease();
#endif
        lab_gpu_boot(slot_of(nv));
#ifdef LAB_BOOTS_WITHOUT_LOCK
        if (rmapiLockAcquire(API_LOCK_PLAIN, API_LOCK_FOR_INITIALISATION) != NV_OK)
                return NV_FALSE;
#endif
        set_uuid(nv);
        return NV_TRUE;
}

void RmShutdownAdapter(nv_state_t *nv) {
        lab_gpu_tear_down(slot_of(nv));
}

/* The first half of a teardown; RmShutdownAdapter() follows. */
void RmDisableAdapter(nv_state_t *nv) {
}

NvBool RmPartiallyInitAdapter(nv_state_t *nv) {
        return NV_TRUE;
}

void RmPartiallyDisableAdapter(nv_state_t *nv) {
}

NV_STATUS RmGetAdapterStatus(nv_state_t *nv, NvU32 *ret_status) {
        *ret_status = lab_gpu_status(slot_of(nv));
        return NV_OK;
}

/* ---- functions that would follow a pointer to a GPU object, which does not exist here ---- */

void osHandleGpuLost(void *gpu) {
}

void rm_disable_gpu_state_persistence(nvidia_stack_t *stack, nv_state_t *nv) {
        nv->flags &= ~NV_FLAG_PERSISTENT_SW_STATE;
}
