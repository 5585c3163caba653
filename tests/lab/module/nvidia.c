// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/*
 * A stand-in for the driver's kernel module, with the functions that a holder of GPUs uses. It is a real module, so the
 * kernel itself decides whether it is in use. It does not model GPUs, which the simulator does (sim/): it counts opens,
 * and an unbind notifies the subscribers and then waits until no process has the GPU open.
 *
 *      /dev/nvidiactl -- struct holder -- queue of notices; woken through the descriptor of ALLOC_OS_EVENT
 *      /dev/nvidiaN   -- struct holder -- struct gpu -- PCI device, /proc/driver/nvidia/gpus/ADDRESS
 *
 * One mutex protects everything. The build sets the version (STAND_IN_VERSION).
 */

#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "gpu/abi.h"

enum { GPUS_MAX = 8, MINORS = 256, NOTICES_MAX = 16, ARGUMENT_SIZE_MAX = 128 };

struct gpu {
        struct pci_dev *pci; /* NULL: this minor is free */
        struct proc_dir_entry *folder;
        unsigned n_users;
        bool leaving;
};

/* An open file. */
struct holder {
        struct list_head link;
        struct gpu *gpu; /* NULL: nvidiactl */
        bool woken;      /* the next poll() returns an event */
        unsigned n_notices;
        struct nv_system_event notices[NOTICES_MAX];
};

static struct gpu gpus[GPUS_MAX];
static LIST_HEAD(holders);
static DEFINE_MUTEX(lock);
static DECLARE_WAIT_QUEUE_HEAD(changed);
static u32 last_handle;
static struct proc_dir_entry *driver_folder, *gpus_folder;

/* ---- files ---- */

static int use_gpu(struct holder *holder, unsigned minor) {
        struct gpu *gpu;

        if (minor == NV_MINOR_CTL)
                return 0;
        if (minor >= GPUS_MAX || !gpus[minor].pci || gpus[minor].leaving)
                return -ENODEV;
        gpu = &gpus[minor];
        gpu->n_users++;
        holder->gpu = gpu;
        return 0;
}

static int on_open(struct inode *inode, struct file *file) {
        struct holder *holder = kzalloc(sizeof(*holder), GFP_KERNEL);
        int r;

        if (!holder)
                return -ENOMEM;
        mutex_lock(&lock);
        r = use_gpu(holder, iminor(inode));
        if (r == 0)
                list_add(&holder->link, &holders);
        mutex_unlock(&lock);
        if (r < 0)
                kfree(holder);
        else
                file->private_data = holder;
        return r;
}

static int on_release(struct inode *inode, struct file *file) {
        struct holder *holder = file->private_data;

        mutex_lock(&lock);
        list_del(&holder->link);
        if (holder->gpu)
                holder->gpu->n_users--;
        mutex_unlock(&lock);
        wake_up_all(&changed);
        kfree(holder);
        return 0;
}

static __poll_t on_poll(struct file *file, poll_table *table) {
        struct holder *holder = file->private_data;
        bool woken;

        poll_wait(file, &changed, table);
        mutex_lock(&lock);
        woken = holder->woken;
        holder->woken = false;
        mutex_unlock(&lock);
        return woken ? EPOLLIN | EPOLLPRI : 0;
}

/* ---- notices ---- */

/* Sends the notice to every client and wakes every file: clients that did not subscribe ignore it. Needs the mutex. */
static void notify(const struct pci_dev *pci, bool bind) {
        struct nv_system_event notice = {
                .event = NV_NOTIFIER_GPU_BIND_UNBIND,
                .gpu_id = nv_gpu_id(pci_domain_nr(pci->bus), pci->bus->number, PCI_SLOT(pci->devfn)),
                .bind = bind,
        };
        struct holder *holder;

        list_for_each_entry(holder, &holders, link) {
                if (holder->gpu)
                        continue;
                if (holder->n_notices < NOTICES_MAX)
                        holder->notices[holder->n_notices++] = notice;
                holder->woken = true;
        }
        wake_up_all(&changed);
}

