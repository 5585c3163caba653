/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/inherit.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/text.h"
#include "daemon/gpus/kernel_messages.h"
#include "daemon/manager/inherited.h"
#include "daemon/manager/keeper_message.h"
#include "daemon/manager/notify.h"

bool inherit_gpu(const char *name, int fd, void *userdata) {
        struct inherit *inherit = userdata;
        struct gpu_hold hold = GPU_HOLD_NONE;
        struct pci_address address;

        if (keeper_name_parse(name, GPU_KIND_DEVICE, &address))
                hold.device_fd = fd;
        else if (keeper_name_parse(name, GPU_KIND_UVM, &address))
                hold.uvm_fd = fd;
        else
                return false;
        return inherit->adopts && registry_adopt(inherit->registry, &address, &hold) == 0;
}

/* Version 0.1.0 stored GPUs with systemd. They go to the keeper, and systemd drops them. */
static bool take_stored(struct inherit *inherit, const char *name, int fd) {
        struct gpu_keeper *keeper = keeper_link_keeper(inherit->keeper);
        struct pci_address address;
        bool is_device = keeper_name_parse(name, GPU_KIND_DEVICE, &address);

        if (!is_device && !keeper_name_parse(name, GPU_KIND_UVM, &address))
                return false;
        if (!inherit_gpu(name, fd, inherit))
                return false;
        keeper->keep(keeper, &address, is_device ? GPU_KIND_DEVICE : GPU_KIND_UVM, fd);
        (void)notify_unstore(name); /* the loop does not run yet */
        return true;
}

static bool is_listening(int fd) {
        int listening = 0;
        socklen_t size = sizeof(listening);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

static void take(struct inherit *inherit, int fd, const char *name) {
        if (take_stored(inherit, name, fd))
                return;
        if (inherit->listen_fd < 0 && is_listening(fd)) {
                /* A socket from systemd blocks unless the unit has NonBlocking=. An accept() without a client would
                 * then block the loop. */
                (void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
                inherit->listen_fd = fd;
        } else if (text_equal(name, KERNEL_MESSAGES_NAME) && inherit->log_fd < 0 && kernel_messages_is_log(fd)) {
                (void)fcntl(fd, F_SETFL, O_RDONLY | O_NONBLOCK);
                inherit->log_fd = fd;
        } else {
                (void)fd_close(fd);
        }
}

void inherit_passed(struct inherit *inherit) {
        unsigned count = inherited_count();

        for (unsigned i = 0; i < count; i++) {
                char name[64];
                int fd = inherited_take(i, name, sizeof(name));

                take(inherit, fd, name);
        }
        inherited_done();
}

void inherit_done(struct inherit *inherit) {
        inherit->listen_fd = fd_close(inherit->listen_fd);
        inherit->log_fd = fd_close(inherit->log_fd);
}
