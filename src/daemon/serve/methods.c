/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/methods_private.h"

#include "base/cleanup.h"
#include "rpc/holdfast.h"

enum permission {
        PERMIT_ANYBODY,
        PERMIT_ADMIN,
};

void reply_accepted(struct session *session, uint32_t xid, enum rpc_accept_status status) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, xid, status);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

void reply_status(struct session *session, uint32_t xid, enum nvpd_status status) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, xid, RPC_SUCCESS);
        xdr_write_u32(&writer, status);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

void reply_answer(struct session *session, uint32_t xid, enum registry_answer answer) {
        static const enum nvpd_status statuses[] = {
                [REGISTRY_DONE] = NVPD_SUCCESS,
                [REGISTRY_NO_GPU] = NVPD_DEVICE_NOT_FOUND,
                [REGISTRY_FAILED] = NVPD_DRIVER,
                [REGISTRY_NUMA_FAILED] = NVPD_NUMA_FAILURE,
        };

        reply_status(session, xid, statuses[answer]);
}

static void reply_version_mismatch(struct session *session, uint32_t xid) {
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_version_mismatch(&writer, xid);
        session_reply(session, buffer, xdr_writer_size(&writer));
}

bool call_check_arguments(struct call *call) {
        if (xdr_reader_ok(&call->arguments))
                return true;
        call->methods->rejected++;
        reply_accepted(call->session, call->header.xid, RPC_GARBAGE_ARGS);
        return false;
}

bool call_read_address(uint32_t domain, uint32_t bus, uint32_t slot, struct pci_address *ret_address) {
        *ret_address = (struct pci_address){.domain = domain, .bus = (uint8_t)bus, .slot = (uint8_t)slot};
        return ret_address->bus == bus && ret_address->slot == slot;
}

const struct gpu *call_find_gpu(const struct call *call, uint32_t domain, uint32_t bus, uint32_t slot) {
        struct pci_address address;

        return call_read_address(domain, bus, slot, &address) ? registry_find(call->methods->registry, &address) : NULL;
}

static void method_null(struct call *call) {
        reply_accepted(call->session, call->header.xid, RPC_SUCCESS);
}

static const struct method {
        uint32_t program;
        uint32_t version;
        uint32_t procedure;
        enum permission permission;
        const char *name;
        void (*run)(struct call *call);
} table[] = {
        {NVPD_PROGRAM, NVPD_VERSION_1, 0, PERMIT_ANYBODY, "Null", method_null},
        {NVPD_PROGRAM, NVPD_VERSION_1, NVPD_SET_PERSISTENCE_MODE, PERMIT_ADMIN, "SetPersistenceMode", method_set_mode},
        {NVPD_PROGRAM, NVPD_VERSION_1, NVPD_GET_PERSISTENCE_MODE, PERMIT_ANYBODY, "GetPersistenceMode",
         method_get_mode},
        {NVPD_PROGRAM, NVPD_VERSION_2, 0, PERMIT_ANYBODY, "Null", method_null},
        {NVPD_PROGRAM, NVPD_VERSION_2, NVPD_SET_PERSISTENCE_MODE_ONLY, PERMIT_ADMIN, "SetPersistenceModeOnly",
         method_set_mode_only},
        {NVPD_PROGRAM, NVPD_VERSION_2, NVPD_SET_NUMA_STATUS, PERMIT_ADMIN, "SetNumaStatus", method_set_numa},
        {HF_PROGRAM, HF_VERSION, 0, PERMIT_ANYBODY, "Null", method_null},
        {HF_PROGRAM, HF_VERSION, HF_LIST, PERMIT_ANYBODY, "List", method_list},
        {HF_PROGRAM, HF_VERSION, HF_WATCH, PERMIT_ANYBODY, "Watch", method_watch},
        {HF_PROGRAM, HF_VERSION, HF_STATS, PERMIT_ANYBODY, "Stats", method_stats},
        {HF_PROGRAM, HF_VERSION, HF_RELEASE, PERMIT_ADMIN, "Release", method_release},
        {HF_PROGRAM, HF_VERSION, HF_CONFIGURED, PERMIT_ANYBODY, "Configured", method_configured},
};

static const struct method *find_method(const struct rpc_call *header) {
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].program == header->program && table[i].version == header->version &&
                    table[i].procedure == header->procedure)
                        return &table[i];
        return NULL;
}

/*
 * Answers calls that are not in the table: unknown program, unsupported version (with the supported range), or unknown
 * procedure.
 */
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

static bool is_permitted(struct methods *methods, const struct method *method, const struct peer *peer) {
        enum peer_verdict verdict;

        if (method->permission == PERMIT_ANYBODY)
                return true;
        verdict = peer_is_admin(peer, &methods->policy);
        if (verdict != PEER_ADMIN)
                refusals_log(&methods->refusals, peer, method->name, peer_verdict_text(verdict));
        return verdict == PEER_ADMIN;
}

static void run(struct methods *methods, struct call *call) {
        const struct method *method = find_method(&call->header);

        if (!method) {
                methods->rejected++;
                reject(call->session, &call->header);
        } else if (!is_permitted(methods, method, session_peer(call->session))) {
                methods->refused++;
                reply_status(call->session, call->header.xid, NVPD_PERMISSIONS);
        } else {
                methods->calls++;
                method->run(call);
        }
}

void methods_on_record(struct session *session, const uint8_t *record, size_t length, void *userdata) {
        struct methods *methods = userdata;
        struct call call = {.methods = methods, .session = session};
        int r;

        xdr_reader_init(&call.arguments, record, length);
        r = rpc_call_decode(&call.arguments, &call.header);
        if (r == RPC_CALL_OK) {
                run(methods, &call);
                return;
        }
        methods->rejected++;
        if (r == RPC_CALL_VERSION_MISMATCH)
                reply_version_mismatch(session, call.header.xid);
        else /* not a call, so there is no xid to answer */
                session_ignore(session);
}
