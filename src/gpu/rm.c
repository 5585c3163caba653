/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/rm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/locations.h"
#include "gpu/abi.h"
#include "gpu/inventory.h"

/* ---- one call ---- */

static const struct {
        uint32_t nv_status;
        int error;
} errors[] = {
        {NV_ERR_GPU_IS_LOST, -ENODEV},
        {NV_ERR_INSUFFICIENT_PERMISSIONS, -EACCES},
        {NV_ERR_INVALID_ARGUMENT, -EINVAL},
        {NV_ERR_INVALID_COMMAND, -EOPNOTSUPP},
        {NV_ERR_INVALID_PARAM_STRUCT, -EOPNOTSUPP}, /* this driver has another structure for this control */
        {NV_ERR_NOT_SUPPORTED, -EOPNOTSUPP},
        {NV_ERR_OBJECT_NOT_FOUND, -ENOENT},
};

static int error_of(uint32_t nv_status) {
        for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
                if (errors[i].nv_status == nv_status)
                        return errors[i].error;
        return -EIO;
}

/* RM's ioctls return 0 and store the result in the structure. If interrupted, they have done nothing yet (nv.c). */
static int call(int fd, unsigned long command, void *arguments, const uint32_t *status, const char *what,
                struct gpu_failure *ret_failure) {
        while (ioctl(fd, command, arguments) < 0)
                if (errno != EINTR)
                        return gpu_failure_explain(ret_failure, -errno, NV_OK, NULL, "cannot %s", what);
        if (*status == NV_OK)
                return 0;
        return gpu_failure_explain(ret_failure, error_of(*status), *status, NULL, "cannot %s", what);
}

/* ---- a root client: freed with all its objects when its descriptor is closed ---- */

struct rm_client {
        int fd;
        uint32_t handle;
};

#define CLIENT_NONE ((struct rm_client){.fd = -1})

static void client_done(struct rm_client *client) {
        client->fd = fd_close(client->fd);
}

/* Without O_NONBLOCK, because nvidia_poll() does not support waiting on a descriptor that has it. */
static int open_ctl(const struct locations *locations, int *ret_fd, struct gpu_failure *ret_failure) {
        char path[PATH_MAX];
        int fd, r;

        r = locations_path(path, locations, "/dev/nvidiactl");
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot open /dev/nvidiactl");
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return gpu_failure_set(ret_failure, -errno, NV_OK, "cannot open %s", path);
        *ret_fd = fd;
        return 0;
}

static int alloc(const struct rm_client *client, uint32_t class, void *parameters, uint32_t size, uint32_t *ret_handle,
                 const char *what, struct gpu_failure *ret_failure) {
        struct nv_rm_alloc arguments = {
                .root = client->handle,
                .parent = client->handle,
                .class = class,
                .params = (uintptr_t)parameters,
                .params_size = size,
        };
        int r = call(client->fd, NV_ESC_RM_ALLOC, &arguments, &arguments.status, what, ret_failure);

        if (r < 0)
                return r;
        *ret_handle = arguments.object; /* 0 was passed, so RM has chosen one */
        return 0;
}

static int control(const struct rm_client *client, uint32_t object, uint32_t command, void *parameters, uint32_t size,
                   const char *what, struct gpu_failure *ret_failure) {
        struct nv_rm_control arguments = {
                .client = client->handle,
                .object = object,
                .command = command,
                .params = (uintptr_t)parameters,
                .params_size = size,
        };

        return call(client->fd, NV_ESC_RM_CONTROL, &arguments, &arguments.status, what, ret_failure);
}

static int client_open(struct rm_client *client, const struct locations *locations, struct gpu_failure *ret_failure) {
        int r = open_ctl(locations, &client->fd, ret_failure);

        if (r < 0)
                return r;
        return alloc(client, NV_CLASS_ROOT_CLIENT, NULL, 0, &client->handle, "become a client of the driver",
                     ret_failure);
}

/* ---- bind and unbind ---- */

struct rm_events {
        struct rm_client client;
        int event_fd;
        bool fetched; /* first is a notice that arrived while we subscribed */
        struct rm_event first;
};

void rm_events_free(struct rm_events *events) {
        if (!events)
                return;
        client_done(&events->client); /* first, so that nothing can wake event_fd any more */
        fd_done(&events->event_fd);
        free(events);
}

