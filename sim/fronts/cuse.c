/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/cuse.h"

#include <cuse_lowlevel.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "sim/fronts/loop.h"

enum {
        NODE_MODE = 0666, /* NVreg_DeviceFileMode as in procfs.c; the kernel creates nodes with 0600 */
        HANDSHAKE_TIMEOUT_MSEC = 10000,
};

struct cuse_node {
        struct device_front *devices;
        struct device_node device;
        unsigned major; /* 0: the kernel chooses */
        char name[32];
        struct fuse_session *session;
};

struct cuse_front {
        struct front_loop *loop;
        size_t n_nodes;
        struct cuse_node nodes[];
};

/* ---- requests ---- */

static struct device_front *devices_of(fuse_req_t request) {
        const struct cuse_node *node = fuse_req_userdata(request);

        return node->devices;
}

static void on_open(fuse_req_t request, struct fuse_file_info *info) {
        const struct cuse_node *node = fuse_req_userdata(request);

        device_open(node->devices, request, &node->device, info);
}

/* The driver supports neither operation. */
static void on_read(fuse_req_t request, size_t size, off_t offset, struct fuse_file_info *info) {
        (void)fuse_reply_err(request, EINVAL);
}

static void on_write(fuse_req_t request, const char *bytes, size_t size, off_t offset, struct fuse_file_info *info) {
        (void)fuse_reply_err(request, EINVAL);
}

static void on_release(fuse_req_t request, struct fuse_file_info *info) {
        device_release(devices_of(request), request, info);
}

static void on_ioctl(fuse_req_t request, int command, void *argument, struct fuse_file_info *info, unsigned flags,
                     const void *data, size_t in_size, size_t out_size) {
        if (flags & FUSE_IOCTL_COMPAT)
                (void)fuse_reply_err(request, ENOSYS); /* a 32-bit caller; only the 64-bit layouts are implemented */
        else
                device_ioctl(devices_of(request), request, (unsigned)command, (uintptr_t)argument, info, data, in_size,
                             out_size);
}

static void on_poll(fuse_req_t request, struct fuse_file_info *info, struct fuse_pollhandle *poll_handle) {
        device_poll(devices_of(request), request, info, poll_handle);
}

static const struct cuse_lowlevel_ops operations = {
        .open = on_open,
        .read = on_read,
        .write = on_write,
        .release = on_release,
        .ioctl = on_ioctl,
        .poll = on_poll,
};

/* ---- one device ---- */

/* Opens /dev/cuse for the session, which then owns the descriptor. libfuse accepts an open descriptor by this name. */
static int attach_session(struct cuse_node *node) {
        CLEANUP(fd_done) int fd = open("/dev/cuse", O_RDWR | O_CLOEXEC);
        char path[32];

        if (fd < 0)
                return -errno;
        (void)text_format(path, sizeof(path), "/dev/fd/%d", fd);
        if (fuse_session_mount(node->session, path) < 0)
                return -EIO;
        (void)take_fd(&fd);
        return loop_prepare(node->session);
}

static int open_session(struct cuse_node *node) {
        char *arguments[] = {(char *)"holdfast-sim", NULL};
        struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
        char name[sizeof("DEVNAME=") + sizeof(node->name)];
        const char *environment[] = {name};
        struct cuse_info info = {
                .dev_major = node->major,
                .dev_minor = node->major ? node->device.minor : 0,
                .dev_info_argc = ARRAY_SIZE(environment),
                .dev_info_argv = environment,
        };

        (void)text_format(name, sizeof(name), "DEVNAME=%s", node->name);
        node->session = cuse_lowlevel_new(&args, &info, &operations, node);
        fuse_opt_free_args(&args);
        return node->session ? attach_session(node) : -ENOMEM;
}

/* Answers the kernel's first request; the kernel then creates the device. If the numbers are in use, it ends the
 * session. */
static int shake_hands(struct cuse_node *node) {
        struct pollfd wait = {.fd = fuse_session_fd(node->session), .events = POLLIN};
        CLEANUP(free_ptr) void *memory = NULL;
        struct fuse_buf buffer = {0};
        int r;

        if (poll(&wait, 1, HANDSHAKE_TIMEOUT_MSEC) <= 0)
                return -ETIMEDOUT;
        r = fuse_session_receive_buf(node->session, &buffer);
        memory = buffer.mem;
        if (r <= 0)
                return -EIO;
        fuse_session_process_buf(node->session, &buffer);
        return poll(&wait, 1, 0) > 0 && (wait.revents & POLLERR) ? -EBUSY : 0;
}

/* Sets the mode of the driver's nodes, and stores the inode by which descriptors of the node are recognised. */
static int finish_node(struct cuse_node *node) {
        struct stat status;
        char path[64];

        (void)text_format(path, sizeof(path), "/dev/%s", node->name);
        if (stat(path, &status) < 0)
                return -errno;
        if (!S_ISCHR(status.st_mode) || (node->major && status.st_rdev != makedev(node->major, node->device.minor)))
                return -EEXIST;
        if (chmod(path, NODE_MODE) < 0)
                return -errno;
        node->device.inode = status.st_ino;
        device_front_add_node(node->devices, &node->device);
        return 0;
}

static int start_node(struct cuse_node *node) {
        int r = open_session(node);

        if (r == 0)
                r = shake_hands(node);
        return r == 0 ? finish_node(node) : r;
}

/* ---- all of them ---- */

static void name_nodes(struct cuse_front *front, size_t n_gpus) {
        struct cuse_node *node = front->nodes;

        *node = (struct cuse_node){.device = {MODEL_NODE_CTL, NV_MINOR_CTL}, .major = NV_MAJOR, .name = "nvidiactl"};
        *++node = (struct cuse_node){.device = {MODEL_NODE_UVM, 0}, .name = "nvidia-uvm"};
        for (unsigned minor = 0; minor < n_gpus; minor++) {
                *++node = (struct cuse_node){.device = {MODEL_NODE_GPU, minor}, .major = NV_MAJOR};
                (void)text_format(node->name, sizeof(node->name), "nvidia%u", minor);
        }
}

static int start_nodes(struct cuse_front *front, struct device_front *devices) {
        struct fuse_session *sessions[SCENARIO_GPUS_MAX + 2];
        int r;

        for (size_t i = 0; i < front->n_nodes; i++) {
                front->nodes[i].devices = devices;
                r = start_node(&front->nodes[i]);
                if (r < 0)
                        return r;
                sessions[i] = front->nodes[i].session;
        }
        return loop_start(&front->loop, sessions, front->n_nodes);
}

int cuse_front_start(struct cuse_front **ret_front, struct device_front *devices, size_t n_gpus) {
        size_t n_nodes = n_gpus + 2;
        struct cuse_front *front = calloc(1, sizeof(*front) + n_nodes * sizeof(front->nodes[0]));
        int r;

        if (!front)
                return -ENOMEM;
        front->n_nodes = n_nodes;
        name_nodes(front, n_gpus);
        r = start_nodes(front, devices);
        if (r < 0) {
                cuse_front_free(front);
                return r;
        }
        *ret_front = front;
        return 0;
}

void cuse_front_stop(struct cuse_front *front) {
        if (front)
                loop_stop(take_ptr(front->loop));
}

void cuse_front_free(struct cuse_front *front) {
        if (!front)
                return;
        for (size_t i = 0; i < front->n_nodes; i++)
                if (front->nodes[i].session)
                        fuse_session_destroy(front->nodes[i].session);
        free(front);
}
