/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/methods_private.h"

#include <stdlib.h>

#include "base/cleanup.h"

static const struct gpu *find_device(const struct call *call, const struct nvpd_device *device) {
        return call_find_gpu(call, (uint32_t)device->domain, (uint32_t)device->bus, (uint32_t)device->slot);
}

void method_get_mode(struct call *call) {
        struct nvpd_get_result result = {.status = NVPD_DEVICE_NOT_FOUND};
        struct nvpd_device device;
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;
        const struct gpu *gpu;

        nvpd_device_decode(&call->arguments, &device);
        if (!call_check_arguments(call))
                return;
        gpu = find_device(call, &device);
        if (gpu) {
                result.status = NVPD_SUCCESS;
                result.mode = gpu->state == GPU_HELD ? NVPD_MODE_ENABLED : NVPD_MODE_DISABLED;
        }
        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, call->header.xid, RPC_SUCCESS);
        nvpd_get_result_encode(&writer, &result);
        session_reply(call->session, buffer, xdr_writer_size(&writer));
}

/* A Set in progress. Its client may be gone before the GPU's job is done. */
struct pending_set {
        struct registry_request request;
        struct session_resource resource;
        struct session *session; /* NULL: the client is gone */
        uint32_t xid;
};

static void on_set_gone(struct session_resource *resource) {
        container_of(resource, struct pending_set, resource)->session = NULL;
}

static void on_set_answered(struct registry_request *request, enum registry_answer answer) {
        CLEANUP(free_ptr) struct pending_set *pending = container_of(request, struct pending_set, request);

        if (!pending->session)
                return;
        session_detach(&pending->resource);
        reply_answer(pending->session, pending->xid, answer);
}

static void begin_set(struct call *call, const struct pci_address *address, enum registry_request_kind kind,
                      bool enable) {
        struct pending_set *pending = calloc(1, sizeof(*pending));

        if (!pending) {
                reply_status(call->session, call->header.xid, NVPD_INSUFFICIENT_RESOURCES);
                return;
        }
        *pending = (struct pending_set){
                .request = {.kind = kind, .enable = enable, .answered = on_set_answered},
                .resource = {.gone = on_set_gone, .keeps = true},
                .session = call->session,
                .xid = call->header.xid,
        };
        session_attach(call->session, &pending->resource);
        registry_request(call->methods->registry, address, &pending->request);
}

static void method_set(struct call *call, enum registry_request_kind kind) {
        struct nvpd_set_args args;
        struct pci_address address;

        nvpd_set_args_decode(&call->arguments, &args);
        if (!call_check_arguments(call))
                return;
        if (!call_read_address((uint32_t)args.device.domain, (uint32_t)args.device.bus, (uint32_t)args.device.slot,
                               &address))
                reply_status(call->session, call->header.xid, NVPD_DEVICE_NOT_FOUND);
        else if (args.value != 0 && args.value != 1) /* 0: disabled, or offline; 1: enabled, or online */
                reply_status(call->session, call->header.xid,
                             find_device(call, &args.device) ? NVPD_INVALID_ARGUMENT : NVPD_DEVICE_NOT_FOUND);
        else
                begin_set(call, &address, kind, args.value == 1);
}

void method_set_mode(struct call *call) {
        method_set(call, REGISTRY_SET_MODE);
}

void method_set_mode_only(struct call *call) {
        method_set(call, REGISTRY_SET_MODE_ONLY);
}

void method_set_numa(struct call *call) {
        method_set(call, REGISTRY_SET_NUMA);
}