static u32 answer(const struct nv_rm_control *control, const void *parameters, size_t size) {
        if (control->params_size != size)
                return NV_ERR_INVALID_PARAM_STRUCT;
        return copy_to_user(u64_to_user_ptr(control->params), parameters, size) ? NV_ERR_INVALID_ARGUMENT : NV_OK;
}

static u32 take_notice(struct holder *holder, const struct nv_rm_control *control) {
        u32 status;

        if (holder->n_notices == 0)
                return NV_ERR_OBJECT_NOT_FOUND;
        status = answer(control, holder->notices, sizeof(holder->notices[0]));
        if (status == NV_OK)
                memmove(holder->notices, holder->notices + 1, --holder->n_notices * sizeof(holder->notices[0]));
        return status;
}

/* ---- ioctls: the argument is copied in, and always copied out ---- */

static void run_status_code(struct holder *holder, void *argument) {
        ((struct nv_status_code *)argument)->status = NV_OK;
}

static void run_wait_open(struct holder *holder, void *argument) {
        *(struct nv_wait_open *)argument = (struct nv_wait_open){0};
}

static void run_os_event(struct holder *holder, void *argument) {
        ((struct nv_os_event *)argument)->status = NV_OK;
}

/* Objects are only handles, and there is one device for all GPUs: no test distinguishes GPUs by it. */
static void run_rm_alloc(struct holder *holder, void *argument) {
        struct nv_rm_alloc *alloc = argument;

        if (!alloc->object)
                alloc->object = ++last_handle;
        alloc->status = NV_OK;
}

static void run_rm_control(struct holder *holder, void *argument) {
        static const struct nv_gpu_id_info first_device = {.numa_node = -1};
        static const struct nv_persistence off = {.state = 1};
        struct nv_rm_control *control = argument;

        switch (control->command) {
        case NV_CONTROL_EVENT_SET_NOTIFICATION:
                control->status = NV_OK;
                break;
        case NV_CONTROL_GET_SYSTEM_EVENT_DATA:
                control->status = take_notice(holder, control);
                break;
        case NV_CONTROL_GPU_GET_ID_INFO_V2:
                control->status = answer(control, &first_device, sizeof(first_device));
                break;
        case NV_CONTROL_QUERY_PERSISTENCE:
                control->status = answer(control, &off, sizeof(off));
                break;
        default:
                control->status = NV_ERR_NOT_SUPPORTED;
        }
}

static const struct {
        unsigned command;
        void (*run)(struct holder *holder, void *argument);
} ioctls[] = {
        {NV_ESC_ALLOC_OS_EVENT, run_os_event}, {NV_ESC_FREE_OS_EVENT, run_os_event},
        {NV_ESC_RM_ALLOC, run_rm_alloc},       {NV_ESC_RM_CONTROL, run_rm_control},
        {NV_ESC_STATUS_CODE, run_status_code}, {NV_ESC_WAIT_OPEN_COMPLETE, run_wait_open},
};

static long run_ioctl(struct holder *holder, unsigned row, void __user *pointer) {
        u64 argument[ARGUMENT_SIZE_MAX / sizeof(u64)];
        size_t size = _IOC_SIZE(ioctls[row].command);

        if (size > sizeof(argument) || copy_from_user(argument, pointer, size))
                return -EFAULT;
        mutex_lock(&lock);
        ioctls[row].run(holder, argument);
        mutex_unlock(&lock);
        return copy_to_user(pointer, argument, size) ? -EFAULT : 0;
}

static long on_ioctl(struct file *file, unsigned int command, unsigned long argument) {
        for (unsigned i = 0; i < ARRAY_SIZE(ioctls); i++)
                if (ioctls[i].command == command)
                        return run_ioctl(file->private_data, i, (void __user *)argument);
        return -EINVAL;
}

static const struct file_operations operations = {
        .owner = THIS_MODULE, /* an open file pins the module: "in use" */
        .open = on_open,
        .release = on_release,
        .poll = on_poll,
        .unlocked_ioctl = on_ioctl,
};

/* ---- /proc/driver/nvidia ---- */

