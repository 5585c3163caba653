/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/methods_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "rpc/holdfast.h"

enum { HEARTBEAT_SEC = 60 };

/* ---- List ---- */

static uint32_t state_on_wire(enum gpu_state state) {
        static const uint32_t states[] = {
                /* clang-format off */
                [GPU_RELEASED] = HF_GPU_RELEASED,
                [GPU_OPENING] = HF_GPU_OPENING,
                [GPU_HELD] = HF_GPU_HELD,
                [GPU_CLOSING] = HF_GPU_CLOSING,
                [GPU_FAILED] = HF_GPU_FAILED,
                /* clang-format on */
        };

        return states[state];
}

static uint32_t uvm_on_wire(const struct gpu *gpu) {
        if (gpu->hold.uvm)
                return HF_UVM_ON;
        return gpu->uvm_wanted && gpu->wanted ? HF_UVM_WAITING : HF_UVM_OFF;
}

static uint32_t legacy_on_wire(enum gpu_legacy legacy) {
        static const uint32_t flags[] = {
                [GPU_LEGACY_UNKNOWN] = HF_UNKNOWN,
                [GPU_LEGACY_OFF] = HF_NO,
                [GPU_LEGACY_ON] = HF_YES,
        };

        return flags[legacy];
}

static struct hf_address address_on_wire(const struct pci_address *address) {
        return (struct hf_address){address->domain, address->bus, address->slot, address->function};
}

static void encode_gpu(struct xdr_writer *writer, const struct gpu *gpu) {
        struct hf_gpu entry = {
                .address = address_on_wire(&gpu->info.address),
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
                .legacy_flag = legacy_on_wire(gpu->legacy),
                .leased = registry_gpu_is_leased(gpu),
        };

        (void)text_copy(entry.uuid, sizeof(entry.uuid), gpu->info.uuid);
        (void)text_copy(entry.model, sizeof(entry.model), gpu->info.model);
        (void)text_copy(entry.error_text, sizeof(entry.error_text), gpu->failure.text);
        (void)text_copy(entry.uvm_text, sizeof(entry.uvm_text), gpu->uvm_failure.text);
        hf_gpu_encode(writer, &entry);
}

static void encode_list(struct xdr_writer *writer, const struct methods *methods, uint64_t serial, uint32_t n_gpus) {
        struct hf_list_head head = {
                .version = HOLDFAST_VERSION,
                .pid = (uint32_t)getpid(),
                .started_realtime_usec = methods->started_realtime_usec,
                .ready = registry_is_ready(methods->registry),
                .serial = serial,
                .n_gpus = n_gpus,
        };

        (void)text_copy(head.backend, sizeof(head.backend), methods->backend);
        hf_list_head_encode(writer, &head);
        for (uint32_t i = 0; i < n_gpus; i++)
                encode_gpu(writer, registry_gpu(methods->registry, i));
}

/* The current reply to List; the caller frees it. NULL: out of memory. */
static uint8_t *make_list(const struct methods *methods, uint32_t xid, uint64_t serial, size_t *ret_size) {
        size_t n_gpus = registry_count(methods->registry).gpus, size;
        struct xdr_writer writer;
        uint8_t *reply;

        if (n_gpus > HF_GPUS_MAX)
                n_gpus = HF_GPUS_MAX;
        size = REPLY_MAX + HF_LIST_HEAD_ENCODED_MAX + n_gpus * HF_GPU_ENCODED_MAX;
        reply = malloc(size);
        if (!reply)
                return NULL;
        xdr_writer_init(&writer, reply, size);
        rpc_encode_accepted(&writer, xid, RPC_SUCCESS);
        encode_list(&writer, methods, serial, (uint32_t)n_gpus);
        assert(xdr_writer_ok(&writer)); /* guaranteed by the bounds in rpc/holdfast.h */
        *ret_size = xdr_writer_size(&writer);
        return reply;
}

static void reply_list(struct methods *methods, struct session *session, uint32_t xid) {
        size_t size = 0;
        CLEANUP(free_ptr) uint8_t *reply = make_list(methods, xid, methods->serial, &size);

        if (reply)
                session_reply(session, reply, size);
        else
                reply_accepted(session, xid, RPC_SYSTEM_ERR);
}

/*
 * The serial grows only if the encoded list differs from the last one: the registry changes more often than the list,
 * and only news should wake those who watch. If memory is short, this change and the next one count as news.
 */
