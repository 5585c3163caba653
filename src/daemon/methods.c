/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/methods.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/ratelimit.h"

enum { REPLY_MAX = 128 }; /* every reply but that of List */

enum permission {
        PERMIT_ANYBODY,
        PERMIT_ADMIN,
};

/* One call, while its method decodes and answers it. */
struct call {
        struct methods *methods;
        struct session *session;
        struct rpc_call header;
        struct xdr_reader arguments;
};

struct method {
        uint32_t program;
        uint32_t version;
        uint32_t procedure;
        enum permission permission;
        const char *name;
        void (*run)(struct call *call);
};

/* ---- replies
 * ----------------------------------------------------------------------------------------------------------- */

static void reply_accepted(struct session *session, uint32_t xid, enum rpc_accept_status status) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, xid, status);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

static void reply_status(struct session *session, uint32_t xid, enum nvpd_status status) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, xid, RPC_SUCCESS);
        xdr_write_u32(&writer, status);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

/* ---- NULL, of every program and version
 * ---------------------------------------------------------------------------------- */

static void run_null(struct call *call) {
        reply_accepted(call->session, call->header.xid, RPC_SUCCESS);
}

/* ---- program 35006
 * ------------------------------------------------------------------------------------------------------- */

static void run_get_mode(struct call *call) {
        struct nvpd_get_result result = {.status = NVPD_DEVICE_NOT_FOUND};
        struct nvpd_device device;
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;
        const struct gpu *gpu;

        nvpd_device_decode(&call->arguments, &device);
        if (!xdr_reader_ok(&call->arguments)) {
                reply_accepted(call->session, call->header.xid, RPC_GARBAGE_ARGS);
                return;
        }
        gpu = registry_find(call->methods->registry, &device);
        if (gpu) {
                result.status = NVPD_SUCCESS;
                result.mode = gpu->state == GPU_HELD ? NVPD_MODE_ENABLED : NVPD_MODE_DISABLED;
        }
        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, call->header.xid, RPC_SUCCESS);
        nvpd_get_result_encode(&writer, &result);
        session_reply(call->session, buffer, xdr_writer_size(&writer));
}

/* A Set on its way: the client may be gone when the GPU is done. */
struct pending_set {
        struct registry_request request;
        struct session_call call;
        struct session *session; /* NULL: gone */
        uint32_t xid;
};

static void on_set_gone(struct session_call *call) {
        container_of(call, struct pending_set, call)->session = NULL;
}

static void on_set_answered(struct registry_request *request, enum nvpd_status status) {
        CLEANUP(free_ptr) struct pending_set *pending = container_of(request, struct pending_set, request);

        if (pending->session)
                reply_status(pending->session, pending->xid, status);
}

static void run_set(struct call *call, enum registry_request_kind kind) {
        struct methods *methods = call->methods;
        struct pending_set *pending;
        struct nvpd_set_args args;
        const struct gpu *gpu;

        nvpd_set_args_decode(&call->arguments, &args);
        if (!xdr_reader_ok(&call->arguments)) {
                reply_accepted(call->session, call->header.xid, RPC_GARBAGE_ARGS);
                return;
        }
        gpu = registry_find(methods->registry, &args.device);
        if (!gpu) {
                reply_status(call->session, call->header.xid, NVPD_DEVICE_NOT_FOUND);
                return;
        }
        if (args.value != 0 && args.value != 1) { /* disabled and enabled, offline and online */
                reply_status(call->session, call->header.xid, NVPD_INVALID_ARGUMENT);
                return;
        }
        pending = calloc(1, sizeof(*pending));
        if (!pending) {
                reply_status(call->session, call->header.xid, NVPD_INSUFFICIENT_RESOURCES);
                return;
        }
        *pending = (struct pending_set){
                .request = {.kind = kind, .enable = args.value == 1, .answered = on_set_answered},
                .call = {.gone = on_set_gone},
                .session = call->session,
                .xid = call->header.xid,
        };
        session_set_call(call->session, &pending->call);
        registry_request(methods->registry, gpu, &pending->request);
}

