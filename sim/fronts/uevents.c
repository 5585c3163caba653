/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/uevents.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/thread.h"

enum {
        MESSAGE_SIZE = 512,
        SEND_TIMEOUT_MSEC = 100, /* how long a receiver that does not read can delay our end */
};

struct uevent {
        STAILQ_ENTRY(uevent) link;
        size_t length;
        char text[MESSAGE_SIZE];
};

struct uevents {
        struct model *model;
        struct sockaddr_un address;
        int fd;
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        STAILQ_HEAD(, uevent) queue; /* to be sent, oldest first */
        uint64_t sequence;
        bool ending;
};

/* ---- the text ---- */

/* Appends "NAME=value" and a NUL. The buffer is large enough, because all values have limited lengths. */
static void add(struct uevent *message, const char *name, const char *value) {
        char *end = message->text + message->length;

        (void)text_format(end, sizeof(message->text) - message->length, "%s=%s", name, value);
        message->length += strlen(end) + 1;
}

static void begin(struct uevent *message, const char *action, const char *device) {
        (void)text_format(message->text, sizeof(message->text), "%s@%s", action, device);
        message->length = strlen(message->text) + 1;
        add(message, "ACTION", action);
        add(message, "DEVPATH", device);
}

static void end(struct uevents *uevents, struct uevent *message) {
        char text[32];

        (void)text_format(text, sizeof(text), "%" PRIu64, ++uevents->sequence);
        add(message, "SEQNUM", text);
}

/* The order is that of lib/kobject_uevent.c. The kernel adds DRIVER only for a bound device (drivers/base/core.c). */
static void describe_device(struct uevent *message, const char *action, const struct pci_address *address) {
        char slot[PCI_ADDRESS_SIZE], device[64];

        (void)pci_address_format(address, slot);
        (void)text_format(device, sizeof(device), "/devices/pci%04x:00/%s", (unsigned)address->domain, slot);
        begin(message, action, device);
        add(message, "SUBSYSTEM", "pci");
        if (text_equal(action, "bind"))
                add(message, "DRIVER", "nvidia");
        add(message, "PCI_CLASS", "30200");
        add(message, "PCI_ID", "10DE:2330");
        add(message, "PCI_SLOT_NAME", slot);
}

/* ---- the queue ---- */

/* With the mutex held. */
static void enqueue(struct uevents *uevents, struct uevent *message) {
        end(uevents, message);
        STAILQ_INSERT_TAIL(&uevents->queue, message, link);
        (void)pthread_cond_signal(&uevents->changed);
}

static void send_device(struct uevents *uevents, const char *action, const struct pci_address *address) {
        struct uevent *message = calloc(1, sizeof(*message));

        if (!message)
                return;
        describe_device(message, action, address);
        (void)pthread_mutex_lock(&uevents->mutex);
        enqueue(uevents, message);
        (void)pthread_mutex_unlock(&uevents->mutex);
}

static void on_uevent(void *user, const char *action, const struct pci_address *address) {
        send_device(user, action, address);
}

void uevents_send_loaded(struct uevents *uevents) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(uevents->model, views);
        struct uevent *message = calloc(1, sizeof(*message));

        if (!message)
                return;
        begin(message, "add", "/module/nvidia");
        add(message, "SUBSYSTEM", "module");
        (void)pthread_mutex_lock(&uevents->mutex);
        enqueue(uevents, message);
        (void)pthread_mutex_unlock(&uevents->mutex);
        for (size_t i = 0; i < n_views; i++)
                if (views[i].bound)
                        send_device(uevents, "bind", &views[i].spec.address);
}

/* ---- the thread ---- */

static struct uevent *take_message(struct uevents *uevents) {
        struct uevent *message;

        (void)pthread_mutex_lock(&uevents->mutex);
        while (STAILQ_EMPTY(&uevents->queue) && !uevents->ending)
                (void)pthread_cond_wait(&uevents->changed, &uevents->mutex);
        message = uevents->ending ? NULL : STAILQ_FIRST(&uevents->queue);
        if (message)
                STAILQ_REMOVE_HEAD(&uevents->queue, link);
        (void)pthread_mutex_unlock(&uevents->mutex);
        return message;
}

static bool is_ending(struct uevents *uevents) {
        bool ending;

        (void)pthread_mutex_lock(&uevents->mutex);
        ending = uevents->ending;
        (void)pthread_mutex_unlock(&uevents->mutex);
        return ending;
}

/* Wait for a slow receiver: its queue is much shorter than a netlink socket's. */
static void deliver(struct uevents *uevents, const struct uevent *message) {
        ssize_t r;

        do
                r = sendto(uevents->fd, message->text, message->length, MSG_NOSIGNAL,
                           (const struct sockaddr *)&uevents->address, sizeof(uevents->address));
        while (r < 0 && (errno == EAGAIN || errno == EINTR) && !is_ending(uevents));
}

static void *uevents_main(void *argument) {
        struct uevents *uevents = argument;
        struct uevent *message;

        while ((message = take_message(uevents))) {
                deliver(uevents, message);
                free(message);
        }
        return NULL;
}

/* ---- life ---- */

static void free_all(struct uevents *uevents) {
        while (!STAILQ_EMPTY(&uevents->queue)) {
                struct uevent *message = STAILQ_FIRST(&uevents->queue);

                STAILQ_REMOVE_HEAD(&uevents->queue, link);
                free(message);
        }
        fd_done(&uevents->fd);
        (void)pthread_mutex_destroy(&uevents->mutex);
        (void)pthread_cond_destroy(&uevents->changed);
        free(uevents);
}

/* Use the run folder's descriptor: a path through our own mount would be a deadlock. */
static int open_socket(struct uevents *uevents, int run_fd) {
        const struct timeval timeout = {.tv_usec = SEND_TIMEOUT_MSEC * 1000};

        uevents->address.sun_family = AF_UNIX;
        (void)text_format(uevents->address.sun_path, sizeof(uevents->address.sun_path),
                          "/proc/self/fd/%d/nvidia-persistenced/uevents", run_fd);
        uevents->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (uevents->fd < 0 || setsockopt(uevents->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
                return -errno;
        return 0;
}

int uevents_new(struct uevents **ret_uevents, struct model *model, int run_fd) {
        struct uevents *uevents = calloc(1, sizeof(*uevents));
        int r;

        if (!uevents)
                return -ENOMEM;
        *uevents = (struct uevents){.model = model, .fd = -1};
        STAILQ_INIT(&uevents->queue);
        (void)pthread_mutex_init(&uevents->mutex, NULL);
        (void)pthread_cond_init(&uevents->changed, NULL);
        r = open_socket(uevents, run_fd);
        if (r == 0)
                r = thread_start(&uevents->thread, &(struct thread_options){0}, uevents_main, uevents);
        if (r < 0) {
                free_all(uevents);
                return r;
        }
        model_set_uevents(model, on_uevent, uevents);
        *ret_uevents = uevents;
        return 0;
}

void uevents_free(struct uevents *uevents) {
        if (!uevents)
                return;
        model_set_uevents(uevents->model, NULL, NULL);
        (void)pthread_mutex_lock(&uevents->mutex);
        uevents->ending = true;
        (void)pthread_cond_signal(&uevents->changed);
        (void)pthread_mutex_unlock(&uevents->mutex);
        (void)pthread_join(uevents->thread, NULL);
        free_all(uevents);
}