static void count_news(struct methods *methods) {
        size_t size = 0;
        CLEANUP(free_ptr) uint8_t *list = make_list(methods, 0, 0, &size);

        if (list && methods->list && size == methods->list_size && memcmp(list, methods->list, size) == 0)
                return;
        methods->serial++;
        free(methods->list);
        methods->list = take_ptr(list);
        methods->list_size = size;
}

void method_list(struct call *call) {
        struct methods *methods = call->methods;

        reply_list(methods, call->session, call->header.xid);
        registry_refresh(methods->registry);
}

/* ---- Configured ---- */

void method_configured(struct call *call) {
        const struct registry *registry = call->methods->registry;
        size_t n_gpus = registry_count(registry).gpus;
        CLEANUP(free_ptr) uint8_t *reply = NULL;
        struct xdr_writer writer;
        size_t size;

        if (n_gpus > HF_GPUS_MAX)
                n_gpus = HF_GPUS_MAX;
        size = REPLY_MAX + 4 + n_gpus * HF_GPU_CONFIGURED_ENCODED_MAX;
        reply = malloc(size);
        if (!reply) {
                reply_accepted(call->session, call->header.xid, RPC_SYSTEM_ERR);
                return;
        }
        xdr_writer_init(&writer, reply, size);
        rpc_encode_accepted(&writer, call->header.xid, RPC_SUCCESS);
        xdr_write_u32(&writer, (uint32_t)n_gpus);
        for (size_t i = 0; i < n_gpus; i++) {
                const struct gpu *gpu = registry_gpu(registry, i);
                const struct registry_policy policy = registry_gpu_policy(gpu);
                const struct hf_gpu_configured configured = {
                        .address = address_on_wire(&gpu->info.address),
                        .persistence = policy.persistence,
                        .uvm_persistence = policy.uvm,
                };

                hf_gpu_configured_encode(&writer, &configured);
        }
        session_reply(call->session, reply, xdr_writer_size(&writer));
}

/* ---- Watch ---- */

struct watcher {
        struct session_resource resource;
        struct methods *methods;
        struct session *session;
        uint32_t xid;
        uint64_t serial; /* of the list that the client has */
        LIST_ENTRY(watcher) link;
};

static void watcher_remove(struct watcher *watcher) {
        LIST_REMOVE(watcher, link);
        free(watcher);
}

static void on_watcher_gone(struct session_resource *resource) {
        watcher_remove(container_of(resource, struct watcher, resource));
}

static void watcher_answer(struct watcher *watcher) {
        struct methods *methods = watcher->methods;
        struct session *session = watcher->session;
        uint32_t xid = watcher->xid;

        session_detach(&watcher->resource);
        watcher_remove(watcher);
        reply_list(methods, session, xid);
}

/* This client cannot send another call, so it would only occupy a slot. */
static void on_watcher_half_closed(struct session_resource *resource) {
        watcher_answer(container_of(resource, struct watcher, resource));
}

static void answer_watchers(struct methods *methods, bool all) {
        struct watcher *next;

        for (struct watcher *watcher = LIST_FIRST(&methods->watchers); watcher; watcher = next) {
                next = LIST_NEXT(watcher, link);
                if (all || watcher->serial != methods->serial)
                        watcher_answer(watcher);
        }
}

void methods_on_change(struct methods *methods) {
        count_news(methods);
        answer_watchers(methods, false);
}

static void on_heartbeat(evutil_socket_t fd, short what, void *userdata) {
        answer_watchers(userdata, true);
}

void method_watch(struct call *call) {
        static const struct timeval period = {.tv_sec = HEARTBEAT_SEC};
        struct methods *methods = call->methods;
        uint64_t serial = xdr_read_u64(&call->arguments);
        struct watcher *watcher;

        if (!call_check_arguments(call))
                return;
        watcher = serial == methods->serial ? calloc(1, sizeof(*watcher)) : NULL;
        if (!watcher) { /* there is news, or no memory for a watcher */
                reply_list(methods, call->session, call->header.xid);
                return;
        }
        *watcher = (struct watcher){
                .resource = {.gone = on_watcher_gone, .half_closed = on_watcher_half_closed},
                .methods = methods,
                .session = call->session,
                .xid = call->header.xid,
                .serial = serial,
        };
        LIST_INSERT_HEAD(&methods->watchers, watcher, link);
        session_attach(call->session, &watcher->resource);
        if (!event_pending(methods->heartbeat, EV_TIMEOUT, NULL))
                (void)event_add(methods->heartbeat, &period);
}

/* ---- Stats ---- */

