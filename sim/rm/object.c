/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* RM's clients and objects: RM_ALLOC and RM_FREE. */

#include <stdlib.h>

#include "sim/rm/private.h"
#include "sim/rm/user_memory.h"

/* ---- finding ---- */

struct root_client *client_find(struct rm_file *file, uint32_t handle) {
        struct root_client *client;

        LIST_FOREACH(client, &file->rm->clients, link)
                if (client->handle == handle)
                        return client->file == file ? client : NULL;
        return NULL;
}

struct object *object_find(const struct root_client *client, uint32_t handle) {
        struct object *object;

        LIST_FOREACH(object, &client->objects, link)
                if (object->handle == handle)
                        return object;
        return NULL;
}

static bool is_handle_taken(const struct rm *rm, uint32_t handle) {
        const struct root_client *client;

        LIST_FOREACH(client, &rm->clients, link)
                if (client->handle == handle)
                        return true;
        return false;
}

void client_free(struct rm *rm, struct root_client *client) {
        LIST_REMOVE(client, link);
        while (!LIST_EMPTY(&client->objects)) {
                struct object *object = LIST_FIRST(&client->objects);

                LIST_REMOVE(object, link);
                free(object);
        }
        event_drop_notices(client);
        event_free_of(rm, NULL, client->handle);
        rm->n_clients--;
        free(client);
}

unsigned object_count_users(const struct rm *rm, unsigned minor) {
        unsigned count = 0;
        const struct root_client *client;
        const struct object *object;

        LIST_FOREACH(client, &rm->clients, link)
                LIST_FOREACH(object, &client->objects, link)
                        if (object->class == NV_CLASS_DEVICE && object->minor == minor) {
                                count++;
                                break;
                        }
        return count;
}

/* ---- RM_ALLOC ---- */

static uint32_t add_client(struct rm_file *file, struct nv_rm_alloc *alloc) {
        struct rm *rm = file->rm;
        struct root_client *client;

        if (alloc->object != 0 && is_handle_taken(rm, alloc->object))
                return RM_ERR_INSERT_DUPLICATE_NAME;
        client = rm->n_clients < RM_OBJECTS_MAX ? calloc(1, sizeof(*client)) : NULL;
        if (!client)
                return RM_ERR_NO_MEMORY;
        while (alloc->object == 0) {
                if (!is_handle_taken(rm, rm->next_handle))
                        alloc->object = rm->next_handle;
                rm->next_handle++;
        }
        client->handle = alloc->object;
        client->file = file;
        STAILQ_INIT(&client->notices);
        LIST_INSERT_HEAD(&rm->clients, client, link);
        rm->n_clients++;
        return NV_OK;
}

