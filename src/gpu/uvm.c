/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/uvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "base/text.h"
#include "gpu/abi.h"

int uvm_uuid_parse(const char *uuid, uint8_t ret_bytes[static 16]) {
        unsigned bytes[16];
        int end = 0;

        if (sscanf(uuid, "GPU-%2x%2x%2x%2x-%2x%2x-%2x%2x-%2x%2x-%2x%2x%2x%2x%2x%2x%n", /* RFC 9562 layout */
                   &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5], &bytes[6], &bytes[7], &bytes[8],
                   &bytes[9], &bytes[10], &bytes[11], &bytes[12], &bytes[13], &bytes[14], &bytes[15], &end) != 16 ||
            end != 40 || uuid[end] != '\0')
                return -EINVAL;
        for (size_t i = 0; i < 16; i++)
                ret_bytes[i] = (uint8_t)bytes[i];
        return 0;
}

/* UVM's ioctls return 0 and store the result in the structure; they fail with EAGAIN while UVM is suspended. */
static int uvm_call(int fd, unsigned long command, void *arguments, const uint32_t *status, const char *what,
                    struct gpu_failure *ret_failure) {
        if (ioctl(fd, command, arguments) < 0)
                return gpu_failure_set(ret_failure, -errno, NV_OK, "%s", what);
        if (*status == NV_ERR_NVLINK_FABRIC_NOT_READY) {
                (void)gpu_failure_set(ret_failure, -EAGAIN, *status, "%s", what);
                (void)text_copy(ret_failure->text, sizeof(ret_failure->text),
                                "the NVLink fabric is not ready; is the fabric manager running?");
                return -EAGAIN;
        }
        if (*status != NV_OK)
                return gpu_failure_set(ret_failure, -EIO, *status, "%s", what);
        return 0;
}

int uvm_register(const char *path, const char *uuid, int *ret_fd, struct gpu_failure *ret_failure) {
        struct uvm_initialize initialize = {.flags = UVM_FLAG_MULTI_PROCESS_SHARING};
        struct uvm_register_gpu registration = {.rm_ctrl_fd = -1};
        CLEANUP(fd_done) int fd = -1;
        int r;

        if (uvm_uuid_parse(uuid, registration.uuid) < 0)
                return gpu_failure_set(ret_failure, -EOPNOTSUPP, NV_OK, "the driver does not report this GPU's UUID");
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return gpu_failure_set(ret_failure, -errno, NV_OK, "cannot open %s", path);
        r = uvm_call(fd, UVM_INITIALIZE, &initialize, &initialize.rm_status, "cannot initialise UVM", ret_failure);
        if (r < 0)
                return r;
        r = uvm_call(fd, UVM_REGISTER_GPU, &registration, &registration.rm_status, "cannot register with UVM",
                     ret_failure);
        if (r < 0)
                return r;
        *ret_fd = take_fd(&fd);
        return 0;
}

void uvm_unregister(int fd, const char *uuid) {
        struct uvm_unregister_gpu arguments = {0};

        if (uvm_uuid_parse(uuid, arguments.uuid) == 0)
                (void)ioctl(fd, UVM_UNREGISTER_GPU, &arguments);
}