void method_stats(struct call *call) {
        const struct methods *methods = call->methods;
        const struct server_counts counts = server_count(methods->server);
        const struct hf_stats stats = {
                .started_realtime_usec = methods->started_realtime_usec,
                .sessions = counts.sessions,
                .sessions_max = counts.sessions_max,
                .leases = (uint32_t)registry_lease_count(methods->registry),
                .accepted = counts.accepted,
                .evicted = counts.evicted,
                .expired = counts.expired,
                .malformed = counts.malformed,
                .calls = methods->calls,
                .rejected = methods->rejected,
                .refused = methods->refused,
        };
        uint8_t buffer[REPLY_MAX];
        struct xdr_writer writer;

        xdr_writer_init(&writer, buffer, sizeof(buffer));
        rpc_encode_accepted(&writer, call->header.xid, RPC_SUCCESS);
        hf_stats_encode(&writer, &stats);
        session_reply(call->session, buffer, xdr_writer_size(&writer));
}

/* ---- Release ---- */

/* A lease and its connection; the lease ends with the connection. */
struct release_call {
        struct registry_lease lease;
        struct session_resource resource;
        struct registry *registry;
        struct session *session;
        uint32_t xid;
        struct pci_address addresses[];
};

static void on_release_gone(struct session_resource *resource) {
        CLEANUP(free_ptr) struct release_call *release = container_of(resource, struct release_call, resource);

        registry_lease_end(release->registry, &release->lease);
}

static void on_release_answered(struct registry_lease *lease, enum registry_answer answer) {
        struct release_call *release = container_of(lease, struct release_call, lease);

        reply_answer(release->session, release->xid, answer);
}

/* Decodes the addresses. Returns NVPD_SUCCESS, or the status that rejects the lease. */
static enum nvpd_status read_addresses(struct call *call, uint32_t count, struct pci_address *addresses) {
        enum nvpd_status status = NVPD_SUCCESS;

        for (uint32_t i = 0; i < count; i++) {
                struct hf_address address;
                const struct gpu *gpu;

                hf_address_decode(&call->arguments, &address);
                gpu = call_find_gpu(call, address.domain, address.bus, address.slot);
                if (gpu)
                        addresses[i] = gpu->info.address;
                else
                        status = NVPD_DEVICE_NOT_FOUND;
        }
        return status;
}

static struct release_call *release_call_new(struct call *call, const struct hf_release_head *head) {
        struct release_call *release = calloc(1, sizeof(*release) + head->n_gpus * sizeof(release->addresses[0]));

        if (!release)
                return NULL;
        release->lease = (struct registry_lease){
                .all = head->all,
                .addresses = release->addresses,
                .n_addresses = head->n_gpus,
                .answered = on_release_answered,
        };
        release->resource = (struct session_resource){.gone = on_release_gone, .keeps = true};
        release->registry = call->methods->registry;
        release->session = call->session;
        release->xid = call->header.xid;
        return release;
}

void method_release(struct call *call) {
        CLEANUP(free_ptr) struct release_call *release = NULL;
        struct registry_lease *lease;
        struct hf_release_head head;
        enum nvpd_status status;

        hf_release_head_decode(&call->arguments, &head);
        if (!call_check_arguments(call))
                return;
        release = release_call_new(call, &head);
        if (!release) {
                reply_status(call->session, call->header.xid, NVPD_INSUFFICIENT_RESOURCES);
                return;
        }
        status = read_addresses(call, head.n_gpus, release->addresses);
        if (!call_check_arguments(call))
                return;
        if (session_has_resources(call->session)) /* it has a lease: nothing else outlives a call */
                status = NVPD_INVALID_ARGUMENT;
        if (status != NVPD_SUCCESS) {
                reply_status(call->session, call->header.xid, status);
                return;
        }
        session_attach(call->session, &release->resource);
        lease = &take_ptr(release)->lease;
        registry_lease_begin(call->methods->registry, lease);
}

/* ---- life ---- */

int methods_init(struct methods *methods, struct event_base *loop, const char *backend) {
        uint64_t started_realtime_usec = clock_realtime_usec();

        *methods = (struct methods){
                .backend = backend,
                .started_realtime_usec = started_realtime_usec,
                .serial = started_realtime_usec, /* unlike any serial of the daemon before this one */
                .heartbeat = event_new(loop, -1, 0, on_heartbeat, methods),
        };
        return methods->heartbeat ? refusals_init(&methods->refusals, loop) : -ENOMEM;
}

void methods_done(struct methods *methods) {
        if (methods->heartbeat)
                event_free(methods->heartbeat);
        methods->heartbeat = NULL;
        refusals_done(&methods->refusals);
        free(methods->list);
        methods->list = NULL;
}