static void run_set_mode(struct call *call) {
        run_set(call, REGISTRY_SET_MODE);
}

static void run_set_mode_only(struct call *call) {
        run_set(call, REGISTRY_SET_MODE_ONLY);
}

static void run_set_numa(struct call *call) {
        run_set(call, REGISTRY_SET_NUMA);
}

/* ---- Holdfast's own program
 * ---------------------------------------------------------------------------------------------- */

static uint32_t state_on_wire(enum gpu_state state) {
        static const uint32_t states[] = {
                [GPU_RELEASED] = HF_GPU_RELEASED, [GPU_OPENING] = HF_GPU_OPENING, [GPU_HELD] = HF_GPU_HELD,
                [GPU_CLOSING] = HF_GPU_CLOSING,   [GPU_FAILED] = HF_GPU_FAILED,
        };

        return states[state];
}

static uint32_t uvm_on_wire(const struct gpu *gpu) {
        if (gpu->hold.uvm)
                return HF_UVM_ON;
        return gpu->uvm_wanted && gpu->wanted ? HF_UVM_WAITING : HF_UVM_OFF;
}

static void encode_gpu(struct xdr_writer *writer, const struct gpu *gpu) {
        struct hf_gpu entry = {
                .address = {gpu->info.address.domain, gpu->info.address.bus, gpu->info.address.slot,
                            gpu->info.address.function},
                .minor = gpu->info.minor,
                .state = state_on_wire(gpu->state),
                .wanted = gpu->wanted,
                .since_realtime_usec = gpu->since_realtime_usec,
                .open_duration_usec = gpu->open_duration_usec,
                .opens = gpu->opens,
                .failures = gpu->failures,
                .stuck = gpu->stuck,
                .error_number = -gpu->failure.error,
                .error_nv_status = gpu->failure.nv_status,
                .uvm = uvm_on_wire(gpu),
                .legacy_flag = HF_UNKNOWN,
        };

        (void)text_copy(entry.uuid, sizeof(entry.uuid), gpu->info.uuid);
        (void)text_copy(entry.model, sizeof(entry.model), gpu->info.model);
        (void)text_copy(entry.error_text, sizeof(entry.error_text), gpu->failure.text);
        (void)text_copy(entry.uvm_text, sizeof(entry.uvm_text), gpu->uvm_failure.text);
        hf_gpu_encode(writer, &entry);
}

static void encode_list(struct xdr_writer *writer, const struct methods *methods, uint32_t n_gpus) {
        struct hf_list_head head = {
                .version = HOLDFAST_VERSION,
                .pid = (uint32_t)getpid(),
                .started_realtime_usec = methods->started_realtime_usec,
                .ready = registry_is_ready(methods->registry),
                .serial = registry_serial(methods->registry),
                .n_gpus = n_gpus,
        };

        (void)text_copy(head.backend, sizeof(head.backend), methods->backend);
        hf_list_head_encode(writer, &head);
        for (uint32_t i = 0; i < n_gpus; i++)
                encode_gpu(writer, registry_gpu(methods->registry, i));
}

static void run_list(struct call *call) {
        size_t n_gpus = registry_count(call->methods->registry).gpus;
        CLEANUP(free_ptr) uint8_t *buffer = NULL;
        struct xdr_writer writer;
        size_t size;

        if (n_gpus > HF_GPUS_MAX)
                n_gpus = HF_GPUS_MAX;
        size = REPLY_MAX + HF_LIST_HEAD_ENCODED_MAX + n_gpus * HF_GPU_ENCODED_MAX;
        buffer = malloc(size);
        if (!buffer) {
                reply_accepted(call->session, call->header.xid, RPC_SYSTEM_ERR);
                return;
        }
        xdr_writer_init(&writer, buffer, size);
        rpc_encode_accepted(&writer, call->header.xid, RPC_SUCCESS);
        encode_list(&writer, call->methods, (uint32_t)n_gpus);
        assert(xdr_writer_ok(&writer)); /* the bounds in rpc/holdfast.h are ours */
        session_reply(call->session, buffer, xdr_writer_size(&writer));
}

