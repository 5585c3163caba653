#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The GPUs of this machine and what is wanted of each. The registry drives every GPU's state machine (gpu/gpu.h): it
 * starts the jobs on worker threads, retries after pauses, and answers the requests that wait for a GPU.
 *
 * Requests for one GPU are served one after another, in the order in which they came; different GPUs do not wait for
 * one another. Everything here runs in the loop.
 */

#include <event2/event.h>

#include "gpu/gpu.h"
#include "rpc/holdfast.h"
#include "rpc/nvpd.h"

struct registry;
struct worker;

struct registry_config {
        struct event_base *loop;
        struct worker *worker;
        const struct gpu_ops *ops;
        void *context;       /* of ops */
        bool persistence;    /* hold GPUs from the start */
        bool uvm;            /* with UVM persistence */
        uint64_t stuck_usec; /* a job in the driver for longer is reported */

        /* Something in the list changed: status lines want to be written again. May be NULL. */
        void (*on_change)(void *userdata);
        /* Once: every GPU present at the start was attempted. */
        void (*on_ready)(void *userdata);
        /* Once, after registry_stop(): everything is released and nothing runs. */
        void (*on_stopped)(void *userdata);
        void *userdata;
};

int registry_new(struct registry **ret_registry, const struct registry_config *config);
/* Frees what is not in use by a thread that is stuck in the driver. */
void registry_free(struct registry *registry);

/* Takes in the GPUs that there are and starts to hold them. Returns 0, or negative errno after logging why. */
int registry_start(struct registry *registry);

/* Releases every GPU and answers whatever waits. on_stopped follows, unless a GPU is stuck in the driver. */
void registry_stop(struct registry *registry);

/* ---- questions
 * --------------------------------------------------------------------------------------------------------- */

struct registry_counts {
        size_t gpus;
        size_t wanted;
        size_t held;
        size_t failed;
        size_t busy; /* in the driver now */
};
struct registry_counts registry_count(const struct registry *registry);
bool registry_is_ready(const struct registry *registry);
uint64_t registry_serial(const struct registry *registry);

/* GPUs by ascending address; NULL past the end. */
const struct gpu *registry_gpu(const struct registry *registry, size_t index);

/* By domain, bus and slot; the function is ignored, as clients send 0 for it. NULL: no such GPU. */
const struct gpu *registry_find(const struct registry *registry, const struct nvpd_device *device);

/* ---- requests
 * ---------------------------------------------------------------------------------------------------------- */

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
        void (*answered)(struct registry_request *request, enum nvpd_status status);

        int stage; /* the registry's own */
        struct registry_request *next;
};

/* For the GPU that registry_find() gave. */
void registry_request(struct registry *registry, const struct gpu *gpu, struct registry_request *request);