static uint32_t alloc_client(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        uint32_t status;

        rm_lock(file->rm);
        status = add_client(file, alloc);
        rm_unlock(file->rm);
        if (status == NV_OK && alloc->params != 0 && /* the handle is also returned there */
            user_memory_write(caller->pid, alloc->params, &alloc->object, sizeof(alloc->object)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        return status;
}

/* Returns a handle for a client that lets RM choose it. */
static uint32_t next_handle(const struct root_client *client) {
        uint32_t handle = 0xcaf00000; /* the driver's generated handles start like this: rs_client.c */

        while (object_find(client, handle))
                handle++;
        return handle;
}

uint32_t object_add(struct rm_file *file, struct nv_rm_alloc *alloc, const struct object *filled) {
        struct root_client *client = client_find(file, alloc->root);
        struct object *object;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        if (alloc->parent != client->handle && !object_find(client, alloc->parent))
                return RM_ERR_INVALID_OBJECT_PARENT;
        if (alloc->object == 0)
                alloc->object = next_handle(client);
        if (alloc->object == client->handle || object_find(client, alloc->object))
                return RM_ERR_INSERT_DUPLICATE_NAME;
        object = client->n_objects < RM_OBJECTS_MAX ? malloc(sizeof(*object)) : NULL;
        if (!object)
                return RM_ERR_NO_MEMORY;
        *object = *filled;
        object->handle = alloc->object;
        object->parent = alloc->parent;
        object->class = alloc->class;
        LIST_INSERT_HEAD(&client->objects, object, link);
        client->n_objects++;
        return NV_OK;
}

static uint32_t alloc_device(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        struct nv_device_params parameters = {0};
        struct model_gpu_view view;
        uint32_t status;

        if (alloc->params != 0 && user_memory_read(caller->pid, alloc->params, &parameters, sizeof(parameters)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        if (!gpu_by_minor(file->rm->model, parameters.device_id, &view))
                return RM_ERR_INVALID_CLASS;
        if (!view.initialised) /* device.c, _deviceInit: RM has no object for the GPU */
                return NV_ERR_INVALID_STATE;
        if (view.spec.drain) /* gpumgrIsDeviceEnabled() */
                return NV_ERR_INVALID_ARGUMENT;
        if (!model_process_has_gpu(file->rm->model, caller->pid, view.minor)) /* osIsGpuAccessible: device.c */
                return NV_ERR_INSUFFICIENT_PERMISSIONS;
        rm_lock(file->rm);
        status = object_add(file, alloc, &(struct object){.minor = view.minor});
        rm_unlock(file->rm);
        return status;
}
/* A subdevice is the GPU of its device: boards with several GPUs (SLI) are not modelled. */
static uint32_t alloc_subdevice(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        uint32_t subdevice = 0, status = RM_ERR_INVALID_OBJECT_PARENT;
        const struct root_client *client;
        const struct object *device;

        if (alloc->params != 0 && user_memory_read(caller->pid, alloc->params, &subdevice, sizeof(subdevice)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        if (subdevice != 0)
                return NV_ERR_INVALID_ARGUMENT;
        rm_lock(file->rm);
        client = client_find(file, alloc->root);
        device = client ? object_find(client, alloc->parent) : NULL;
        if (device && device->class == NV_CLASS_DEVICE)
                status = object_add(file, alloc, &(struct object){.minor = device->minor});
        rm_unlock(file->rm);
        return status;
}

static const struct {
        uint32_t class;
        uint32_t (*alloc)(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc);
} classes[] = {
        /* clang-format off */
        {RM_CLASS_ROOT, alloc_client},
        {RM_CLASS_ROOT_NON_PRIV, alloc_client},
        {NV_CLASS_ROOT_CLIENT, alloc_client},
        {NV_CLASS_EVENT_OS, event_alloc},
        {NV_CLASS_DEVICE, alloc_device},
        {RM_CLASS_SUBDEVICE, alloc_subdevice},
        /* clang-format on */
};

bool rm_allows_alloc_on_gpu(uint32_t class) {
        return class == RM_CLASS_EVENT || class == NV_CLASS_EVENT_OS;
}

void rm_alloc(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        model_wait_api(file->rm->model);
        alloc->status = RM_ERR_INVALID_CLASS;
        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (classes[i].class == alloc->class) {
                        alloc->status = classes[i].alloc(file, caller, alloc);
                        return;
                }
        model_note(file->rm->model, caller, "RM_ALLOC of class 0x%x, which the simulator does not have", alloc->class);
}
/* ---- RM_FREE ---- */

static bool object_free(struct root_client *client, uint32_t handle) {
        struct object *object = object_find(client, handle);

        if (!object)
                return false;
        LIST_REMOVE(object, link);
        client->n_objects--;
        free(object);
        return true;
}

static const struct object *find_orphan(const struct root_client *client) {
        const struct object *object;

        LIST_FOREACH(object, &client->objects, link)
                if (object->parent != client->handle && !object_find(client, object->parent))
                        return object;
        return NULL;
}

/* Frees an object with all objects below it. */
static uint32_t free_with_children(struct root_client *client, uint32_t handle) {
        const struct object *orphan;

        if (!object_free(client, handle))
                return NV_ERR_OBJECT_NOT_FOUND;
        while ((orphan = find_orphan(client)))
                (void)object_free(client, orphan->handle);
        return NV_OK;
}

void rm_free_object(struct rm_file *file, struct nv_rm_free *call) {
        struct root_client *client;

        model_wait_api(file->rm->model);
        rm_lock(file->rm);
        client = client_find(file, call->root);
        if (!client) {
                call->status = NV_ERR_INVALID_CLIENT;
        } else if (call->object == call->root) {
                client_free(file->rm, client);
                call->status = NV_OK;
        } else {
                call->status = free_with_children(client, call->object);
        }
        rm_unlock(file->rm);
}
