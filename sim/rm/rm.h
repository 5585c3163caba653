#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The parts of the resource manager that programs use to hold or examine GPUs: root clients, device and subdevice
 * objects, OS events, and a table of controls (control.c). Everything else is refused and counted.
 *
 *      client (root) --- device object --- subdevice object  -> a GPU, by device instance
 *             |  \------ event object   -> an OS event: (client, descriptor number) -> the file that poll() wakes
 *             queue of notices, fetched one by one with GET_SYSTEM_EVENT_DATA
 *
 * A client belongs to the file that created it, and is freed with it. Here, a device instance is the GPU's minor
 * number; the driver does not guarantee this, so clients use GPU_GET_ID_INFO_V2.
 */

#include <stdbool.h>

#include "gpu/abi.h"
#include "sim/model/model.h"

struct rm;

/* RM's part of an open file of /dev/nvidiactl or /dev/nvidiaN. It is embedded in the front's struct. */
struct rm_file {
        struct rm *rm;
        /* Set by the front: wakes poll() on the file. Called with RM locked, so it must not call RM. */
        void (*wake)(struct rm_file *file);
        bool event_pending;
};

int rm_new(struct rm **ret_rm, struct model *model);
/* Call this when all files are closed and the model is stopped. */
void rm_free(struct rm *rm);

void rm_file_init(struct rm_file *file, struct rm *rm, void (*wake)(struct rm_file *file));
void rm_file_done(struct rm_file *file);

/* Whether an event came since the last call (POLLIN). The call clears it, as nvidia_poll() does (nv.c). */
bool rm_file_poll(struct rm_file *file);

/* The calls. Each writes its result to the argument's status. They may sleep. */
/* Whether an object of that class may be created on a GPU's file. All others are created on nvidiactl (escape.c). */
bool rm_allows_alloc_on_gpu(uint32_t class);
void rm_alloc(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc);
void rm_control(struct rm_file *file, const struct model_caller *caller, struct nv_rm_control *control);
void rm_free_object(struct rm_file *file, struct nv_rm_free *free_object);
void rm_alloc_os_event(struct rm_file *file, struct nv_os_event *event);
void rm_free_os_event(struct rm_file *file, struct nv_os_event *event);
