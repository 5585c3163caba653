/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/rm/rm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sim/rm/user_memory.h"

/* NV_STATUS and numbers that only the driver's side needs (nvstatuscodes.h, ctrl0000gpu.h, ctrl0000event.h). */
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

        RM_NOTIFIERS = 4,            /* NV0000_NOTIFIERS_MAXCOUNT */
        RM_NOTIFIERS_BEFORE_575 = 5, /* and other ones, number 3 among them */
        RM_ACTION_DISABLE = 0,
        RM_ACTION_SINGLE = 1,

        RM_OBJECTS_MAX = 256, /* per client, and clients per simulator: nobody fills our memory */
        RM_NOTICES_MAX = 4096,
};

struct os_event { /* what ALLOC_OS_EVENT leaves: the file it was issued on is the one that is woken */
        struct os_event *next;
        uint32_t client;
        uint32_t fd;
        struct rm_file *file;
};

struct object {
        struct object *next;
        uint32_t handle;
        uint32_t parent;
        uint32_t class;
        unsigned minor;         /* NV_CLASS_DEVICE */
        struct os_event *event; /* NV_CLASS_EVENT_OS; NULL when that was freed first */
        uint32_t notify_index;  /* likewise */
};

struct notice {
        struct notice *next;
        struct nv_system_event event;
};

struct root_client {
        struct root_client *next;
        uint32_t handle;
        struct rm_file *file;
        struct object *objects;
        unsigned n_objects;
        uint32_t actions[RM_NOTIFIERS_BEFORE_575];
        struct notice *notices, **last_notice;
        unsigned n_notices;
};

struct rm {
        struct model *model;
        struct model_listener listener;
        pthread_mutex_t mutex;
        struct root_client *clients;
        struct os_event *os_events;
        unsigned n_clients;
        uint32_t next_handle;
};

static void lock(struct rm *rm) {
        (void)pthread_mutex_lock(&rm->mutex);
}

static void unlock(struct rm *rm) {
        (void)pthread_mutex_unlock(&rm->mutex);
}

/* ---- clients and objects ---- */

/* A client of this file: RM refuses another file's handles (client.c, rmclientValidate). */
static struct root_client *find_client(struct rm_file *file, uint32_t handle) {
        for (struct root_client *client = file->rm->clients; client; client = client->next)
                if (client->handle == handle)
                        return client->file == file ? client : NULL;
        return NULL;
}

static struct object *find_object(const struct root_client *client, uint32_t handle) {
        for (struct object *object = client->objects; object; object = object->next)
                if (object->handle == handle)
                        return object;
        return NULL;
}

static bool is_handle_taken(const struct rm *rm, uint32_t handle) {
        for (const struct root_client *client = rm->clients; client; client = client->next)
                if (client->handle == handle)
                        return true;
        return false;
}

static void drop_notices(struct root_client *client) {
        while (client->notices) {
                struct notice *notice = client->notices;

                client->notices = notice->next;
                free(notice);
        }
        client->last_notice = &client->notices;
        client->n_notices = 0;
}

static void free_os_event(struct rm *rm, struct os_event **link) {
        struct os_event *event = *link;

        *link = event->next;
        for (struct root_client *client = rm->clients; client; client = client->next)
                for (struct object *object = client->objects; object; object = object->next)
                        if (object->event == event)
                                object->event = NULL;
        free(event);
}

/* Frees the events of a file, or those of a client. */
static void free_os_events(struct rm *rm, const struct rm_file *file, uint32_t client) {
        struct os_event **link = &rm->os_events;

        while (*link)
                if ((*link)->file == file || (!file && (*link)->client == client))
                        free_os_event(rm, link);
                else
                        link = &(*link)->next;
}

static void free_client(struct rm *rm, struct root_client **link) {
        struct root_client *client = *link;

        *link = client->next;
        while (client->objects) {
                struct object *object = client->objects;

                client->objects = object->next;
                free(object);
        }
        drop_notices(client);
        free_os_events(rm, NULL, client->handle);
        rm->n_clients--;
        free(client);
}

static struct root_client **link_of(struct rm *rm, const struct root_client *client) {
        struct root_client **link = &rm->clients;

        while (*link != client)
                link = &(*link)->next;
        return link;
}

/* ---- notices ---- */

