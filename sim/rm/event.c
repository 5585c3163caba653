/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * RM's notifications. A client creates an OS event for a descriptor and an event object on it, and chooses the
 * notifiers. RM then queues notices for the client, and poll() on the descriptor wakes.
 */

#include <stdlib.h>

#include "sim/rm/private.h"
#include "sim/rm/user_memory.h"

enum {
        RM_ACTION_DISABLE = 0,
        RM_ACTION_SINGLE = 1,
        RM_NOTICES_MAX = 4096,
};

/* ---- notices ---- */

void event_drop_notices(struct root_client *client) {
        while (!STAILQ_EMPTY(&client->notices)) {
                struct notice *notice = STAILQ_FIRST(&client->notices);

                STAILQ_REMOVE_HEAD(&client->notices, link);
                free(notice);
        }
        client->n_notices = 0;
}

/* Queues a notice for the client and wakes its event's file. */
static void deliver(struct root_client *client, const struct object *object, const struct nv_system_event *event) {
        struct notice *notice;

        if (!object->event || client->n_notices == RM_NOTICES_MAX)
                return;
        notice = calloc(1, sizeof(*notice));
        if (!notice)
                return;
        notice->event = *event;
        STAILQ_INSERT_TAIL(&client->notices, notice, link);
        client->n_notices++;
        object->event->file->event_pending = true;
        object->event->file->wake(object->event->file);
}

static void notify_client(struct root_client *client, const struct nv_system_event *event) {
        uint32_t *action = &client->actions[event->event];
        struct object *object;

        if (*action == RM_ACTION_DISABLE)
                return;
        LIST_FOREACH(object, &client->objects, link)
                if (object->class == NV_CLASS_EVENT_OS && object->notify_index == event->event)
                        deliver(client, object, event);
        if (*action == RM_ACTION_SINGLE)
                *action = RM_ACTION_DISABLE;
}

static void on_notice(struct model_listener *listener, uint32_t gpu_id, bool bind) {
        struct rm *rm = container_of(listener, struct rm, listener);
        struct nv_system_event event = {.event = NV_NOTIFIER_GPU_BIND_UNBIND, .gpu_id = gpu_id, .bind = bind};
        struct root_client *client;

        rm_lock(rm);
        LIST_FOREACH(client, &rm->clients, link)
                notify_client(client, &event);
        rm_unlock(rm);
}

void event_init(struct rm *rm) {
        rm->listener.notify = on_notice;
        model_listen(rm->model, &rm->listener);
}

/* ---- OS events ---- */

static void free_os_event(struct rm *rm, struct os_event *event) {
        struct root_client *client;
        struct object *object;

        LIST_REMOVE(event, link);
        LIST_FOREACH(client, &rm->clients, link)
                LIST_FOREACH(object, &client->objects, link)
                        if (object->event == event)
                                object->event = NULL;
        free(event);
}

void event_free_of(struct rm *rm, const struct rm_file *file, uint32_t client) {
        struct os_event *next;

        for (struct os_event *event = LIST_FIRST(&rm->os_events); event; event = next) {
                next = LIST_NEXT(event, link);
                if (event->file == file || (!file && event->client == client))
                        free_os_event(rm, event);
        }
}

static struct os_event *find_os_event(struct rm *rm, uint32_t client, uint32_t fd) {
        struct os_event *event = LIST_FIRST(&rm->os_events);

        while (event && (event->client != client || event->fd != fd))
                event = LIST_NEXT(event, link);
        return event;
}

static uint32_t add_os_event(struct rm_file *file, const struct nv_os_event *call) {
        struct os_event *event;

        if (find_os_event(file->rm, call->client, call->fd))
                return RM_ERR_INSUFFICIENT_RESOURCES; /* osapi.c returns this for any failure here */
        event = calloc(1, sizeof(*event));
        if (!event)
                return RM_ERR_INSUFFICIENT_RESOURCES;
        *event = (struct os_event){
                .client = call->client,
                .fd = call->fd,
                .file = file,
        };
        LIST_INSERT_HEAD(&file->rm->os_events, event, link);
        return NV_OK;
}

