/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The kernel backend: a descriptor of /dev/nvidiaN is the hold of a GPU. open() of the node initialises the GPU; the
 * last close() tears it down (kernel-open/nvidia/nv.c).
 *
 *      open(O_NONBLOCK) -- passes the initialisation to the driver's own thread for that GPU (550.40.07 and later)
 *      WAIT_OPEN_COMPLETE -- sleeps until that is done, and returns its result
 *
 * Older drivers ignore O_NONBLOCK and initialise the GPU within open(), so the result of open() is final.
 * WAIT_OPEN_COMPLETE is not used with them, because they log a line about an unknown ioctl.
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
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "gpu/numa.h"
#include "gpu/rm.h"
#include "gpu/uvm.h"

struct kernel {
        const struct locations *locations;
        struct gpu_keeper *keeper;
};

static int kernel_start(const struct gpu_backend_config *config, void **ret_context) {
        struct kernel *kernel = calloc(1, sizeof(*kernel));

        if (!kernel)
                return log_errno(LOG_ERR, -ENOMEM, "cannot start the kernel backend");
        kernel->locations = config->locations;
        kernel->keeper = config->keeper;
        *ret_context = kernel;
        return 0;
}

static void kernel_stop(void *context) {
        free(context);
}

static int kernel_list(void *context, struct gpu_info **ret_gpus, size_t *ret_n) {
        struct kernel *kernel = context;
        int r = inventory_read(kernel->locations, ret_gpus, ret_n);

        if (r == -ENOENT) { /* no driver yet: no GPUs */
                *ret_gpus = NULL;
                *ret_n = 0;
                return 0;
        }
        return r;
}

static int kernel_is_bound(void *context, const struct pci_address *address) {
        struct kernel *kernel = context;

        return inventory_is_bound(kernel->locations, address);
}

static void keep(const struct kernel *kernel, const struct pci_address *address, const char *kind, int fd) {
        if (kernel->keeper)
                kernel->keeper->keep(kernel->keeper, address, kind, fd);
}

/* Makes the keeper drop its copy, so that our close is the last one and runs the teardown. */
static int forget(const struct kernel *kernel, const struct pci_address *address, const char *kind, int fd) {
        return fd >= 0 && kernel->keeper ? kernel->keeper->forget(kernel->keeper, address, kind) : 0;
}

/* Closes a descriptor that is useless, even if the keeper does not drop its copy. Returns -1. */
static int end_fd(const struct kernel *kernel, const struct pci_address *address, const char *kind, int fd) {
        (void)forget(kernel, address, kind, fd);
        return fd_close(fd);
}

static int node_path(const struct kernel *kernel, int minor, char path[static PATH_MAX]) {
        char node[32];

        (void)text_format(node, sizeof(node), "/dev/nvidia%d", minor);
        return locations_path(path, kernel->locations, node);
}

/* Checks that the descriptor is the driver's device with that minor, since other programs create nodes, too. */
static int check_node(const struct kernel *kernel, int fd, int minor, const char *path) {
        struct stat status, node;

        if (fstat(fd, &status) < 0)
                return -errno;
        if (kernel->locations->nodes_are_devices)
                return S_ISCHR(status.st_mode) && status.st_rdev == makedev(NV_MAJOR, (unsigned)minor) ? 0 : -ENOTTY;
        /* A simulated driver's nodes are not devices: the descriptor must be the same file. */
        if (stat(path, &node) < 0)
                return -errno;
        return status.st_dev == node.st_dev && status.st_ino == node.st_ino ? 0 : -ENOTTY;
}

/* The NV_STATUS of the GPU's last initialisation; NV_OK if it cannot be read. */
static uint32_t adapter_status(const struct kernel *kernel, const struct pci_address *address) {
        struct nv_status_code query = {.domain = address->domain, .bus = address->bus, .slot = address->slot};
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX];

        if (locations_path(path, kernel->locations, "/dev/nvidiactl") < 0)
                return NV_OK;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, NV_ESC_STATUS_CODE, &query) < 0)
                return NV_OK;
        return query.status;
}

/* Sleeps until the driver has finished an open that it deferred. Returns the open's result. */
static int wait_open(const struct kernel *kernel, int fd, uint32_t *ret_nv_status) {
        struct nv_wait_open wait = {0};

        if (inventory_driver_is_before(kernel->locations, 550, 40, 7))
                return 0;
        while (ioctl(fd, NV_ESC_WAIT_OPEN_COMPLETE, &wait) < 0) {
                if (errno == EINVAL || errno == ENOTTY) /* also a driver before 550.40.07 */
                        return 0;
                if (errno != EINTR)
                        return -errno;
        }
        *ret_nv_status = wait.adapter_status;
        return wait.rc;
}