/* Queues a notice for the client and wakes its event's file. */
static void deliver(struct root_client *client, const struct object *object, const struct nv_system_event *event) {
        struct notice *notice;

        if (!object->event || client->n_notices == RM_NOTICES_MAX)
                return;
        notice = calloc(1, sizeof(*notice));
        if (!notice)
                return;
        notice->event = *event;
        *client->last_notice = notice;
        client->last_notice = &notice->next;
        client->n_notices++;
        object->event->file->event_pending = true;
        object->event->file->wake(object->event->file);
}

static void notify_client(struct root_client *client, const struct nv_system_event *event) {
        uint32_t *action = &client->actions[event->event];

        if (*action == RM_ACTION_DISABLE)
                return;
        for (struct object *object = client->objects; object; object = object->next)
                if (object->class == NV_CLASS_EVENT_OS && object->notify_index == event->event)
                        deliver(client, object, event);
        if (*action == RM_ACTION_SINGLE)
                *action = RM_ACTION_DISABLE;
}

static void on_notice(struct model_listener *listener, uint32_t gpu_id, bool bind) {
        struct rm *rm = container_of(listener, struct rm, listener);
        struct nv_system_event event = {.event = NV_NOTIFIER_GPU_BIND_UNBIND, .gpu_id = gpu_id, .bind = bind};

        lock(rm);
        for (struct root_client *client = rm->clients; client; client = client->next)
                notify_client(client, &event);
        unlock(rm);
}

/* ---- life ---- */

int rm_new(struct rm **ret_rm, struct model *model) {
        struct rm *rm = calloc(1, sizeof(*rm));

        if (!rm)
                return -ENOMEM;
        rm->model = model;
        rm->next_handle = 0xc1d00001; /* the driver's own start at 0xc1d0...: rs_server.h */
        (void)pthread_mutex_init(&rm->mutex, NULL);
        rm->listener.notify = on_notice;
        model_listen(model, &rm->listener);
        *ret_rm = rm;
        return 0;
}

void rm_free(struct rm *rm) {
        if (!rm)
                return;
        model_unlisten(rm->model, &rm->listener);
        while (rm->clients)
                free_client(rm, &rm->clients);
        while (rm->os_events)
                free_os_event(rm, &rm->os_events);
        (void)pthread_mutex_destroy(&rm->mutex);
        free(rm);
}

void rm_file_init(struct rm_file *file, struct rm *rm, void (*wake)(struct rm_file *file)) {
        *file = (struct rm_file){.rm = rm, .wake = wake};
}

void rm_file_done(struct rm_file *file) {
        struct root_client **link;

        if (!file->rm)
                return;
        lock(file->rm);
        link = &file->rm->clients;
        while (*link)
                if ((*link)->file == file)
                        free_client(file->rm, link);
                else
                        link = &(*link)->next;
        free_os_events(file->rm, file, 0);
        unlock(file->rm);
        file->rm = NULL;
}

bool rm_file_poll(struct rm_file *file) {
        bool pending;

        lock(file->rm);
        pending = file->event_pending;
        file->event_pending = false;
        unlock(file->rm);
        return pending;
}

/* ---- OS events ---- */

static struct os_event **find_os_event(struct rm *rm, uint32_t client, uint32_t fd) {
        struct os_event **link = &rm->os_events;

        while (*link && ((*link)->client != client || (*link)->fd != fd))
                link = &(*link)->next;
        return link;
}

static uint32_t add_os_event(struct rm_file *file, const struct nv_os_event *call) {
        struct os_event *event;

        if (*find_os_event(file->rm, call->client, call->fd))
                return RM_ERR_INSUFFICIENT_RESOURCES; /* osapi.c says so for any failure here */
        event = calloc(1, sizeof(*event));
        if (!event)
                return RM_ERR_INSUFFICIENT_RESOURCES;
        *event = (struct os_event){
                .next = file->rm->os_events,
                .client = call->client,
                .fd = call->fd,
                .file = file,
        };
        file->rm->os_events = event;
        return NV_OK;
}

void rm_alloc_os_event(struct rm_file *file, struct nv_os_event *event) {
        lock(file->rm);
        event->status = add_os_event(file, event);
        unlock(file->rm);
}

void rm_free_os_event(struct rm_file *file, struct nv_os_event *event) {
        struct os_event **link;

        lock(file->rm);
        link = find_os_event(file->rm, event->client, event->fd);
        event->status = *link ? NV_OK : RM_ERR_INVALID_EVENT;
        if (*link)
                free_os_event(file->rm, link);
        unlock(file->rm);
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
        client->last_notice = &client->notices;
        client->next = rm->clients;
        rm->clients = client;
        rm->n_clients++;
        return NV_OK;
}

