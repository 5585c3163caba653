#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The GPUs of this machine, and whether each is wanted. The registry advances the state machine of every GPU
 * (gpu/gpu.h): it starts jobs on worker threads, retries after pauses, follows GPUs that come and go, and answers
 * requests. All of it runs in the loop.
 *
 * entry_update_want() in registry.c decides whether a GPU is wanted, and lists what overrides what. When a GPU leaves
 * the driver, its last Set is remembered until it is bound again.
 *
 * The PCI address identifies a GPU. Requests for one GPU are served one after another, in the order of arrival;
 * requests for different GPUs do not wait for each other.
 *
 * Callbacks (`answered`, on_change and the like) may read the registry, but must not change it: make further requests
 * from the loop.
 */

#include <event2/event.h>
#include <sys/queue.h>

#include "gpu/gpu.h"

struct registry;
struct worker;

/* What the configuration says about a GPU; an RPC can override it. */
struct registry_policy {
        bool persistence;
        bool uvm;
};

struct registry_config {
        struct event_base *loop;
        struct worker *worker;
        const struct gpu_ops *ops;
        void *context;       /* of ops */
        uint64_t stuck_usec; /* a job that takes longer in the driver is reported */
        /* Pause between scans while there is no GPU, changes are not reported, or the last scan failed; 0: never. */
        uint64_t poll_usec;

        /* index: the GPU's position in the driver's list when it was first seen, not counting GPUs that are excluded
         * from the driver; -1: the GPU is excluded, or not listed yet. */
        struct registry_policy (*policy)(const struct gpu_info *info, int index, void *userdata);
        /* A GPU or a count changed, or may have changed. */
        void (*on_change)(void *userdata);
        /* Once: the daemon has tried to hold every GPU that was present at the start. */
        void (*on_ready)(void *userdata);
        /* Once, after registry_stop(): no GPU has a job any more. */
        void (*on_stopped)(void *userdata);
        void *userdata;
};

int registry_new(struct registry **ret_registry, const struct registry_config *config);
/* Frees everything; NULL is allowed. Call it only when no job runs. */
void registry_free(struct registry *registry);

/*
 * Hands in one or both descriptors that a previous process opened for this GPU. Call this before registry_start(),
 * which begins to adopt them. Returns 0, or -ENOMEM; the registry owns the descriptors unless it fails.
 */
int registry_adopt(struct registry *registry, const struct pci_address *address, const struct gpu_hold *hold);

/* Scans for GPUs, and holds those that are wanted. */
void registry_start(struct registry *registry);

/*
 * Opens nothing more, releases every GPU unless keep_gpus (a keeper then has their descriptors), and answers all
 * requests. on_stopped follows when no GPU has a job; a GPU that is stuck in the driver can prevent that.
 */
void registry_stop(struct registry *registry, bool keep_gpus);

/* ---- events from outside ---- */

/* GPUs may have come or gone: scans again. */
void registry_rescan(struct registry *registry);
/* needed: changes are not reported, so scan at intervals even while there are GPUs. */
void registry_set_polling(struct registry *registry, bool needed);
/* This GPU was removed from the driver or the bus, and may come back. What is held of it is useless now. */
void registry_note_removed(struct registry *registry, const struct pci_address *address);
/*
 * Hands in a descriptor of the kernel log, for drivers that announce no unbinds. Takes ownership of log_fd, also on
 * failure. Returns 0 or negative errno.
 */
int registry_take_log(struct registry *registry, int log_fd);
/*
 * Call this when a client reads the list: asks the driver for the legacy flags again, so that the next List has them.
 */
void registry_refresh(struct registry *registry);
void registry_set_stuck_limit(struct registry *registry, uint64_t stuck_usec);
/* The configuration was read again. Where it has changed for a GPU, it is applied and overrides the last Set. */
void registry_apply_policy(struct registry *registry);

/* ---- reading ---- */

struct registry_counts {
        size_t gpus;
        size_t wanted;
        size_t held;
        size_t failed;
        size_t busy;      /* with a job in the driver now */
        size_t using;     /* held, being opened, or waiting to be opened: an unbind has to wait for us */
        size_t unbinding; /* being unbound, as the driver announced */
};
struct registry_counts registry_count(const struct registry *registry);
/* Whether the first scan is over: from then on a GPU that is not known does not exist. on_change reports it. */
bool registry_is_listed(const struct registry *registry);
/* Whether the daemon has tried to hold every GPU that was present at the start. */
bool registry_is_ready(const struct registry *registry);

/* GPUs by ascending address; NULL past the end. Valid until control returns to the loop. */
const struct gpu *registry_gpu(const struct registry *registry, size_t index);
/* gpu: the pointer that registry_gpu() or registry_find() returned, not a copy. */
bool registry_gpu_is_leased(const struct gpu *gpu);
struct registry_policy registry_gpu_policy(const struct gpu *gpu);

/* Compares domain, bus and slot; clients send 0 for the function. NULL: no such GPU. */
const struct gpu *registry_find(const struct registry *registry, const struct pci_address *address);

/* ---- requests ---- */

/* The result of a request or a lease. */
enum registry_answer {
        REGISTRY_DONE,
        REGISTRY_NO_GPU,      /* the driver does not have it, or not any more */
        REGISTRY_FAILED,      /* the driver failed, something overrides the request, or the time limit has passed */
        REGISTRY_NUMA_FAILED, /* its memory did not go online or offline; the mode is as before */
};

enum registry_request_kind {
        REGISTRY_SET_MODE,      /* also sets NUMA memory online or offline, if the GPU has it */
        REGISTRY_SET_MODE_ONLY, /* does not change NUMA memory */
        REGISTRY_SET_NUMA,      /* does not change the mode */
};

/*
 * Owned by the caller, who must keep it until `answered` is called. That happens exactly once, possibly before
 * registry_request() returns.
 */
struct registry_request {
        enum registry_request_kind kind;
        bool enable; /* with REGISTRY_SET_NUMA: online */
        void (*answered)(struct registry_request *request, enum registry_answer answer);

        int stage; /* the registry's own */
        struct pci_address address;
        uint64_t since_usec;
        STAILQ_ENTRY(registry_request) link;
};

/* A request is answered within this time, if necessary with REGISTRY_FAILED: NVML waits 50 s for an answer. */
enum { REGISTRY_REQUEST_LIMIT_SEC = 45 };

/*
 * address: as registry_find() takes it. A client may bind a GPU and request it at once, as nvidia-smi does in a reset,
 * before the daemon notices the bind. So the driver's list is read again before the answer is REGISTRY_NO_GPU.
 */
void registry_request(struct registry *registry, const struct pci_address *address, struct registry_request *request);

/* ---- leases ---- */

/*
 * While a lease lasts, its GPUs stay released, including those that appear later. Owned by the caller, who must keep it
 * from registry_lease_begin() to registry_lease_end().
 */
struct registry_lease {
        bool all;
        struct pci_address *addresses; /* the caller's; unused with all */
        size_t n_addresses;
        /* Once: all are released (REGISTRY_DONE), or one cannot be (REGISTRY_FAILED: stuck, or its close failed). */
        void (*answered)(struct registry_lease *lease, enum registry_answer answer);

        bool told;               /* from here on, private to the registry: it was answered */
        uint64_t quiet_due_usec; /* when the wait for questions and the subscription ends; 0: it has not begun */
        LIST_ENTRY(registry_lease) link;
};

void registry_lease_begin(struct registry *registry, struct registry_lease *lease);
void registry_lease_end(struct registry *registry, struct registry_lease *lease);
size_t registry_lease_count(const struct registry *registry);