/* Checks that the descriptor belongs to the GPU, and waits until its open is complete. */
static int finish_open(const struct kernel *kernel, const struct gpu_info *info, int fd, const char *path,
                       struct gpu_failure *ret_failure) {
        uint32_t nv_status = NV_OK;
        int r;

        r = check_node(kernel, fd, info->minor, path);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "%s is not character device %d:%d", path, NV_MAJOR,
                                       info->minor);
        r = wait_open(kernel, fd, &nv_status);
        return r < 0 ? gpu_failure_set(ret_failure, r, nv_status, "cannot open %s", path) : 0;
}

static int open_node(const struct kernel *kernel, const struct gpu_info *info, int *ret_fd,
                     struct gpu_failure *ret_failure) {
        char path[PATH_MAX];
        int fd, r;

        r = node_path(kernel, info->minor, path);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot open /dev/nvidia%d", info->minor);
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return gpu_failure_set(ret_failure, -errno, NV_OK, "cannot open %s", path);
        keep(kernel, &info->address, GPU_KIND_DEVICE, fd);
        r = finish_open(kernel, info, fd, path, ret_failure);
        if (r < 0)
                fd = end_fd(kernel, &info->address, GPU_KIND_DEVICE, fd);
        *ret_fd = fd;
        return r;
}

static int read_info(const struct kernel *kernel, const struct pci_address *address, struct gpu_info *ret_info,
                     struct gpu_failure *ret_failure) {
        int r = inventory_read_gpu(kernel->locations, address, ret_info);

        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot read the GPU's minor number");
        if (ret_info->minor == GPU_MINOR_UNKNOWN)
                return gpu_failure_set(ret_failure, -ENODEV, NV_OK, "the driver reports no minor number");
        return 0;
}

/*
 * Checks the minor again. It was read before the open and may have passed to another GPU since. Now that the node is
 * open, the driver does not give its minor to another GPU.
 */
static int check_minor(const struct kernel *kernel, const struct pci_address *address, struct gpu_hold *hold,
                       struct gpu_failure *ret_failure) {
        struct gpu_info info;
        int r = read_info(kernel, address, &info, ret_failure);

        if (r < 0)
                return r;
        if (info.minor != hold->minor)
                return gpu_failure_set(ret_failure, -ENODEV, NV_OK,
                                       "the GPU's minor number changed to %d while /dev/nvidia%d was being opened",
                                       info.minor, hold->minor);
        (void)text_copy(hold->uuid, sizeof(hold->uuid), info.uuid);
        return 0;
}

static int kernel_open(void *context, const struct pci_address *address, struct gpu_hold *ret_hold,
                       struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        struct gpu_hold hold = GPU_HOLD_NONE;
        struct gpu_info info;
        int r;

        r = read_info(kernel, address, &info, ret_failure);
        if (r < 0)
                return r;
        numa_prepare(kernel->locations, address);
        r = open_node(kernel, &info, &hold.device_fd, ret_failure);
        if (r < 0)
                return r;
        hold.minor = info.minor;
        r = check_minor(kernel, address, &hold, ret_failure);
        if (r < 0) {
                (void)end_fd(kernel, address, GPU_KIND_DEVICE, hold.device_fd);
                return r;
        }
        *ret_hold = hold;
        return 0;
}

/* If the keeper hangs with its copy, our close would not release the GPU. So this fails, and the GPU stays held. */
static int forget_or_fail(const struct kernel *kernel, const struct pci_address *address, const char *kind, int fd,
                          struct gpu_failure *ret_failure) {
        int r = forget(kernel, address, kind, fd);

        if (r < 0) /* it stays open, so the keeper must keep it */
                keep(kernel, address, kind, fd);
        return r < 0 ? gpu_failure_explain(ret_failure, r, NV_OK,
                                           "try again; if it fails again, end the process nvidia-persistenced --keeper "
                                           "(systemctl restart holdfast-keeper.service): another one is started",
                                           "the keeper did not drop its copy of the GPU")
                     : 0;
}

/* Cannot fail: close() frees the descriptor even if it returns an error. */
static void end_device(const struct kernel *kernel, const struct pci_address *address, struct gpu_hold *hold) {
        hold->device_fd = end_fd(kernel, address, GPU_KIND_DEVICE, hold->device_fd);
        *hold = GPU_HOLD_NONE;
}

/*
 * Call this before end_device() and numa_release(): the registration counts as a user of the GPU, and the GPU's memory
 * can go offline only while hold->device_fd is its last user.
 */
static void end_uvm(const struct kernel *kernel, const struct pci_address *address, struct gpu_hold *hold) {
        hold->uvm_fd = end_fd(kernel, address, GPU_KIND_UVM, hold->uvm_fd);
        hold->uvm = false;
}

