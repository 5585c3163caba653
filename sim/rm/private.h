#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Shared by RM's files: clients, objects, events, and the control under way. rm->mutex guards all except the last.
 * Callers of the functions below must hold it unless stated otherwise. RM never calls the model with it held.
 *
 *      rm.c        creates and frees RM, and its part of a file
 *      object.c    clients and objects: RM_ALLOC, RM_FREE
 *      event.c     OS events, notices, and the two controls about them
 *      control.c   RM_CONTROL: the table of controls
 *      control_system.c, control_gpu.c   the answers: about RM as a whole, and about one GPU
 */

#include <pthread.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "sim/rm/layouts.h"
#include "sim/rm/rm.h"

/* NV_STATUS values and numbers that only the driver needs (nvstatuscodes.h, ctrl0000gpu.h, ctrl0000event.h). */
enum {
        RM_ERR_INSERT_DUPLICATE_NAME = 0x19,
        RM_ERR_INSUFFICIENT_RESOURCES = 0x1a,
        RM_ERR_INVALID_ADDRESS = 0x1e,
        RM_ERR_INVALID_CLASS = 0x22,
        RM_ERR_INVALID_EVENT = 0x28,
        RM_ERR_INVALID_OBJECT_PARENT = 0x36,
        RM_ERR_NO_MEMORY = 0x51,

        RM_CLASS_ROOT = 0x0,
        RM_CLASS_ROOT_NON_PRIV = 0x1,
        RM_CLASS_EVENT = 0x5,
        RM_CLASS_SUBDEVICE = 0x2080,

        RM_DRAIN_REMOVE_DEVICE = 1, /* NV0000_CTRL_GPU_DRAIN_STATE_FLAG_* */
        RM_DRAIN_LINK_DISABLE = 2,

        RM_NOTIFIERS = 4,            /* NV0000_NOTIFIERS_MAXCOUNT */
        RM_NOTIFIERS_BEFORE_575 = 5, /* with other meanings, including number 3 */

        RM_OBJECTS_MAX = 256, /* per client, and clients per simulator, to limit our memory */
};

struct os_event { /* made by ALLOC_OS_EVENT, which was called on the file to wake */
        LIST_ENTRY(os_event) link;
        uint32_t client;
        uint32_t fd;
        struct rm_file *file;
};

struct object {
        LIST_ENTRY(object) link;
        uint32_t handle;
        uint32_t parent;
        uint32_t class;
        unsigned minor;         /* NV_CLASS_DEVICE */
        struct os_event *event; /* NV_CLASS_EVENT_OS; NULL if the OS event was freed first */
        uint32_t notify_index;  /* likewise */
};

struct notice {
        STAILQ_ENTRY(notice) link;
        struct nv_system_event event;
};

struct root_client {
        LIST_ENTRY(root_client) link;
        uint32_t handle;
        struct rm_file *file;
        LIST_HEAD(, object) objects;
        unsigned n_objects;
        uint32_t actions[RM_NOTIFIERS_BEFORE_575];
        STAILQ_HEAD(, notice) notices;
        unsigned n_notices;
};

struct rm {
        struct model *model;
        struct model_listener listener;
        pthread_mutex_t mutex;
        LIST_HEAD(, root_client) clients;
        LIST_HEAD(, os_event) os_events;
        unsigned n_clients;
        uint32_t next_handle;
};

/* A control under way: its client, its GPU, and its parameters, which are copied in, and out again if status is NV_OK.
 */
struct control {
        struct rm_file *file;
        const struct model_caller *caller;
        const struct nv_rm_control *call;
        struct model_gpu_view gpu; /* for controls of a device or a subdevice */
        union control_parameters parameters;
};

/* ---- rm.c ---- */

void rm_lock(struct rm *rm);
void rm_unlock(struct rm *rm);

/* ---- object.c ---- */

/* Finds a client of this file. RM refuses handles of another file (client.c, rmclientValidate). */
struct root_client *client_find(struct rm_file *file, uint32_t handle);
void client_free(struct rm *rm, struct root_client *client);
struct object *object_find(const struct root_client *client, uint32_t handle);
/* Adds `filled` below the caller's client. Returns NV_STATUS. */
uint32_t object_add(struct rm_file *file, struct nv_rm_alloc *alloc, const struct object *filled);
/* Counts the clients with a device object of that GPU. If there are any, RM considers the GPU in use. */
unsigned object_count_users(const struct rm *rm, unsigned minor);

/* ---- event.c ---- */

void event_init(struct rm *rm);
void event_done(struct rm *rm);
/* Frees the events of a file, or of a client if file is NULL. */
void event_free_of(struct rm *rm, const struct rm_file *file, uint32_t client);
void event_drop_notices(struct root_client *client);
uint32_t event_alloc(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc); /* unlocked */

/* ---- finding a GPU, unlocked: false if the driver has no such GPU ---- */

bool gpu_by_minor(struct model *model, unsigned minor, struct model_gpu_view *ret_gpu);

/* ---- functions that answer a control, unlocked; each returns NV_STATUS ---- */

uint32_t control_architecture(struct control *control);
uint32_t control_async_attach(struct control *control);
uint32_t control_attach_ids(struct control *control);
uint32_t control_attached_ids(struct control *control);
uint32_t control_bios_info(struct control *control);
uint32_t control_build_version(struct control *control);
uint32_t control_clocks(struct control *control);
uint32_t control_compute_mode(struct control *control);
uint32_t control_detach_ids(struct control *control);
uint32_t control_fabric_status(struct control *control);
uint32_t control_get_event(struct control *control);
uint32_t control_gid(struct control *control);
uint32_t control_gpu_info(struct control *control);
uint32_t control_gsp_features(struct control *control);
uint32_t control_id_info(struct control *control);
uint32_t control_id_info_v2(struct control *control);
uint32_t control_memory_info(struct control *control);
uint32_t control_modify_drain(struct control *control);
uint32_t control_modify_persistence(struct control *control);
uint32_t control_name(struct control *control);
uint32_t control_performance_state(struct control *control);
uint32_t control_pci_ids(struct control *control);
uint32_t control_pci_info(struct control *control);
uint32_t control_probed_ids(struct control *control);
uint32_t control_query_drain(struct control *control);
uint32_t control_query_persistence(struct control *control);
uint32_t control_set_notification(struct control *control);
uint32_t control_thermal(struct control *control);
uint32_t control_virtualization(struct control *control);
uint32_t control_zero(struct control *control);
