/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"

bool numa_is_present(const char *root, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE], file[64], path[PATH_MAX];

        (void)text_format(file, sizeof(file), "/proc/driver/nvidia/gpus/%s/numa_status",
                          pci_address_format(address, text));
        return file_rooted(path, root, file) == 0 && access(path, F_OK) == 0;
}

static int read_block_size(const char *root, uint64_t *ret_bytes) {
        char path[PATH_MAX], text[64];
        ssize_t length;
        int r;

        r = file_rooted(path, root, "/sys/devices/system/memory/block_size_bytes");
        if (r < 0)
                return r;
        length = file_read(path, text, sizeof(text));
        if (length < 0)
                return (int)length;
        return text_parse_u64(text_trim(text), 16, UINT64_MAX, ret_bytes);
}

static int send_block_size(const char *root, uint64_t bytes) {
        struct nv_sys_params parameters = {.memblock_size = bytes};
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX];
        int r;

        r = file_rooted(path, root, "/dev/nvidiactl");
        if (r < 0)
                return r;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return ioctl(fd, NV_ESC_SYS_PARAMS, &parameters) < 0 ? -errno : 0;
}

void numa_prepare(const char *root, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE];
        uint64_t bytes;
        int r;

        if (!numa_is_present(root, address))
                return;
        r = read_block_size(root, &bytes);
        if (r >= 0)
                r = send_block_size(root, bytes);
        if (r < 0) /* the open that follows fails with EINVAL and says so */
                (void)log_errno(LOG_WARNING, r, "device %s - cannot tell the driver the memory block size",
                                pci_address_format(address, text));
}

int numa_set(const char *root, const struct pci_address *address, int device_fd, bool online,
             struct gpu_failure *ret_failure) {
        struct nv_numa_info info = {.n_offline_addresses = NV_NUMA_OFFLINE_MAX};

        if (!numa_is_present(root, address))
                return 0;
        if (device_fd < 0) /* released: the driver has taken the memory offline with the GPU, or leaves it as it is */
                return online ? gpu_failure_set(ret_failure, -EBADF, NV_OK, "the GPU is not held") : 0;
        if (ioctl(device_fd, NV_ESC_NUMA_INFO, &info) < 0)
                return gpu_failure_set(ret_failure, -errno, NV_OK, "cannot read the GPU's NUMA information");
        if (info.status == NV_NUMA_DISABLED || info.use_auto_online)
                return 0;
        if (info.status == (online ? NV_NUMA_ONLINE : NV_NUMA_OFFLINE))
                return 0;
        return gpu_failure_set(ret_failure, -EOPNOTSUPP, NV_OK,
                               "this driver leaves onlining of GPU memory to user space");
}