static int kernel_close(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                        struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        int r;

        r = forget_or_fail(kernel, &info->address, GPU_KIND_UVM, hold->uvm_fd, ret_failure);
        if (r < 0)
                return r;
        r = forget_or_fail(kernel, &info->address, GPU_KIND_DEVICE, hold->device_fd, ret_failure);
        if (r < 0) {
                if (hold->uvm_fd >= 0)
                        keep(kernel, &info->address, GPU_KIND_UVM, hold->uvm_fd);
                return r;
        }
        if (hold->uvm)
                uvm_unregister(hold->uvm_fd, info->uuid);
        end_uvm(kernel, &info->address, hold);
        r = numa_release(kernel->locations, &info->address, hold->device_fd, ret_failure);
        if (r < 0) { /* the system still uses the GPU's memory, so it stays held */
                keep(kernel, &info->address, GPU_KIND_DEVICE, hold->device_fd);
                ret_failure->numa = true;
                return r;
        }
        end_device(kernel, &info->address, hold);
        return 0;
}

/*
 * Checks that the driver is not unbinding an adopted GPU. If an unbind began while no daemon ran, its notice is lost,
 * and it waits for this descriptor for ever. From 595.44.02 on, the driver refuses another open of such a GPU. The open
 * is cheap, because the GPU is initialised. In older drivers an open would not show it, and may wait for the
 * initialisation of another GPU.
 */
static int check_bound(const struct kernel *kernel, const char *path, struct gpu_failure *ret_failure) {
        CLEANUP(fd_done) int fd = -1;

        if (inventory_driver_is_before(kernel->locations, 595, 44, 2))
                return 0;
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        return fd < 0 && errno == ENODEV
                       ? gpu_failure_set(ret_failure, -ENODEV, NV_OK, "the driver is unbinding %s", path)
                       : 0;
}

/*
 * Takes the minor from the descriptor. The driver is not asked, because it answers nothing while any GPU hangs in its
 * teardown, and the other GPUs must be held anyway. If the address now belongs to another GPU, the next scan shows
 * another minor. Simulated nodes have no minor, so it is read from the GPU's file.
 */
static int find_minor(const struct kernel *kernel, const struct pci_address *address, int fd, struct gpu_info *ret_info,
                      struct gpu_failure *ret_failure) {
        struct stat status;

        if (!kernel->locations->nodes_are_devices)
                return read_info(kernel, address, ret_info, ret_failure);
        if (fstat(fd, &status) < 0 || !S_ISCHR(status.st_mode) || major(status.st_rdev) != NV_MAJOR)
                return gpu_failure_set(ret_failure, -ENOTTY, NV_OK, "the kept descriptor is not one of a GPU");
        *ret_info = (struct gpu_info){.address = *address, .minor = (int)minor(status.st_rdev)};
        return 0;
}

static int adopt_node(const struct kernel *kernel, const struct pci_address *address, struct gpu_hold *hold,
                      struct gpu_failure *ret_failure) {
        struct gpu_info info;
        char path[PATH_MAX];
        int r;

        if (hold->device_fd < 0)
                return gpu_failure_set(ret_failure, -EBADF, NV_OK, "no descriptor of the GPU was kept");
        r = find_minor(kernel, address, hold->device_fd, &info, ret_failure);
        if (r < 0)
                return r;
        r = node_path(kernel, info.minor, path);
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot find /dev/nvidia%d", info.minor);
        hold->minor = info.minor;
        (void)text_copy(hold->uuid, sizeof(hold->uuid), info.uuid);
        r = finish_open(kernel, &info, hold->device_fd, path, ret_failure);
        return r < 0 ? r : check_bound(kernel, path, ret_failure);
}

/* Compares device numbers, since a container's /dev is another file system; simulated nodes may be ordinary files. */
static bool is_uvm(const struct kernel *kernel, int fd) {
        struct stat kept, node;
        char path[PATH_MAX];

        if (locations_path(path, kernel->locations, "/dev/nvidia-uvm") < 0 || stat(path, &node) < 0 ||
            fstat(fd, &kept) < 0)
                return false;
        if (S_ISCHR(node.st_mode) || S_ISCHR(kept.st_mode))
                return S_ISCHR(node.st_mode) && S_ISCHR(kept.st_mode) && node.st_rdev == kept.st_rdev;
        return node.st_dev == kept.st_dev && node.st_ino == kept.st_ino;
}

/*
 * Checks that the descriptor is one of /dev/nvidia-uvm. Does not check that the GPU is registered with it: the keeper
 * gets the descriptor only after the registration. If another file was kept under that name, closes it; UVM persistence
 * is then enabled again.
 */