static uint32_t alloc_client(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        uint32_t status;

        lock(file->rm);
        status = add_client(file, alloc);
        unlock(file->rm);
        if (status == NV_OK && alloc->params != 0 && /* the handle is told there, too */
            user_memory_write(caller->pid, alloc->params, &alloc->object, sizeof(alloc->object)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        return status;
}

/* A handle for a client that leaves the choice to RM. */
static uint32_t next_handle(const struct root_client *client) {
        uint32_t handle = 0xcaf00000; /* the driver's generated handles begin alike: rs_client.c */

        while (find_object(client, handle))
                handle++;
        return handle;
}

/* With RM locked: adds `filled` below the caller's client. */
static uint32_t add_object(struct rm_file *file, struct nv_rm_alloc *alloc, const struct object *filled) {
        struct root_client *client = find_client(file, alloc->root);
        struct object *object;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        if (alloc->parent != client->handle && !find_object(client, alloc->parent))
                return RM_ERR_INVALID_OBJECT_PARENT;
        if (alloc->object == 0)
                alloc->object = next_handle(client);
        if (alloc->object == client->handle || find_object(client, alloc->object))
                return RM_ERR_INSERT_DUPLICATE_NAME;
        object = client->n_objects < RM_OBJECTS_MAX ? malloc(sizeof(*object)) : NULL;
        if (!object)
                return RM_ERR_NO_MEMORY;
        *object = *filled;
        object->handle = alloc->object;
        object->parent = alloc->parent;
        object->class = alloc->class;
        object->next = client->objects;
        client->objects = object;
        client->n_objects++;
        return NV_OK;
}

static bool find_gpu(struct model *model, unsigned minor, struct model_gpu_view *ret_view) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(model, views);

        for (size_t i = 0; i < n_views; i++)
                if (views[i].probed && views[i].minor == minor) {
                        *ret_view = views[i];
                        return true;
                }
        return false;
}

static uint32_t alloc_device(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        struct nv_device_params parameters = {0};
        struct model_gpu_view view;
        uint32_t status;

        if (alloc->params != 0 && user_memory_read(caller->pid, alloc->params, &parameters, sizeof(parameters)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        if (!find_gpu(file->rm->model, parameters.device_id, &view))
                return RM_ERR_INVALID_CLASS;
        if (!view.initialised) /* device.c, _deviceInit: RM has no object of the GPU */
                return NV_ERR_INVALID_STATE;
        if (view.spec.drain) /* gpumgrIsDeviceEnabled() */
                return NV_ERR_INVALID_ARGUMENT;
        if (!model_process_has_gpu(file->rm->model, caller->pid, view.minor)) /* osIsGpuAccessible: device.c */
                return NV_ERR_INSUFFICIENT_PERMISSIONS;
        lock(file->rm);
        status = add_object(file, alloc, &(struct object){.minor = view.minor});
        unlock(file->rm);
        return status;
}

static uint32_t alloc_event(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        struct object object = {0};
        struct nv_event_params parameters;
        uint32_t status = NV_ERR_OBJECT_NOT_FOUND;

        if (alloc->params == 0)
                return NV_ERR_INVALID_PARAM_STRUCT;
        if (user_memory_read(caller->pid, alloc->params, &parameters, sizeof(parameters)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        object.notify_index = parameters.notify_index & 0xffff; /* the upper half are flags */
        lock(file->rm);
        object.event = *find_os_event(file->rm, alloc->root, (uint32_t)parameters.data);
        if (object.event)
                status = add_object(file, alloc, &object);
        unlock(file->rm);
        return status;
}

static const struct {
        uint32_t class;
        uint32_t (*alloc)(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc);
} classes[] = {
        {RM_CLASS_ROOT, alloc_client},    {RM_CLASS_ROOT_NON_PRIV, alloc_client}, {NV_CLASS_ROOT_CLIENT, alloc_client},
        {NV_CLASS_EVENT_OS, alloc_event}, {NV_CLASS_DEVICE, alloc_device},
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

/* ---- RM_CONTROL ---- */

/* One control in work: whose, and its parameters copied in (and out again when status is NV_OK). */
struct control {
        struct rm_file *file;
        const struct model_caller *caller;
        const struct nv_rm_control *call;
        union {
                struct nv_set_notification notification;
                struct nv_system_event system_event;
                struct nv_persistence persistence;
                struct nv_gpu_id_info id_info;
                struct nv_drain_state drain;
        } parameters;
};

static bool has_notices(const struct control *control) {
        return model_scenario(control->file->rm->model)->bind_notices;
}

/* With RM locked. */
static uint32_t set_action(struct control *control) {
        const struct nv_set_notification *wanted = &control->parameters.notification;
        struct root_client *client = find_client(control->file, control->call->client);
        uint32_t notifiers = has_notices(control) ? RM_NOTIFIERS : RM_NOTIFIERS_BEFORE_575;
        bool has_event = false;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        if (wanted->event >= notifiers || wanted->action > NV_NOTIFICATION_REPEAT)
                return NV_ERR_INVALID_ARGUMENT;
        for (const struct object *object = client->objects; object; object = object->next)
                has_event = has_event || object->class == NV_CLASS_EVENT_OS;
        if (!has_event)
                return NV_ERR_INVALID_STATE;
        if (wanted->action != RM_ACTION_DISABLE && client->actions[wanted->event] != RM_ACTION_DISABLE)
                return NV_ERR_INVALID_STATE; /* client_resource.c: switch it off first */
        client->actions[wanted->event] = wanted->action;
        return NV_OK;
}

static uint32_t control_set_notification(struct control *control) {
        uint32_t status;

        lock(control->file->rm);
        status = set_action(control);
        unlock(control->file->rm);
        return status;
}

/* With RM locked. */
static uint32_t take_notice(struct control *control) {
        struct root_client *client = find_client(control->file, control->call->client);
        struct notice *notice;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        notice = client->notices;
        if (!notice)
                return NV_ERR_OBJECT_NOT_FOUND;
        control->parameters.system_event = notice->event;
        client->notices = notice->next;
        if (!client->notices)
                client->last_notice = &client->notices;
        client->n_notices--;
        free(notice);
        return NV_OK;
}

static uint32_t control_get_event(struct control *control) {
        uint32_t status;

        if (!has_notices(control)) /* that number is GET_SYSTEM_EVENT_STATUS there, of 8 bytes: nobody asks it */
                return NV_ERR_INVALID_ARGUMENT;
        lock(control->file->rm);
        status = take_notice(control);
        unlock(control->file->rm);
        return status;
}

static uint32_t control_get_id_info(struct control *control) {
        struct nv_gpu_id_info *info = &control->parameters.id_info;
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(control->file->rm->model, views);

        for (size_t i = 0; i < n_views; i++) {
                const struct pci_address *address = &views[i].spec.address;

                if (!views[i].probed || nv_gpu_id(address->domain, address->bus, address->slot) != info->gpu_id)
                        continue;
                if (!views[i].initialised) /* RM knows only GPUs that it has attached: gpumgrGetGpuFromId() */
                        break;
                info->device_instance = views[i].minor;
                info->subdevice_instance = 0;
                info->gpu_instance = views[i].minor;
                info->numa_node = views[i].numa.status == NV_NUMA_DISABLED ? -1 : views[i].numa.node;
                return NV_OK;
        }
        return NV_ERR_INVALID_ARGUMENT;
}

/* The minor behind the control's device object. */
static uint32_t find_device(struct control *control, unsigned *ret_minor) {
        uint32_t status = NV_ERR_NOT_SUPPORTED; /* no control of that class's */
        struct root_client *client;
        struct object *object;

        lock(control->file->rm);
        client = find_client(control->file, control->call->client);
        object = client ? find_object(client, control->call->object) : NULL;
        if (object && object->class == NV_CLASS_DEVICE) {
                *ret_minor = object->minor;
                status = NV_OK;
        }
        unlock(control->file->rm);
        return status;
}

static uint32_t control_query_persistence(struct control *control) {
        struct model_gpu_view view;
        unsigned minor;
        uint32_t status = find_device(control, &minor);

        if (status != NV_OK)
                return status;
        if (!find_gpu(control->file->rm->model, minor, &view))
                return NV_ERR_GPU_IS_LOST;
        control->parameters.persistence.state = view.spec.legacy ? 0 : 1;
        return NV_OK;
}

static uint32_t set_legacy(struct control *control, unsigned minor, bool enabled) {
        int r = model_legacy_set_minor(control->file->rm->model, minor, control->caller, enabled);

        if (r == -EPERM)
                return NV_ERR_INSUFFICIENT_PERMISSIONS;
        return r < 0 ? NV_ERR_GPU_IS_LOST : NV_OK;
}

static uint32_t control_modify_persistence(struct control *control) {
        uint32_t wanted = control->parameters.persistence.state;
        unsigned minor;
        uint32_t status = find_device(control, &minor);

        if (status != NV_OK)
                return status;
        if (wanted > 1)
                return NV_ERR_INVALID_ARGUMENT;
        return set_legacy(control, minor, wanted == 0);
}

/* Of any GPU that the driver has probed, initialised or not. */
static uint32_t control_query_drain(struct control *control) {
        struct nv_drain_state *drain = &control->parameters.drain;
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(control->file->rm->model, views);

        for (size_t i = 0; i < n_views; i++) {
                const struct pci_address *address = &views[i].spec.address;

                if (!views[i].probed || nv_gpu_id(address->domain, address->bus, address->slot) != drain->gpu_id)
                        continue;
                drain->state = views[i].spec.drain;
                drain->flags = 0;
                return NV_OK;
        }
        return NV_ERR_INVALID_ARGUMENT;
}

static const struct control_row {
        uint32_t command;
        uint32_t size;
        uint32_t (*run)(struct control *control);
} controls[] = {
        {NV_CONTROL_EVENT_SET_NOTIFICATION, sizeof(struct nv_set_notification), control_set_notification},
        {NV_CONTROL_GET_SYSTEM_EVENT_DATA, sizeof(struct nv_system_event), control_get_event},
        {NV_CONTROL_GPU_GET_ID_INFO_V2, sizeof(struct nv_gpu_id_info), control_get_id_info},
        {NV_CONTROL_GPU_QUERY_DRAIN_STATE, sizeof(struct nv_drain_state), control_query_drain},
        {NV_CONTROL_QUERY_PERSISTENCE, sizeof(struct nv_persistence), control_query_persistence},
        {NV_CONTROL_MODIFY_PERSISTENCE, sizeof(struct nv_persistence), control_modify_persistence},
};

static uint32_t run_control(const struct control_row *row, struct control *control) {
        const struct nv_rm_control *call = control->call;
        pid_t process = control->caller->pid;
        uint32_t status;

        if (call->params_size != row->size)
                return NV_ERR_INVALID_PARAM_STRUCT;
        if (user_memory_read(process, call->params, &control->parameters, row->size) < 0)
                return RM_ERR_INVALID_ADDRESS;
        status = row->run(control);
        if (status == NV_OK && user_memory_write(process, call->params, &control->parameters, row->size) < 0)
                return RM_ERR_INVALID_ADDRESS;
        return status;
}

/* The client and the object are looked up before the control is (rs_server.c, serverControl). */
static uint32_t find_target(struct rm_file *file, const struct nv_rm_control *call) {
        uint32_t status = NV_ERR_INVALID_CLIENT;
        struct root_client *client;

        lock(file->rm);
        client = find_client(file, call->client);
        if (client)
                status = call->object == client->handle || find_object(client, call->object) ? (uint32_t)NV_OK
                                                                                             : NV_ERR_OBJECT_NOT_FOUND;
        unlock(file->rm);
        return status;
}

void rm_control(struct rm_file *file, const struct model_caller *caller, struct nv_rm_control *call) {
        struct control control = {.file = file, .caller = caller, .call = call};

        model_wait_api(file->rm->model);
        call->status = find_target(file, call);
        if (call->status != NV_OK)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
                if (controls[i].command == call->command) {
                        call->status = run_control(&controls[i], &control);
                        return;
                }
        call->status = NV_ERR_NOT_SUPPORTED;
        model_note_unknown_ioctl(file->rm->model, MODEL_NODE_CTL, caller, call->command);
}

/* ---- RM_FREE ---- */

static uint32_t free_object(struct root_client *client, uint32_t handle) {
        struct object **link = &client->objects;
        struct object *object;

        while (*link && (*link)->handle != handle)
                link = &(*link)->next;
        object = *link;
        if (!object)
                return NV_ERR_OBJECT_NOT_FOUND;
        *link = object->next;
        client->n_objects--;
        free(object);
        return NV_OK;
}

void rm_free_object(struct rm_file *file, struct nv_rm_free *call) {
        struct root_client *client;

        model_wait_api(file->rm->model);
        lock(file->rm);
        client = find_client(file, call->root);
        if (!client) {
                call->status = NV_ERR_INVALID_CLIENT;
        } else if (call->object == call->root) {
                free_client(file->rm, link_of(file->rm, client));
                call->status = NV_OK;
        } else {
                call->status = free_object(client, call->object);
        }
        unlock(file->rm);
}
