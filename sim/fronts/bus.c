/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/bus.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "sim/fronts/descriptors.h"

struct bus_call {
        struct model *model;
        fuse_req_t request;
        struct model_wait wait;
        pid_t thread;
        uid_t uid;
        struct tree_bus_write write;
        size_t size;
};

static void on_interrupt(fuse_req_t request, void *data) {
        struct bus_call *call = data;

        model_interrupt(call->model, &call->wait);
}

static int run_call(struct bus_call *call) {
        struct model_caller caller = {.pid = descriptors_process_of(call->thread), .uid = call->uid};

        if (!call->write.is_rescan)
                return model_bus_write(call->model, call->write.file, &call->write.address, &caller, &call->wait);
        model_bus_rescan(call->model, &caller);
        return 0;
}

static void run(void *argument) {
        CLEANUP(free_ptr) struct bus_call *call = argument;
        int r = run_call(call);

        fuse_req_interrupt_func(call->request, NULL, NULL);
        if (r < 0)
                (void)fuse_reply_err(call->request, -r);
        else
                (void)fuse_reply_write(call->request, call->size);
}

void bus_write(struct workers *workers, struct model *model, fuse_req_t request, const struct tree_bus_write *write,
               size_t size) {
        const struct fuse_ctx *context = fuse_req_ctx(request);
        struct bus_call *call = calloc(1, sizeof(*call));
        int r;

        if (!call) {
                (void)fuse_reply_err(request, ENOMEM);
                return;
        }
        *call = (struct bus_call){
                .model = model,
                .request = request,
                .thread = context->pid,
                .uid = context->uid,
                .write = *write,
                .size = size,
        };
        fuse_req_interrupt_func(request, on_interrupt, call);
        r = workers_run(workers, run, call);
        if (r == 0)
                return;
        fuse_req_interrupt_func(request, NULL, NULL);
        (void)fuse_reply_err(request, -r);
        free(call);
}