static void free_events(struct rm_events **events) {
        rm_events_free(*events);
}

int rm_events_fd(const struct rm_events *events) {
        return events->event_fd;
}

/* Registers the event descriptor with the driver, for the event object that is created next. */
static int offer_descriptor(struct rm_events *events, struct gpu_failure *ret_failure) {
        struct nv_os_event offer = {.client = events->client.handle, .fd = (uint32_t)events->event_fd};

        return call(events->event_fd, NV_ESC_ALLOC_OS_EVENT, &offer, &offer.status, "allocate an event", ret_failure);
}

/*
 * Without data: otherwise the driver also queues every event at the descriptor. This queue grows, and the descriptor
 * stays readable, until the events are fetched there as well.
 */
static int make_event_object(struct rm_events *events, struct gpu_failure *ret_failure) {
        struct nv_event_params parameters = {
                .parent_client = events->client.handle,
                .source_resource = events->client.handle,
                .class = NV_CLASS_EVENT_OS,
                .notify_index = NV_NOTIFIER_GPU_BIND_UNBIND | NV_EVENT_WITHOUT_DATA,
                .data = (uint64_t)events->event_fd,
        };
        uint32_t handle;

        return alloc(&events->client, NV_CLASS_EVENT_OS, &parameters, sizeof(parameters), &handle,
                     "make an event object", ret_failure);
}

static int switch_on(struct rm_events *events, struct gpu_failure *ret_failure) {
        struct nv_set_notification wanted = {
                .event = NV_NOTIFIER_GPU_BIND_UNBIND,
                .action = NV_NOTIFICATION_REPEAT,
        };
        int r;

        r = control(&events->client, events->client.handle, NV_CONTROL_EVENT_SET_NOTIFICATION, &wanted, sizeof(wanted),
                    "subscribe to bind notices", ret_failure);
        if (r == -EINVAL)
                return gpu_failure_explain(ret_failure, -EOPNOTSUPP, NV_ERR_INVALID_ARGUMENT, NULL,
                                           "this driver has no bind notices");
        return r;
}

/* Fetches one notice from the client's queue. Returns 0, -ENOENT if the queue is empty, or other negative errno. */
static int fetch(struct rm_events *events, struct rm_event *ret_event, struct gpu_failure *ret_failure) {
        struct nv_system_event event = {0};
        int r;

        r = control(&events->client, events->client.handle, NV_CONTROL_GET_SYSTEM_EVENT_DATA, &event, sizeof(event),
                    "fetch bind notices", ret_failure);
        if (r < 0)
                return r;
        *ret_event = (struct rm_event){.gpu_id = event.gpu_id, .bind = event.bind != 0};
        return 0;
}

/*
 * Drivers before 575.51.02 accept the subscription, but their notifier with this number is a different one. Fetching a
 * notice shows this: in these drivers the control with this number has parameters of another size, so the call fails
 * with NV_ERR_INVALID_ARGUMENT (seen on 535.261.03 and 550.163.01).
 */
static int check_driver(struct rm_events *events, struct gpu_failure *ret_failure) {
        int r = fetch(events, &events->first, ret_failure);

        events->fetched = r == 0;
        if (r == -EINVAL || r == -EOPNOTSUPP)
                return gpu_failure_explain(ret_failure, -EOPNOTSUPP, ret_failure->nv_status, NULL,
                                           "this driver has no bind notices");
        return r == -ENOENT ? 0 : r;
}

int rm_events_open(struct rm_events **ret_events, const struct locations *locations, struct gpu_failure *ret_failure) {
        CLEANUP(free_events) struct rm_events *events = NULL;
        static int (*const steps[])(struct rm_events * events, struct gpu_failure * ret_failure) = {
                offer_descriptor,
                make_event_object,
                switch_on,
                check_driver,
        };
        int r;

        /* Do not even open the control node of a driver without notices: that may block. */
        if (inventory_driver_is_before(locations, 575, 51, 2))
                return gpu_failure_explain(ret_failure, -EOPNOTSUPP, NV_OK, NULL, "this driver has no bind notices");
        events = calloc(1, sizeof(*events));
        if (!events)
                return gpu_failure_explain(ret_failure, -ENOMEM, NV_OK, NULL, "cannot subscribe to bind notices");
        events->client = CLIENT_NONE;
        events->event_fd = -1;
        r = client_open(&events->client, locations, ret_failure);
        if (r < 0)
                return r;
        r = open_ctl(locations, &events->event_fd, ret_failure);
        for (size_t i = 0; i < ARRAY_SIZE(steps) && r >= 0; i++)
                r = steps[i](events, ret_failure);
        if (r < 0)
                return r;
        *ret_events = take_ptr(events);
        return 0;
}

