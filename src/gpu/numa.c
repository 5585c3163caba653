/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "gpu/memory_blocks.h"

bool numa_is_present(const struct locations *locations, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE], file[64], path[PATH_MAX];

        (void)text_format(file, sizeof(file), "/proc/driver/nvidia/gpus/%s/numa_status",
                          pci_address_format(address, text));
        return locations_path(path, locations, file) == 0 && access(path, F_OK) == 0;
}

static int send_block_size(const struct locations *locations, uint64_t bytes) {
        struct nv_sys_params parameters = {.memblock_size = bytes};
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX];
        int r;

        r = locations_path(path, locations, "/dev/nvidiactl");
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return ioctl(fd, NV_ESC_SYS_PARAMS, &parameters) < 0 ? -errno : 0;
}

void numa_prepare(const struct locations *locations, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE];
        uint64_t bytes;
        int r;

        if (!numa_is_present(locations, address))
                return;
        r = memory_block_size(locations, &bytes);
        if (r >= 0)
                r = send_block_size(locations, bytes);
        if (r < 0) /* the next open then fails with EINVAL */
                (void)log_errno(LOG_WARNING, r, "device %s - cannot tell the driver the memory block size",
                                pci_address_format(address, text));
}

/* ---- on- and offlining, if user space must do it ---- */

/* Drivers before 535.43.02 have no use_auto_online, and accept only a structure without it. */
static int read_info_before_535(int device_fd, struct nv_numa_info *ret_info) {
        struct nv_numa_info_before_535 old = {.n_offline_addresses = NV_NUMA_OFFLINE_MAX};

        if (ioctl(device_fd, NV_ESC_NUMA_INFO_BEFORE_535, &old) < 0)
                return -errno;
        *ret_info = (struct nv_numa_info){
                .nid = old.nid,
                .status = old.status,
                .memblock_size = old.memblock_size,
                .memory_address = old.memory_address,
                .memory_size = old.memory_size,
                .n_offline_addresses = old.n_offline_addresses,
        };
        memcpy(ret_info->offline_addresses, old.offline_addresses, sizeof(ret_info->offline_addresses));
        return 0;
}

static int read_info(int device_fd, struct nv_numa_info *ret_info) {
        struct nv_numa_info info = {.n_offline_addresses = NV_NUMA_OFFLINE_MAX};

        if (ioctl(device_fd, NV_ESC_NUMA_INFO, &info) < 0)
                return errno == EINVAL ? read_info_before_535(device_fd, ret_info) : -errno;
        *ret_info = info;
        return 0;
}

/* A change of one GPU's memory. */
struct transition {
        const struct locations *locations;
        int device_fd;
        struct nv_numa_info info;
        struct memory_range range;
        struct gpu_failure *failure; /* receives the reason */
};

static int tell_driver(const struct transition *transition, int32_t status) {
        return ioctl(transition->device_fd, NV_ESC_SET_NUMA_STATUS, &status) < 0 ? -errno : 0;
}

/* Announces the change to the driver, before anything else is changed. */
static int begin(const struct transition *transition, int32_t status) {
        int r;

        if (geteuid() != 0) /* only root can write to sysfs */
                return gpu_failure_explain(transition->failure, -EPERM, NV_OK,
                                           "on this machine user space must do this: run the daemon with --user root",
                                           "cannot on- or offline GPU memory as uid %u", (unsigned)geteuid());
        r = tell_driver(transition, status);
        if (r == -EACCES)
                return gpu_failure_explain(transition->failure, -EPERM, NV_OK,
                                           "on this machine user space must do this, with CAP_SYS_ADMIN",
                                           "cannot change the status of GPU memory");
        if (r == -EBUSY)
                return gpu_failure_explain(transition->failure, r, NV_OK,
                                           "others have the GPU open: end them (holdfast clients)",
                                           "the driver does not let GPU memory go offline");
        if (r < 0)
                return gpu_failure_explain(transition->failure, r, NV_OK, NULL,
                                           "cannot change the status of GPU memory");
        return 0;
}

/* Reports the failure to the driver. If the driver refuses, this is only logged: the caller already has its error. */
static int end_failed(const struct transition *transition, int32_t status, int error) {
        int r = tell_driver(transition, status);

        if (r < 0)
                (void)log_errno(LOG_WARNING, r,
                                "cannot report to the driver that the state of GPU memory did not change");
        return error;
}

/* Takes pages out of use that the GPU has marked as bad. */
static int retire_pages(const struct transition *transition) {
        const struct memory_range *range = &transition->range;

        for (uint32_t i = 0; i < transition->info.n_offline_addresses; i++) {
                uint64_t address = transition->info.offline_addresses[i];
                int r = -ERANGE; /* a page outside this GPU's memory: never retire it */

                if (address - range->address < range->size_bytes)
                        r = memory_page_retire(transition->locations, address);
                if (r < 0)
                        return gpu_failure_explain(transition->failure, r, NV_OK, "the kernel log may say why",
                                                   "cannot retire the bad page at 0x%" PRIx64, address);
        }
        return 0;
}