static int show_version(struct seq_file *out, void *unused) {
        seq_puts(out, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  " STAND_IN_VERSION "  stand-in\n");
        return 0;
}

static int show_params(struct seq_file *out, void *unused) {
        seq_puts(out, "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n");
        return 0;
}

static int show_information(struct seq_file *out, void *unused) {
        const struct gpu *gpu = out->private;

        seq_printf(out, "Model: \t\t Stand-in GPU\nBus Location: \t %s\nDevice Minor: \t %u\nGPU Excluded:\t No\n",
                   pci_name(gpu->pci), (unsigned)(gpu - gpus));
        return 0;
}

/* "?" while no process holds the GPU. */
static int show_power(struct seq_file *out, void *unused) {
        const struct gpu *gpu = out->private;

        seq_printf(out, "Runtime D3 status:          %s\n", gpu->n_users > 0 ? "Disabled by default" : "?");
        return 0;
}

/* ---- binding ---- */

static struct gpu *free_gpu(void) {
        for (unsigned minor = 0; minor < GPUS_MAX; minor++)
                if (!gpus[minor].pci)
                        return &gpus[minor];
        return NULL;
}

static int on_probe(struct pci_dev *pci, const struct pci_device_id *id) {
        struct gpu *gpu;

        mutex_lock(&lock);
        gpu = free_gpu();
        if (gpu) {
                *gpu = (struct gpu){.pci = pci, .folder = proc_mkdir(pci_name(pci), gpus_folder)};
                pci_set_drvdata(pci, gpu);
                notify(pci, true);
        }
        mutex_unlock(&lock);
        if (!gpu)
                return -ENOSPC;
        proc_create_single_data("information", 0444, gpu->folder, show_information, gpu);
        proc_create_single_data("power", 0444, gpu->folder, show_power, gpu);
        return 0;
}

static bool is_unused(const struct gpu *gpu) {
        bool unused;

        mutex_lock(&lock);
        unused = gpu->n_users == 0;
        mutex_unlock(&lock);
        return unused;
}

/* Like the driver's, waits without a limit and cannot be interrupted. */
static void on_remove(struct pci_dev *pci) {
        struct gpu *gpu = pci_get_drvdata(pci);

        mutex_lock(&lock);
        gpu->leaving = true;
        notify(pci, false);
        mutex_unlock(&lock);
        wait_event(changed, is_unused(gpu));
        proc_remove(gpu->folder);
        mutex_lock(&lock);
        *gpu = (struct gpu){0};
        mutex_unlock(&lock);
}

static const struct pci_device_id devices[] = {
        {PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_3D << 8, .class_mask = ~0U},
        {},
};
MODULE_DEVICE_TABLE(pci, devices);

static struct pci_driver driver = {
        .name = "nvidia",
        .id_table = devices,
        .probe = on_probe,
        .remove = on_remove,
};

/* ---- load and unload ---- */

static int start(void) {
        int r;

        driver_folder = proc_mkdir("driver/nvidia", NULL);
        if (!driver_folder)
                return -ENOMEM;
        gpus_folder = proc_mkdir("gpus", driver_folder);
        proc_create_single("version", 0444, driver_folder, show_version);
        proc_create_single("params", 0444, driver_folder, show_params);
        r = pci_register_driver(&driver);
        if (r < 0)
                proc_remove(driver_folder);
        return r;
}

static int __init nvidia_init(void) {
        int r = __register_chrdev(NV_MAJOR, 0, MINORS, "nvidia", &operations);

        if (r < 0)
                return r;
        r = start();
        if (r < 0)
                __unregister_chrdev(NV_MAJOR, 0, MINORS, "nvidia");
        return r;
}

static void __exit nvidia_exit(void) {
        pci_unregister_driver(&driver);
        proc_remove(driver_folder);
        __unregister_chrdev(NV_MAJOR, 0, MINORS, "nvidia");
}

module_init(nvidia_init);
module_exit(nvidia_exit);
MODULE_DESCRIPTION("A stand-in for the NVIDIA driver, for tests");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION(STAND_IN_VERSION);