/* ---- the table
 * ----------------------------------------------------------------------------------------------------------- */

static const struct method table[] = {
        {NVPD_PROGRAM, NVPD_VERSION_1, 0, PERMIT_ANYBODY, "Null", run_null},
        {NVPD_PROGRAM, NVPD_VERSION_1, NVPD_SET_PERSISTENCE_MODE, PERMIT_ADMIN, "SetPersistenceMode", run_set_mode},
        {NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE, PERMIT_ANYBODY, "GetPersistenceMode", run_get_mode},
        {NVPD_PROGRAM, NVPD_VERSION_2, 0, PERMIT_ANYBODY, "Null", run_null},
        {NVPD_PROGRAM, NVPD_VERSION_2, NVPD_SET_PERSISTENCE_MODE_ONLY, PERMIT_ADMIN, "SetPersistenceModeOnly",
         run_set_mode_only},
        {NVPD_PROGRAM, NVPD_VERSION_2, NVPD_SET_NUMA_STATUS, PERMIT_ADMIN, "SetNumaStatus", run_set_numa},
        {HF_PROGRAM, HF_VERSION, 0, PERMIT_ANYBODY, "Null", run_null},
        {HF_PROGRAM, HF_VERSION, HF_LIST, PERMIT_ANYBODY, "List", run_list},
};

/* Rejects what the table does not have: another program, another version (with the range served), another procedure. */
static void reject(struct session *session, const struct rpc_call *header) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;
        uint32_t low = UINT32_MAX, high = 0;
        bool version_served = false;

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                if (table[i].program != header->program)
                        continue;
                low = table[i].version < low ? table[i].version : low;
                high = table[i].version > high ? table[i].version : high;
                version_served |= table[i].version == header->version;
        }
        xdr_writer_init(&writer, buffer, sizeof(buffer));
        if (high == 0)
                rpc_encode_accepted(&writer, header->xid, RPC_PROG_UNAVAIL);
        else if (!version_served)
                rpc_encode_program_mismatch(&writer, header->xid, low, high);
        else
                rpc_encode_accepted(&writer, header->xid, RPC_PROC_UNAVAIL);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

static const struct method *find_method(const struct rpc_call *header) {
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].program == header->program && table[i].version == header->version &&
                    table[i].procedure == header->procedure)
                        return &table[i];
        return NULL;
}

static bool is_permitted(const struct method *method, const struct peer *peer) {
        static struct ratelimit limit = RATELIMIT(10, 60);

        if (method->permission == PERMIT_ANYBODY || peer_is_admin(peer))
                return true;
        if (ratelimit_pass(&limit))
                log_write(LOG_WARNING, "refused %s from uid %u, pid %d: only root may change persistence", method->name,
                          (unsigned)peer->uid, (int)peer->pid);
        return false;
}

static void reply_version_mismatch(struct session *session, uint32_t xid) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_version_mismatch(&writer, xid);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

void methods_on_record(struct session *session, const uint8_t *record, size_t length, void *userdata) {
        struct call call = {.methods = userdata, .session = session};
        const struct method *method;
        int r;

        xdr_reader_init(&call.arguments, record, length);
        r = rpc_call_decode(&call.arguments, &call.header);
        if (r < 0) { /* no call: nothing to answer to */
                session_ignore(session);
                return;
        }
        if (r == RPC_CALL_VERSION_MISMATCH) {
                reply_version_mismatch(session, call.header.xid);
                return;
        }
        method = find_method(&call.header);
        if (!method)
                reject(session, &call.header);
        else if (!is_permitted(method, session_peer(session)))
                reply_status(session, call.header.xid, NVPD_PERMISSIONS);
        else
                method->run(&call);
}
