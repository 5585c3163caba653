#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The table of GPUs: what a test commanded, and what happened. It is in lab_gpus.ko, together with the fake devices, so
 * that it outlives the driver. hooks.c in NVIDIA's module calls it, and /proc/holdfast-lab controls it (control.c).
 *
 *      hooks.c (nvidia.ko)  --lab_gpu_...()-->  control.c  <--/proc/holdfast-lab--  tests
 *
 * A PCI slot identifies a GPU. Only functions whose comments say so sleep.
 */

#include <linux/atomic.h>
#include <linux/types.h>

enum {
        LAB_GPUS_MAX = 8,
        LAB_PCI_DOMAIN = 1, /* 0 is the machine's own */
        LAB_PCI_BUS = 0x17,
        LAB_UUID_SIZE = 16,
};

/* The driver's own state of a GPU. hooks.c makes it available to the table from probe to remove. */
struct lab_driver_state {
        const atomic_t *users;
        const u32 *minor;
        int *flags;
        int legacy_flag;   /* bit of *flags: keeps the hardware up after the last close */
        int surprise_flag; /* bit of *flags: the GPU has vanished */
        u8 *external;      /* nonzero: the GPU may vanish while it is in use */
};

void lab_gpu_probed(unsigned int slot, const struct lab_driver_state *state);
void lab_gpu_removed(unsigned int slot);

/* The first part of an initialisation, under the driver's lock. Sleeps. Returns false if it fails. */
bool lab_gpu_initialise(unsigned int slot);

/* The second part, in which the firmware boots. Sleeps, without a limit if a test commanded hang_open. */
void lab_gpu_boot(unsigned int slot);

/* Sleeps, without a limit if a test commanded hang_close. */
void lab_gpu_tear_down(unsigned int slot);

/* Returns the NV_STATUS of the last initialisation. */
u32 lab_gpu_status(unsigned int slot);

void lab_gpu_uuid(unsigned int slot, u8 ret_uuid[LAB_UUID_SIZE]);

/* ---- between the two halves of lab_gpus.ko ---- */

bool lab_gpu_is_present(unsigned int slot);
int lab_control_start(unsigned int count);
void lab_control_stop(void);
