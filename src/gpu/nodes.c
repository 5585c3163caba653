/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/program.h"
#include "base/text.h"
#include "gpu/abi.h"
#include "gpu/inventory.h"

#define MODPROBE "/usr/bin/nvidia-modprobe"
#define MODPROBE_TIMEOUT_USEC (5 * USEC_PER_SEC)

enum { LIMIT_MSEC = 7000 }; /* for everything, including a slow nvidia-modprobe */

enum { PROC_FILE_SIZE_MAX = 16384 };

static int read_proc(const struct locations *locations, const char *file, char **ret_text) {
        char path[PATH_MAX];
        int r;

        r = locations_path(path, locations, file);
        return r < 0 ? r : file_read_text_at(AT_FDCWD, path, PROC_FILE_SIZE_MAX, ret_text);
}

/* ---- the module's parameters and major numbers ---- */

static void take_parameter(struct node_parameters *parameters, const char *name, uint32_t value) {
        if (text_equal(name, "ModifyDeviceFiles"))
                parameters->ours = value != 0;
        else if (text_equal(name, "DeviceFileUID"))
                parameters->uid = value;
        else if (text_equal(name, "DeviceFileGID"))
                parameters->gid = value;
        else if (text_equal(name, "DeviceFileMode"))
                parameters->mode = value & 0777;
}

/* Each line is "Name: value". We need none of the parameters that are strings or negative. */
int node_parameters_read(const struct locations *locations, struct node_parameters *ret_parameters) {
        struct node_parameters parameters = {.ours = true, .mode = 0666}; /* the module's own defaults */
        CLEANUP(free_ptr) char *text = NULL;
        char *line, *rest = NULL;
        int r;

        r = read_proc(locations, "/proc/driver/nvidia/params", &text);
        if (r < 0)
                return r;
        for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                char *colon = strchr(line, ':');
                uint64_t value;

                if (!colon)
                        continue;
                *colon = '\0';
                if (text_parse_u64(text_trim(colon + 1), 10, UINT32_MAX, &value) == 0)
                        take_parameter(&parameters, text_trim(line), (uint32_t)value);
        }
        *ret_parameters = parameters;
        return 0;
}

/* The number before a character device's name in /proc/devices. Returns 0 or -ENODEV. */
static int find_major(char *devices, const char *name, unsigned *ret_major) {
        char *line, *rest = NULL;

        for (line = strtok_r(devices, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                unsigned major;
                int end = 0;

                if (text_starts_with(line, "Block devices:"))
                        break;
                if (sscanf(line, " %u %n", &major, &end) == 1 && end > 0 && text_equal(text_trim(line + end), name)) {
                        *ret_major = major;
                        return 0;
                }
        }
        return -ENODEV;
}

/* ---- what is missing ---- */

struct work {
        const struct locations *locations;
        const struct node_ops *ops;
        struct node_parameters parameters;
        bool has_modprobe;
        int result; /* the first failure */
};

static bool is_missing(const struct work *work, const struct node *node) {
        char path[PATH_MAX];
        struct stat status;

        if (locations_path(path, work->locations, node->path) < 0)
                return false;
        return lstat(path, &status) < 0 && errno == ENOENT; /* a dangling link is not missing */
}

/* arguments: of nvidia-modprobe, for this node. */
static void make_node(struct work *work, const struct node *node, const char *const arguments[]) {
        int r;

        if (!is_missing(work, node))
                return;
        if (work->has_modprobe) /* after a failure, which may have taken 5 s, do not try it again */
                work->has_modprobe = work->ops->run(arguments) >= 0;
        if (!is_missing(work, node))
                return;
        r = work->ops->make(work->locations, node, &work->parameters);
        if (work->result == 0)
                work->result = r;
}

/* The driver's own nodes: its major is fixed, minor 255 is the control node. */
static void make_driver_node(struct work *work, unsigned minor) {
        struct node node = {.major = NV_MAJOR, .minor = minor};
        char number[16];
        const char *const arguments[] = {MODPROBE, "-c", number, NULL};

        (void)text_format(number, sizeof(number), "%u", minor);
        (void)text_format(node.path, sizeof(node.path), "/dev/nvidia%s", minor == NV_MINOR_CTL ? "ctl" : number);
        make_node(work, &node, arguments);
}

/* UVM is a separate module with a dynamic major. If it is not loaded, no node can be created. */
static void make_uvm_node(struct work *work) {
        static const char *const arguments[] = {MODPROBE, "-u", "-c", "0", NULL};
        struct node node = {.path = "/dev/nvidia-uvm"};
        CLEANUP(free_ptr) char *devices = NULL;

        if (read_proc(work->locations, "/proc/devices", &devices) == 0 &&
            find_major(devices, "nvidia-uvm", &node.major) == 0)
                make_node(work, &node, arguments);
}

static void make_gpu_node(struct work *work, const struct gpu_info *gpu) {
        if (gpu->minor != GPU_MINOR_UNKNOWN)
                make_driver_node(work, (unsigned)gpu->minor);
}

static int make_node_of(struct work *work, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE];
        struct gpu_info gpu;
        int r;

        r = inventory_read_gpu(work->locations, address, &gpu);
        if (r == -ENODEV) /* gone, or not bound to the driver */
                return 0;
        if (r < 0)
                return log_errno(LOG_WARNING, r, "cannot read the minor number of %s: its device node is not created",
                                 pci_address_format(address, text));
        make_gpu_node(work, &gpu);
        return 0;
}

