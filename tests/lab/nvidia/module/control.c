// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

/*
 * /proc/holdfast-lab. A read returns a line of NAME=VALUE pairs for each GPU, in the order of the slots. A write is one
 * command: "SLOT NAME VALUE [STATUS]".
 */

#include "control.h"

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#define FILE_NAME "holdfast-lab"

enum {
        STATUS_OK = 0,
        STATUS_INVALID_STATE = 0x40,
        STATUS_OPERATING_SYSTEM = 0x59,
};

struct gpu {
        /* commanded */
        int lock_msec;
        int init_msec;
        int teardown_msec;
        int fail; /* how many initialisations fail; -1: all */
        int fail_status;
        int hang_open;
        int hang_close;
        int present;
        /* observed */
        int initialising;
        int initialisations;
        int failures;
        int teardowns;
        int status;
        /* the driver's */
        bool bound;
        struct lab_driver_state driver;
};

/* Ints are accessed without the lock. Only the driver's pointers need it, because they become invalid at a remove. */
static struct gpu gpus[LAB_GPUS_MAX];
static unsigned int gpu_count;
static DEFINE_MUTEX(driver_lock);
static DECLARE_WAIT_QUEUE_HEAD(changed);

/* ---- calls from the driver ---- */

void lab_gpu_probed(unsigned int slot, const struct lab_driver_state *state) {
        mutex_lock(&driver_lock);
        gpus[slot].driver = *state;
        gpus[slot].bound = true;
        gpus[slot].status = STATUS_INVALID_STATE;
        mutex_unlock(&driver_lock);
}
EXPORT_SYMBOL_GPL(lab_gpu_probed);

void lab_gpu_removed(unsigned int slot) {
        mutex_lock(&driver_lock);
        gpus[slot].bound = false;
        mutex_unlock(&driver_lock);
}
EXPORT_SYMBOL_GPL(lab_gpu_removed);

bool lab_gpu_initialise(unsigned int slot) {
        struct gpu *gpu = &gpus[slot];

        gpu->initialising = 1;
        gpu->status = STATUS_OPERATING_SYSTEM; /* until the end of the initialisation, as in the real driver */
        msleep(gpu->lock_msec);
        if (gpu->fail == 0)
                return true;
        if (gpu->fail > 0)
                gpu->fail--;
        gpu->status = gpu->fail_status;
        gpu->failures++;
        gpu->initialising = 0;
        return false;
}
EXPORT_SYMBOL_GPL(lab_gpu_initialise);

void lab_gpu_boot(unsigned int slot) {
        struct gpu *gpu = &gpus[slot];

        msleep(gpu->init_msec);
        wait_event(changed, !READ_ONCE(gpu->hang_open));
        gpu->status = STATUS_OK;
        gpu->initialisations++;
        gpu->initialising = 0;
}
EXPORT_SYMBOL_GPL(lab_gpu_boot);

void lab_gpu_tear_down(unsigned int slot) {
        struct gpu *gpu = &gpus[slot];

        wait_event(changed, !READ_ONCE(gpu->hang_close));
        msleep(gpu->teardown_msec);
        gpu->teardowns++;
}
EXPORT_SYMBOL_GPL(lab_gpu_tear_down);

u32 lab_gpu_status(unsigned int slot) {
        return gpus[slot].status;
}
EXPORT_SYMBOL_GPL(lab_gpu_status);

void lab_gpu_uuid(unsigned int slot, u8 ret_uuid[LAB_UUID_SIZE]) {
        static const u8 base[LAB_UUID_SIZE] = "holdfast-lab-gpu";

        memcpy(ret_uuid, base, sizeof(base));
        ret_uuid[LAB_UUID_SIZE - 1] = slot;
}
EXPORT_SYMBOL_GPL(lab_gpu_uuid);

bool lab_gpu_is_present(unsigned int slot) {
        return slot < gpu_count && READ_ONCE(gpus[slot].present);
}

/* ---- the file, read ---- */

