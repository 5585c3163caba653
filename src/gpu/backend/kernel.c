/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel backend: one descriptor of /dev/nvidiaN per GPU is the whole hold. open() of the node runs the GPU's
 * initialisation, the last close tears it down (kernel-open/nvidia/nv.c).
 *
 *      open(O_NONBLOCK) -- hands the initialisation to the driver's own thread for that GPU (550.40.07 and later)
 *      WAIT_OPEN_COMPLETE -- sleeps until it is done and tells how it went
 *
 * Older drivers ignore O_NONBLOCK, initialise within open() and answer the ioctl with EINVAL: then the open has
 * succeeded.
 */

#include "gpu/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "gpu/numa.h"
#include "gpu/uvm.h"

struct kernel {
        char root[PATH_MAX];
};

static int kernel_start(const struct gpu_backend_config *config, void **ret_context) {
        struct kernel *kernel = calloc(1, sizeof(*kernel));

        if (!kernel)
                return log_errno(LOG_ERR, -ENOMEM, "cannot start the kernel backend");
        (void)text_copy(kernel->root, sizeof(kernel->root), config->root);
        *ret_context = kernel;
        return 0;
}

static void kernel_stop(void *context) {
        free(context);
}

static int kernel_list(void *context, struct gpu_info **ret_gpus, size_t *ret_n) {
        struct kernel *kernel = context;
        int r = inventory_read(kernel->root, ret_gpus, ret_n);

        if (r == -ENOENT) { /* no driver yet: no GPUs */
                *ret_gpus = NULL;
                *ret_n = 0;
                return 0;
        }
        return r;
}

/* Minors are re-used and nodes are made by others: what was opened must be the driver's device of that minor. */
static int check_node(const struct kernel *kernel, int fd, int minor) {
        struct stat status;

        if (fstat(fd, &status) < 0)
                return -errno;
        if (kernel->root[0] != '\0') /* a simulated driver's files are no devices */
                return 0;
        if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(NV_MAJOR, (unsigned)minor))
                return -ENOTTY;
        return 0;
}

/* NV_STATUS of the GPU's last initialisation, for the message about an open that failed; NV_OK when it cannot be had.
 */
static uint32_t adapter_status(const struct kernel *kernel, const struct pci_address *address) {
        struct nv_status_code query = {.domain = address->domain, .bus = address->bus, .slot = address->slot};
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX];

        if (file_rooted(path, kernel->root, "/dev/nvidiactl") < 0)
                return NV_OK;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, NV_ESC_STATUS_CODE, &query) < 0)
                return NV_OK;
        return query.status;
}

/* Sleeps until the driver has finished an open that it deferred. Returns the open's result. */
static int wait_open(int fd, uint32_t *ret_nv_status) {
        struct nv_wait_open wait = {0};

        while (ioctl(fd, NV_ESC_WAIT_OPEN_COMPLETE, &wait) < 0) {
                if (errno == EINVAL || errno == ENOTTY) /* a driver before 550.40.07: open() itself has waited */
                        return 0;
                if (errno != EINTR)
                        return -errno;
        }
        *ret_nv_status = wait.adapter_status;
        return wait.rc;
}

static int open_node(const struct kernel *kernel, const struct gpu_info *info, int *ret_fd,
                     struct gpu_failure *ret_failure) {
        CLEANUP(fd_done) int fd = -1;
        uint32_t nv_status = NV_OK;
        char node[32], path[PATH_MAX];
        int r;

        (void)text_format(node, sizeof(node), "/dev/nvidia%d", info->minor);
        r = file_rooted(path, kernel->root, node);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot open %s", node);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
                r = -errno;
                nv_status = r == -EIO ? adapter_status(kernel, &info->address) : NV_OK;
                return gpu_failure_set(ret_failure, r, nv_status, "cannot open %s", path);
        }
        r = check_node(kernel, fd, info->minor);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "%s is not character device %d:%d", path, NV_MAJOR,
                                       info->minor);
        r = wait_open(fd, &nv_status);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, nv_status, "cannot open %s", path);
        *ret_fd = take_fd(&fd);
        return 0;
}

static int kernel_open(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                       struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        struct gpu_hold hold = GPU_HOLD_NONE;
        struct gpu_info info;
        int r;

        r = inventory_read_gpu(kernel->root, address, &info);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot read the GPU's minor number");
        if (info.minor == GPU_MINOR_UNKNOWN)
                return gpu_failure_set(ret_failure, -ENODEV, NV_OK, "the driver tells no minor number");
        numa_prepare(kernel->root, address);
        r = open_node(kernel, &info, &hold.device_fd, ret_failure);
        if (r < 0)
                return r;
        *ret_hold = hold;
        return 0;
}

static int kernel_uvm_disable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                              struct gpu_failure *ret_failure) {
        hold->uvm_fd = uvm_unregister(hold->uvm_fd, info->uuid);
        hold->uvm = false;
        return 0;
}

static int kernel_close(void *context, struct gpu_hold *hold, struct gpu_failure *ret_failure) {
        hold->uvm_fd = fd_close(hold->uvm_fd);
        /* close() gives the descriptor up even when it reports an error: there is nothing left to fail. */
        hold->device_fd = fd_close(hold->device_fd);
        *hold = GPU_HOLD_NONE;
        return 0;
}

static int kernel_uvm_enable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                             struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        char path[PATH_MAX];
        int r;

        r = file_rooted(path, kernel->root, "/dev/nvidia-uvm");
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot open /dev/nvidia-uvm");
        r = uvm_register(path, info->uuid, &hold->uvm_fd, ret_failure);
        if (r < 0)
                return r;
        hold->uvm = true;
        return 0;
}

static int kernel_numa_set(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                           struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;

        return numa_set(kernel->root, address, hold->device_fd, online, ret_failure);
}

const struct gpu_ops gpu_kernel_ops = {
        .name = "kernel",
        .start = kernel_start,
        .stop = kernel_stop,
        .list = kernel_list,
        .open = kernel_open,
        .close = kernel_close,
        .uvm_enable = kernel_uvm_enable,
        .uvm_disable = kernel_uvm_disable,
        .numa_set = kernel_numa_set,
};