void rm_alloc_os_event(struct rm_file *file, struct nv_os_event *event) {
        rm_lock(file->rm);
        event->status = add_os_event(file, event);
        rm_unlock(file->rm);
}

void rm_free_os_event(struct rm_file *file, struct nv_os_event *call) {
        struct os_event *event;

        rm_lock(file->rm);
        event = find_os_event(file->rm, call->client, call->fd);
        call->status = event ? NV_OK : RM_ERR_INVALID_EVENT;
        if (event)
                free_os_event(file->rm, event);
        rm_unlock(file->rm);
}

void event_done(struct rm *rm) {
        while (!LIST_EMPTY(&rm->os_events))
                free_os_event(rm, LIST_FIRST(&rm->os_events));
}

/* ---- event objects ---- */

uint32_t event_alloc(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc) {
        struct object object = {0};
        struct nv_event_params parameters;
        uint32_t status = NV_ERR_OBJECT_NOT_FOUND;

        if (alloc->params == 0)
                return NV_ERR_INVALID_PARAM_STRUCT;
        if (user_memory_read(caller->pid, alloc->params, &parameters, sizeof(parameters)) < 0)
                return RM_ERR_INVALID_ADDRESS;
        object.notify_index = parameters.notify_index & 0xffff; /* the upper half contains flags */
        rm_lock(file->rm);
        object.event = find_os_event(file->rm, alloc->root, (uint32_t)parameters.data);
        if (object.event)
                status = object_add(file, alloc, &object);
        rm_unlock(file->rm);
        return status;
}

/* ---- controls ---- */

static bool has_notices(const struct control *control) {
        return model_scenario(control->file->rm->model)->bind_notices;
}

/* With RM locked. */
static uint32_t set_action(struct control *control) {
        const struct nv_set_notification *wanted = &control->parameters.notification;
        struct root_client *client = client_find(control->file, control->call->client);
        uint32_t notifiers = has_notices(control) ? RM_NOTIFIERS : RM_NOTIFIERS_BEFORE_575;
        bool has_event = false;
        const struct object *object;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        if (wanted->event >= notifiers || wanted->action > NV_NOTIFICATION_REPEAT)
                return NV_ERR_INVALID_ARGUMENT;
        LIST_FOREACH(object, &client->objects, link)
                has_event = has_event || object->class == NV_CLASS_EVENT_OS;
        if (!has_event)
                return NV_ERR_INVALID_STATE;
        if (wanted->action != RM_ACTION_DISABLE && client->actions[wanted->event] != RM_ACTION_DISABLE)
                return NV_ERR_INVALID_STATE; /* client_resource.c: it must be switched off first */
        client->actions[wanted->event] = wanted->action;
        return NV_OK;
}

uint32_t control_set_notification(struct control *control) {
        uint32_t status;

        rm_lock(control->file->rm);
        status = set_action(control);
        rm_unlock(control->file->rm);
        return status;
}

/* With RM locked. */
static uint32_t take_notice(struct control *control) {
        struct root_client *client = client_find(control->file, control->call->client);
        struct notice *notice;

        if (!client)
                return NV_ERR_INVALID_CLIENT;
        notice = STAILQ_FIRST(&client->notices);
        if (!notice)
                return NV_ERR_OBJECT_NOT_FOUND;
        control->parameters.system_event = notice->event;
        STAILQ_REMOVE_HEAD(&client->notices, link);
        client->n_notices--;
        free(notice);
        return NV_OK;
}

uint32_t control_get_event(struct control *control) {
        uint32_t status;

        /* In drivers without notices, this number is GET_SYSTEM_EVENT_STATUS, of 8 bytes, which no program uses. */
        if (!has_notices(control))
                return NV_ERR_INVALID_ARGUMENT;
        rm_lock(control->file->rm);
        status = take_notice(control);
        rm_unlock(control->file->rm);
        return status;
}
