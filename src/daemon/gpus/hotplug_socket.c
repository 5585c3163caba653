/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "daemon/gpus/hotplug_private.h"

struct socket_source {
        struct hotplug hotplug;
        int fd;
        struct sockaddr_un address;
};

static void source_end(struct hotplug *hotplug) {
        struct socket_source *source = container_of(hotplug, struct socket_source, hotplug);

        source->fd = fd_close(source->fd);
        (void)unlink(source->address.sun_path);
        free(source);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct hotplug *hotplug = userdata;
        struct pci_address address;
        enum hotplug_action action;
        char bytes[2048];
        ssize_t size;

        for (unsigned i = 0; i < HOTPLUG_EVENTS_MAX; i++) {
                size = recv(fd, bytes, sizeof(bytes), 0);
                if (size < 0)
                        return;
                if (size > 0 && hotplug_parse(bytes, (size_t)size, &action, &address))
                        hotplug->callbacks.on_event(action, &address, hotplug->callbacks.userdata);
        }
}

static int source_bind(struct socket_source *source, const char *path) {
        source->address.sun_family = AF_UNIX;
        if (!text_copy(source->address.sun_path, sizeof(source->address.sun_path), path))
                return -ENAMETOOLONG;
        source->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (source->fd < 0 || (unlink(path) < 0 && errno != ENOENT) ||
            bind(source->fd, (const struct sockaddr *)&source->address, sizeof(source->address)) < 0)
                return -errno;
        return 0;
}

int hotplug_new_socket(struct hotplug **ret_hotplug, struct event_base *loop, const char *path,
                       const struct hotplug_callbacks *callbacks) {
        struct socket_source *source = calloc(1, sizeof(*source));
        int r;

        if (!source)
                return -ENOMEM;
        source->fd = -1;
        source->hotplug = (struct hotplug){.callbacks = *callbacks, .end = source_end};
        r = source_bind(source, path);
        if (r >= 0)
                r = hotplug_listen(&source->hotplug, loop, source->fd, on_readable);
        if (r < 0) {
                hotplug_free(&source->hotplug);
                return r;
        }
        *ret_hotplug = &source->hotplug;
        return 0;
}