static void adopt_uvm(struct kernel *kernel, const struct pci_address *address, struct gpu_hold *hold) {
        char text[PCI_ADDRESS_SIZE];

        hold->uvm = hold->uvm_fd >= 0 && is_uvm(kernel, hold->uvm_fd);
        if (hold->uvm || hold->uvm_fd < 0)
                return;
        log_write(LOG_WARNING, "device %s - the descriptor kept as its UVM registration is not one of /dev/nvidia-uvm",
                  pci_address_format(address, text));
        end_uvm(kernel, address, hold);
}

static int kernel_adopt(void *context, const struct pci_address *address, struct gpu_hold *hold,
                        struct gpu_failure *ret_failure) {
        int r;

        r = adopt_node(context, address, hold, ret_failure);
        if (r < 0) {
                end_uvm(context, address, hold);
                end_device(context, address, hold);
                return r;
        }
        adopt_uvm(context, address, hold);
        return 0;
}

static int kernel_uvm_disable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                              struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        int r = forget_or_fail(kernel, &info->address, GPU_KIND_UVM, hold->uvm_fd, ret_failure);

        if (r < 0)
                return r;
        uvm_unregister(hold->uvm_fd, info->uuid);
        end_uvm(kernel, &info->address, hold);
        return 0;
}

static int kernel_uvm_enable(void *context, const struct gpu_info *info, struct gpu_hold *hold,
                             struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        char path[PATH_MAX];
        int r;

        r = locations_path(path, kernel->locations, "/dev/nvidia-uvm");
        if (r < 0)
                return gpu_failure_set(ret_failure, r, NV_OK, "cannot open /dev/nvidia-uvm");
        r = uvm_register(path, info->uuid, &hold->uvm_fd, ret_failure);
        if (r < 0)
                return r;
        keep(kernel, &info->address, GPU_KIND_UVM, hold->uvm_fd);
        hold->uvm = true;
        return 0;
}

static int kernel_query(void *context, const struct gpu_info *info, enum gpu_legacy *ret_legacy,
                        struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;
        bool enabled;
        int r;

        r = rm_query_legacy(kernel->locations, &info->address, &enabled, ret_failure);
        if (r >= 0)
                *ret_legacy = enabled ? GPU_LEGACY_ON : GPU_LEGACY_OFF;
        return r;
}

static void explain_drain(const struct pci_address *address, struct gpu_failure *failure) {
        char text[PCI_ADDRESS_SIZE], cure[96];

        (void)text_format(cure, sizeof(cure), "end the drain with: nvidia-smi drain -p %s -m 0",
                          pci_address_format(address, text));
        (void)gpu_failure_explain(failure, -EBUSY, NV_OK, cure, "the GPU is drained and takes no new users");
}

/* The open of a drained GPU that is not initialised fails with EIO, like that of a broken one. */
static void kernel_explain(void *context, const struct gpu_info *info, struct gpu_failure *failure) {
        struct gpu_failure unused;
        struct kernel *kernel = context;
        bool drained = false;
        char path[PATH_MAX];
        uint32_t nv_status;

        if (rm_query_drain(kernel->locations, &info->address, &drained, &unused) == 0 && drained) {
                explain_drain(&info->address, failure);
                return;
        }
        if (failure->error != -EIO || failure->nv_status != NV_OK || node_path(kernel, info->minor, path) < 0)
                return;
        nv_status = adapter_status(kernel, &info->address);
        if (nv_status != NV_OK)
                (void)gpu_failure_set(failure, failure->error, nv_status, "cannot open %s", path);
}

static int kernel_numa_set(void *context, const struct pci_address *address, struct gpu_hold *hold, bool online,
                           struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;

        return numa_set(kernel->locations, address, hold->device_fd, online, ret_failure);
}

static int kernel_subscribe(void *context, struct rm_events **ret_events, struct gpu_failure *ret_failure) {
        struct kernel *kernel = context;

        return rm_events_open(ret_events, kernel->locations, ret_failure);
}

const struct gpu_ops gpu_kernel_ops = {
        .name = "kernel",
        .start = kernel_start,
        .stop = kernel_stop,
        .list = kernel_list,
        .is_bound = kernel_is_bound,
        .open = kernel_open,
        .adopt = kernel_adopt,
        .close = kernel_close,
        .uvm_enable = kernel_uvm_enable,
        .uvm_disable = kernel_uvm_disable,
        .query = kernel_query,
        .explain = kernel_explain,
        .numa_set = kernel_numa_set,
        .subscribe = kernel_subscribe,
        .events_fd = rm_events_fd,
        .read_events = rm_events_read,
        .unsubscribe = rm_events_free,
};
