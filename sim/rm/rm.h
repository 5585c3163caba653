#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The resource manager as far as programs meet it that hold GPUs or look at them: root clients, device and subdevice
 * objects, OS events, and a table of controls (control.c). Anything else is refused and counted.
 *
 *      client (root) --- device object --- subdevice object  -> a GPU, by device instance
 *             |  \------ event object   -> an OS event: (client, descriptor number) -> the file that poll() wakes
 *             queue of notices, fetched one by one with GET_SYSTEM_EVENT_DATA
 *
 * A client belongs to the file that made it, and goes with it. A device instance is the GPU's minor number here; the
 * driver promises no such thing, so clients ask GPU_GET_ID_INFO_V2.
 */

#include <stdbool.h>

#include "gpu/abi.h"
#include "sim/model/model.h"

struct rm;

/* RM's part of an open file of /dev/nvidiactl or /dev/nvidiaN; embedded in the front's. */
struct rm_file {
        struct rm *rm;
        /* The front's: poll() on the file would say more now. Called with RM locked: it must not call back. */
        void (*wake)(struct rm_file *file);
        bool event_pending;
};

int rm_new(struct rm **ret_rm, struct model *model);
/* When no file is left and the model is stopped. */
void rm_free(struct rm *rm);

void rm_file_init(struct rm_file *file, struct rm *rm, void (*wake)(struct rm_file *file));
void rm_file_done(struct rm_file *file);

/* Whether an event came since the last call: POLLIN. Asking forgets it, as nvidia_poll() does (nv.c). */
bool rm_file_poll(struct rm_file *file);

/* The calls; each leaves its outcome in the argument's status. They may sleep. */
/* Whether an object of that class may be made on a GPU's file; all others are made on nvidiactl (escape.c). */
bool rm_allows_alloc_on_gpu(uint32_t class);
void rm_alloc(struct rm_file *file, const struct model_caller *caller, struct nv_rm_alloc *alloc);
void rm_control(struct rm_file *file, const struct model_caller *caller, struct nv_rm_control *control);
void rm_free_object(struct rm_file *file, struct nv_rm_free *free_object);
void rm_alloc_os_event(struct rm_file *file, struct nv_os_event *event);
void rm_free_os_event(struct rm_file *file, struct nv_os_event *event);