int rm_events_read(struct rm_events *events, struct rm_event *ret_events, size_t max, size_t *ret_n,
                   struct gpu_failure *ret_failure) {
        size_t n = 0;
        int r = 0;

        assert(max > 0);
        if (events->fetched)
                ret_events[n++] = events->first;
        events->fetched = false;
        while (n < max) {
                r = fetch(events, &ret_events[n], ret_failure);
                if (r < 0)
                        break;
                n++;
        }
        if (r < 0 && r != -ENOENT && n == 0)
                return r;
        *ret_n = n;
        return r == -ENOENT ? 0 : RM_EVENTS_MORE; /* after an error the next call returns it */
}

bool rm_event_is_for(const struct rm_event *event, const struct pci_address *address) {
        return event->gpu_id == nv_gpu_id(address->domain, address->bus, address->slot);
}

/* ---- the legacy flag ---- */

/* RM numbers its devices in the order in which they are attached, independently of minor numbers and PCI addresses. */
static int find_device_instance(const struct rm_client *client, const struct pci_address *address,
                                uint32_t *ret_instance, struct gpu_failure *ret_failure) {
        struct nv_gpu_id_info info = {.gpu_id = nv_gpu_id(address->domain, address->bus, address->slot)};
        int r;

        r = control(client, client->handle, NV_CONTROL_GPU_GET_ID_INFO_V2, &info, sizeof(info),
                    "find the GPU's number within the driver", ret_failure);
        if (r == -EINVAL) /* RM knows only initialised GPUs */
                return gpu_failure_explain(ret_failure, -ENODEV, NV_ERR_INVALID_ARGUMENT, NULL,
                                           "the GPU is not initialised");
        if (r < 0)
                return r;
        *ret_instance = info.device_instance;
        return 0;
}

static int query_persistence(const struct rm_client *client, uint32_t instance, struct nv_persistence *ret_persistence,
                             struct gpu_failure *ret_failure) {
        struct nv_device_params parameters = {.device_id = instance};
        uint32_t device;
        int r;

        r = alloc(client, NV_CLASS_DEVICE, &parameters, sizeof(parameters), &device, "address the GPU", ret_failure);
        if (r < 0)
                return r;
        return control(client, device, NV_CONTROL_QUERY_PERSISTENCE, ret_persistence, sizeof(*ret_persistence),
                       "ask for the legacy persistence flag", ret_failure);
}

int rm_query_legacy(const struct locations *locations, const struct pci_address *address, bool *ret_enabled,
                    struct gpu_failure *ret_failure) {
        CLEANUP(client_done) struct rm_client client = CLIENT_NONE;
        struct nv_persistence persistence = {0};
        uint32_t instance = 0;
        int r;

        r = client_open(&client, locations, ret_failure);
        if (r < 0)
                return r;
        r = find_device_instance(&client, address, &instance, ret_failure);
        if (r < 0)
                return r;
        r = query_persistence(&client, instance, &persistence, ret_failure);
        if (r < 0)
                return r;
        *ret_enabled = persistence.state == 0;
        return 0;
}

/* ---- drain state ---- */

int rm_query_drain(const struct locations *locations, const struct pci_address *address, bool *ret_drained,
                   struct gpu_failure *ret_failure) {
        struct nv_drain_state drain = {.gpu_id = nv_gpu_id(address->domain, address->bus, address->slot)};
        CLEANUP(client_done) struct rm_client client = CLIENT_NONE;
        int r;

        r = client_open(&client, locations, ret_failure);
        if (r < 0)
                return r;
        r = control(&client, client.handle, NV_CONTROL_GPU_QUERY_DRAIN_STATE, &drain, sizeof(drain),
                    "ask for the drain state", ret_failure);
        if (r < 0)
                return r;
        *ret_drained = drain.state != 0;
        return 0;
}