static void show_gpu(struct seq_file *file, unsigned int slot) {
        const struct gpu *gpu = &gpus[slot];
        u8 uuid[LAB_UUID_SIZE];

        lab_gpu_uuid(slot, uuid);
        seq_printf(file, "address=%04x:%02x:%02x.0 uuid=%*phN present=%d lock=%d init=%d teardown=%d", LAB_PCI_DOMAIN,
                   LAB_PCI_BUS, slot, LAB_UUID_SIZE, uuid, gpu->present, gpu->lock_msec, gpu->init_msec,
                   gpu->teardown_msec);
        seq_printf(file, " fail=%d fail_status=%d hang_open=%d hang_close=%d", gpu->fail, gpu->fail_status,
                   gpu->hang_open, gpu->hang_close);
        seq_printf(file, " initialising=%d initialisations=%d failures=%d teardowns=%d adapter_status=%d",
                   gpu->initialising, gpu->initialisations, gpu->failures, gpu->teardowns, gpu->status);
        mutex_lock(&driver_lock);
        seq_printf(file, " bound=%d", gpu->bound);
        if (gpu->bound)
                seq_printf(file, " usage_count=%d minor=%u legacy=%d", atomic_read(gpu->driver.users),
                           *gpu->driver.minor, (*gpu->driver.flags & gpu->driver.legacy_flag) != 0);
        mutex_unlock(&driver_lock);
        seq_putc(file, '\n');
}

static int show(struct seq_file *file, void *unused) {
        unsigned int slot;

        for (slot = 0; slot < gpu_count; slot++)
                show_gpu(file, slot);
        return 0;
}

static int on_open(struct inode *inode, struct file *file) {
        return single_open(file, show, NULL);
}

/* ---- the file, written ---- */

static void set_flag(struct gpu *gpu, int flag, bool on) {
        if (on)
                *gpu->driver.flags |= flag;
        else
                *gpu->driver.flags &= ~flag;
}

/* Changes the driver's own state: legacy, surprise. */
static int set_driver_state(struct gpu *gpu, const char *name, int value) {
        int r = 0;

        mutex_lock(&driver_lock);
        if (!gpu->bound) {
                r = -ENODEV;
        } else if (strcmp(name, "legacy") == 0) {
                set_flag(gpu, gpu->driver.legacy_flag, value);
        } else if (strcmp(name, "surprise") == 0) {
                set_flag(gpu, gpu->driver.surprise_flag, value);
                *gpu->driver.external = value != 0;
        } else {
                r = -EINVAL;
        }
        mutex_unlock(&driver_lock);
        return r;
}

static int command(unsigned int slot, const char *name, int value, int status) {
        struct gpu *gpu = &gpus[slot];
        const struct {
                const char *name;
                int *value;
        } settings[] = {
                {"fail", &gpu->fail},
                {"hang_close", &gpu->hang_close},
                {"hang_open", &gpu->hang_open},
                {"init", &gpu->init_msec},
                {"lock", &gpu->lock_msec},
                {"present", &gpu->present},
                {"teardown", &gpu->teardown_msec},
        };
        size_t i;

        for (i = 0; i < ARRAY_SIZE(settings); i++)
                if (strcmp(name, settings[i].name) == 0) {
                        gpu->fail_status = status;
                        WRITE_ONCE(*settings[i].value, value);
                        wake_up_all(&changed);
                        return 0;
                }
        return set_driver_state(gpu, name, value);
}

static ssize_t on_write(struct file *file, const char __user *buffer, size_t size, loff_t *position) {
        char text[64], name[16];
        unsigned int slot;
        int value, status = STATUS_OPERATING_SYSTEM, r;

        if (size >= sizeof(text) || copy_from_user(text, buffer, size))
                return -EINVAL;
        text[size] = '\0';
        if (sscanf(text, "%u %15s %d %i", &slot, name, &value, &status) < 3 || slot >= gpu_count)
                return -EINVAL;
        r = command(slot, name, value, status);
        return r < 0 ? r : (ssize_t)size;
}

static const struct proc_ops operations = {
        .proc_open = on_open,
        .proc_read = seq_read,
        .proc_lseek = seq_lseek,
        .proc_write = on_write,
        .proc_release = single_release,
};

int lab_control_start(unsigned int count) {
        unsigned int slot;

        if (count > LAB_GPUS_MAX)
                return -EINVAL;
        gpu_count = count;
        for (slot = 0; slot < count; slot++)
                gpus[slot] = (struct gpu){
                        .init_msec = 10,
                        .lock_msec = 1,
                        .present = 1,
                        .status = STATUS_INVALID_STATE,
                        .teardown_msec = 10,
                };
        return proc_create(FILE_NAME, 0600, NULL, &operations) ? 0 : -ENOMEM;
}

void lab_control_stop(void) {
        remove_proc_entry(FILE_NAME, NULL);
}
