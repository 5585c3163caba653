#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The GPUs of this machine and what is wanted of each. The registry advances every GPU's state machine (gpu/gpu.h): it
 * starts the jobs on worker threads, retries after pauses, follows GPUs that come and go, and answers the requests that
 * wait for a GPU. Everything here runs in the loop.
 *
 * Whether a GPU is wanted, and which word goes before which: entry_update_want() in registry.c. What was set last is
 * remembered of a GPU that leaves the driver, for when it is bound again.
 *
 * A GPU is known by its PCI address. Requests for one GPU are served one after another, in the order in which they
 * came; different GPUs do not wait for one another.
 *
 * Callbacks (`answered`, on_change and the like) must not change the registry, only read it: the next request comes
 * from the loop.
 */

#include <event2/event.h>
#include <sys/queue.h>

#include "gpu/gpu.h"

struct registry;
struct worker;

/* What is to be done with a GPU unless an RPC says otherwise. */
struct registry_policy {
        bool persistence;
        bool uvm;
};

struct registry_config {
        struct event_base *loop;
        struct worker *worker;
        const struct gpu_ops *ops;
        void *context;       /* of ops */
        uint64_t stuck_usec; /* a job in the driver for longer is reported */
        uint64_t poll_usec;  /* pause between scans while there is no GPU, or nobody reports changes; 0: none */

        /* index: where the GPU stood among those that the driver listed when it was first seen, those excluded from the
         * driver not counted; -1: an excluded GPU, or one not listed yet. */
        struct registry_policy (*policy)(const struct gpu_info *info, int index, void *userdata);
        /* Something changed, or may have: a GPU, a count. */
        void (*on_change)(void *userdata);
        /* Once: every GPU present at the start was attempted. */
        void (*on_ready)(void *userdata);
        /* Once, after registry_stop(): nothing runs any more. */
        void (*on_stopped)(void *userdata);
        void *userdata;
};

int registry_new(struct registry **ret_registry, const struct registry_config *config);
/* Frees everything. Only when no job runs. */
void registry_free(struct registry *registry);

/*
 * A descriptor, or both, that a process before us opened for this GPU: adopted when the GPU is found. Before
 * registry_start().
 */
int registry_adopt(struct registry *registry, const struct pci_address *address, const struct gpu_hold *hold);

/* Scans, and holds what is wanted. */
void registry_start(struct registry *registry);

/*
 * Starts nothing more, releases every GPU unless they are to be kept (their descriptors live on in a keeper), and
 * answers whatever waits. on_stopped follows when nothing runs, which a GPU that is stuck in the driver can prevent.
 */
void registry_stop(struct registry *registry, bool keep_gpus);

/* ---- what is told from outside ---- */

/* GPUs may have come or gone: scans again. */
void registry_rescan(struct registry *registry);
/* needed: whether to scan at intervals also while there are GPUs, because nobody reports changes. */
void registry_set_polling(struct registry *registry, bool needed);
/* This GPU was taken from the driver or from the bus, perhaps to come back: what is held of it is worth nothing. */
void registry_note_removed(struct registry *registry, const struct pci_address *address);
/* A descriptor of the kernel log, for drivers that announce no unbinds. Owns log_fd, also on failure. */
int registry_take_log(struct registry *registry, int log_fd);
/* A client reads the list: asks the driver again for what it alone knows, so that the next List has it. */
void registry_refresh(struct registry *registry);
void registry_set_stuck_limit(struct registry *registry, uint64_t stuck_usec);
/* The configuration was read again: what it says otherwise of a GPU than before is applied, and ends its last Set. */
void registry_apply_policy(struct registry *registry);

/* ---- reading ---- */

struct registry_counts {
        size_t gpus;
        size_t wanted;
        size_t held;
        size_t failed;
        size_t busy;      /* in the driver now */
        size_t using;     /* held, being opened, or to be opened now: an unbind has to wait for us */
        size_t unbinding; /* announced by the driver, and not over yet */
};
struct registry_counts registry_count(const struct registry *registry);
/* The first scan is over: a GPU that is not known now is none. on_change tells. */
bool registry_is_listed(const struct registry *registry);
/* Every GPU present at the start was attempted. */
bool registry_is_ready(const struct registry *registry);

/* GPUs by ascending address; NULL past the end. Valid until control returns to the loop. */
const struct gpu *registry_gpu(const struct registry *registry, size_t index);
/* gpu: as registry_gpu() or registry_find() returned it, not a copy. */
bool registry_gpu_is_leased(const struct gpu *gpu);
struct registry_policy registry_gpu_policy(const struct gpu *gpu);

/* By domain, bus and slot; the function is ignored, as clients send 0 for it. NULL: no such GPU. */
const struct gpu *registry_find(const struct registry *registry, const struct pci_address *address);

/* ---- requests ---- */

/* What came of a request, or of a lease. */
enum registry_answer {
        REGISTRY_DONE,
        REGISTRY_NO_GPU,      /* it left the driver */
        REGISTRY_FAILED,      /* in the driver, or not allowed to be done, or not done in time */
        REGISTRY_NUMA_FAILED, /* its memory did not come online or go offline; the mode is as it was */
};

enum registry_request_kind {
        REGISTRY_SET_MODE,      /* and then the memory, where the GPU has NUMA memory */
        REGISTRY_SET_MODE_ONLY, /* leaves NUMA alone */
        REGISTRY_SET_NUMA,      /* leaves the mode alone */
};

/* Owned by the caller, who must keep it until `answered` was called: exactly once, possibly before registry_request()
 * returns. */
struct registry_request {
        enum registry_request_kind kind;
        bool enable; /* or online */
        void (*answered)(struct registry_request *request, enum registry_answer answer);

        int stage; /* the registry's own */
        struct pci_address address;
        uint64_t since_usec;
        STAILQ_ENTRY(registry_request) link;
};

/* A request is answered within so long, if with REGISTRY_FAILED: NVML waits 50 s for an answer. */
enum { REGISTRY_REQUEST_LIMIT_SEC = 45 };

/* For the GPU that registry_find() gave. */
void registry_request(struct registry *registry, const struct gpu *gpu, struct registry_request *request);

/*
 * For a GPU that registry_find() does not know. A client that binds a GPU and asks for it at once, as a reset by
 * nvidia-smi does, may be faster than the news of the bind: so the driver's list is read again before the answer is
 * REGISTRY_NO_GPU.
 */
void registry_request_unlisted(struct registry *registry, const struct pci_address *address,
                               struct registry_request *request);

/* ---- leases ---- */

/*
 * While a lease lasts, its GPUs stay released. Owned by the caller from registry_lease_begin() to registry_lease_end().
 * GPUs that appear meanwhile are covered too.
 */
struct registry_lease {
        bool all;
        struct pci_address *addresses; /* the caller's; with all unused */
        size_t n_addresses;
        /* Once: all are released (REGISTRY_DONE), or one cannot be (REGISTRY_FAILED: stuck, or its close failed). */
        void (*answered)(struct registry_lease *lease, enum registry_answer answer);

        bool told;               /* the registry's own */
        uint64_t quiet_due_usec; /* likewise: quiet is not waited for after that; 0: not waited for yet */
        LIST_ENTRY(registry_lease) link;
};

void registry_lease_begin(struct registry *registry, struct registry_lease *lease);
void registry_lease_end(struct registry *registry, struct registry_lease *lease);
size_t registry_lease_count(const struct registry *registry);