static int finish_online(const struct transition *transition) {
        int r = retire_pages(transition);

        if (r < 0)
                return r;
        r = tell_driver(transition, NV_NUMA_ONLINE);
        if (r < 0)
                return gpu_failure_explain(transition->failure, r, NV_OK, "the kernel log may say why",
                                           "the driver refuses to bring its memory online");
        return 0;
}

static int go_online(const struct transition *transition) {
        struct gpu_failure ignored; /* the first failure is reported */
        int r;

        r = begin(transition, NV_NUMA_ONLINE_IN_PROGRESS);
        if (r < 0)
                return r;
        r = memory_blocks_online(transition->locations, &transition->range, transition->failure);
        if (r < 0)
                return end_failed(transition, NV_NUMA_ONLINE_FAILED, r);
        r = finish_online(transition);
        if (r < 0) {
                (void)memory_blocks_offline(transition->locations, &transition->range, &ignored);
                return end_failed(transition, NV_NUMA_ONLINE_FAILED, r);
        }
        return 0;
}

static int go_offline(const struct transition *transition) {
        int r;

        r = begin(transition, NV_NUMA_OFFLINE_IN_PROGRESS);
        if (r < 0)
                return r;
        r = memory_blocks_offline(transition->locations, &transition->range, transition->failure);
        if (r < 0)
                return end_failed(transition, NV_NUMA_OFFLINE_FAILED, r);
        r = tell_driver(transition, NV_NUMA_OFFLINE);
        if (r < 0)
                return gpu_failure_explain(transition->failure, r, NV_OK, NULL,
                                           "the driver refuses to take its memory offline");
        return 0;
}

/* Checks the driver's values, since they are used as addresses. */
static int check_info(const struct transition *transition) {
        const struct nv_numa_info *info = &transition->info;

        if (info->memory_size == 0 || info->n_offline_addresses > NV_NUMA_OFFLINE_MAX)
                return gpu_failure_explain(transition->failure, -EBADMSG, NV_OK, NULL,
                                           "the driver's NUMA information is invalid");
        if (info->status == NV_NUMA_ONLINE_IN_PROGRESS || info->status == NV_NUMA_OFFLINE_IN_PROGRESS)
                return gpu_failure_explain(
                        transition->failure, -EALREADY, NV_OK,
                        "if no program is, write online_failed or offline_failed to the GPU's numa_status in /proc",
                        "another program is on- or offlining the GPU's memory");
        return 0;
}

static bool is_ours(const struct nv_numa_info *info) {
        return info->status != NV_NUMA_DISABLED && !info->use_auto_online;
}

static int set_held(const struct locations *locations, int device_fd, const struct nv_numa_info *info, bool online,
                    struct gpu_failure *ret_failure) {
        struct transition transition = {
                .locations = locations,
                .device_fd = device_fd,
                .info = *info,
                .range = {.address = info->memory_address, .size_bytes = info->memory_size},
                .failure = ret_failure,
        };
        int r;

        if (!is_ours(info) || info->status == (online ? NV_NUMA_ONLINE : NV_NUMA_OFFLINE))
                return 0;
        r = check_info(&transition);
        if (r < 0)
                return r;
        return online ? go_online(&transition) : go_offline(&transition);
}

int numa_set(const struct locations *locations, const struct pci_address *address, int device_fd, bool online,
             struct gpu_failure *ret_failure) {
        struct nv_numa_info info;
        int r;

        if (!numa_is_present(locations, address))
                return 0;
        if (device_fd < 0 && !online) /* numa_release() or the kernel brought it offline before the close */
                return 0;
        if (device_fd < 0)
                return gpu_failure_explain(ret_failure, -ENODEV, NV_OK, "switch its persistence mode on first",
                                           "cannot online the memory of a GPU that is not held");
        r = read_info(device_fd, &info);
        if (r < 0)
                return gpu_failure_explain(ret_failure, r, NV_OK, NULL, "cannot read the GPU's NUMA information");
        return set_held(locations, device_fd, &info, online, ret_failure);
}

int numa_release(const struct locations *locations, const struct pci_address *address, int device_fd,
                 struct gpu_failure *ret_failure) {
        struct nv_numa_info info;

        if (device_fd < 0 || !numa_is_present(locations, address))
                return 0;
        if (read_info(device_fd, &info) < 0) /* the GPU is lost or split by MIG; let the close decide */
                return 0;
        return set_held(locations, device_fd, &info, false, ret_failure);
}