static int make_gpu_nodes(struct work *work) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        size_t n_gpus;
        int r;

        r = inventory_read(work->locations, &gpus, &n_gpus);
        if (r < 0)
                return log_errno(LOG_WARNING, r, "cannot list the driver's GPUs; device nodes may be missing");
        for (size_t i = 0; i < n_gpus; i++)
                make_gpu_node(work, &gpus[i]);
        return 0;
}

static int make_selected(struct work *work, const struct node_selection *selection) {
        int r = 0;

        if (selection->kind != NODES_OF_UVM)
                make_driver_node(work, NV_MINOR_CTL);
        if (selection->kind == NODES_OF_GPU)
                r = make_node_of(work, &selection->gpu);
        else if (selection->kind == NODES_ALL)
                r = make_gpu_nodes(work);
        if (selection->kind != NODES_OF_GPU)
                make_uvm_node(work);
        return r < 0 ? r : work->result;
}

int nodes_make_with(const struct locations *locations, const struct node_selection *selection,
                    const struct node_ops *ops) {
        static const struct node_selection all = {.kind = NODES_ALL};
        struct work work = {.locations = locations, .ops = ops};
        char path[PATH_MAX];
        int r;

        r = node_parameters_read(locations, &work.parameters);
        if (r == -ENOENT) /* no driver: nodes are created after it is loaded, by others or by us */
                return 0;
        if (r < 0)
                return log_errno(LOG_WARNING, r, "cannot read /proc/driver/nvidia/params: no device node is created");
        if (!work.parameters.ours)
                return 0;
        work.has_modprobe = locations_path(path, locations, MODPROBE) == 0 && access(path, X_OK) == 0;
        return make_selected(&work, selection ? selection : &all);
}

/* Waits for the end of the child, but not for ever: it may be stuck in the driver. */
static int wait_for(pid_t child, int end_fd) {
        struct pollfd end = {.fd = end_fd, .events = POLLIN};
        int status = 0;

        if (poll(&end, 1, LIMIT_MSEC) <= 0)
                return log_errno(LOG_WARNING, -ETIMEDOUT,
                                 "the driver reports nothing about its GPUs: no device node is created");
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EIO;
}

/*
 * Runs in a child process: while a GPU hangs in its teardown, the driver answers nothing, and neither the daemon's
 * start nor a unit's ExecStartPre= may hang with it.
 */
int nodes_make(const struct locations *locations, const struct node_selection *selection) {
        CLEANUP(fd_done) int read_end = -1;
        int ends[2];
        pid_t child;

        if (!locations->nodes_are_devices)
                return 0;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return log_errno(LOG_WARNING, -errno, "cannot create a pipe: no device node is created");
        read_end = ends[0];
        child = fork();
        if (child == 0)
                _exit(nodes_make_with(locations, selection, &node_system_ops) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
        (void)fd_close(ends[1]);
        return child < 0 ? log_errno(LOG_WARNING, -errno, "cannot fork: no device node is created")
                         : wait_for(child, read_end);
}

/* ---- the functions of the system ---- */

static int run_modprobe(const char *const arguments[]) {
        char output[256];
        int r = program_run(arguments, MODPROBE_TIMEOUT_USEC, output, sizeof(output));

        if (r < 0)
                (void)log_errno(LOG_WARNING, r, "%s failed, the device node is created without it (its output: %s)",
                                MODPROBE, text_printable(text_trim(output)));
        return r;
}

/*
 * mknod(2) follows no link and replaces nothing. The umask is 0 meanwhile, so that the mode need not be changed later
 * by path.
 */
static int make_special(const char *path, const struct node *node, const struct node_parameters *parameters) {
        mode_t mask = umask(0);
        int r = mknod(path, S_IFCHR | parameters->mode, makedev(node->major, node->minor)) < 0 ? -errno : 0;

        (void)umask(mask);
        if (r < 0)
                return r;
        return lchown(path, parameters->uid, parameters->gid) < 0 ? -errno : 0;
}

static int make_by_mknod(const struct locations *locations, const struct node *node,
                         const struct node_parameters *parameters) {
        char path[PATH_MAX];
        int r;

        r = locations_path(path, locations, node->path);
        if (r >= 0)
                r = make_special(path, node, parameters);
        if (r >= 0)
                log_write(LOG_INFO, "created %s (character device %u:%u)", path, node->major, node->minor);
        if (r >= 0 || r == -EEXIST) /* another program was faster */
                return 0;
        return log_errno(LOG_WARNING, r, "cannot create the device node %s; as root, run: %s", path, MODPROBE);
}

const struct node_ops node_system_ops = {
        .run = run_modprobe,
        .make = make_by_mknod,
};
