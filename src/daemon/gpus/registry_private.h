#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Internals of the registry, for these files only:
 *
 *      registry.c           GPUs, their jobs and states
 *      registry_scan.c      scans of the driver's list: GPUs that come and go
 *      registry_event.c     reactions to uevents, notices and unbinds
 *      registry_request.c   Set requests, one after another for each GPU
 *      registry_lease.c     leases
 *      registry_question.c  questions to the driver
 */

#include "daemon/gpus/registry.h"
#include "daemon/gpus/unbinds.h"
#include "daemon/gpus/worker.h"

/*
 * Whether the driver's list has a GPU:
 *
 *      ASSUMED ---listed---> LISTED <--listed--- DOUBTFUL
 *         |                   |  ^                  |
 *         |        not listed |  | listed again     | not listed by a newer scan
 *         +-----------------> GONE <----------------+
 *                              \--released--> forgotten
 *
 * A GPU that we open or hold becomes DOUBTFUL instead of GONE if the scan that does not list it began before our open.
 * A GPU that becomes LISTED gets its policy again.
 */
enum presence {
        PRESENCE_LISTED,
        PRESENCE_ASSUMED, /* adopted, but not listed yet; held until then, because a rule for its UUID may enable it */
        PRESENCE_DOUBTFUL,
        PRESENCE_GONE,
};

/* The last request of a client. */
enum last_set {
        SET_NOTHING,
        SET_OFF,
        SET_ON,
};

/* Each reason for holding or releasing a GPU has its own field; entry_update_want() combines them. */
struct entry {
        struct gpu gpu;
        struct registry *registry;

        int index;                     /* see registry_config.policy */
        struct registry_policy policy; /* as the callback last returned it */
        enum last_set last_set;
        bool leased;    /* a lease covers it */
        bool unbinding; /* the driver waits for us to release it */
        bool stale;     /* what is held belongs to a GPU that was removed: close it, then open it again */
        enum presence presence;
        uint64_t opened_usec; /* when the last open began */
        bool waiting;         /* an open waits for the subscription to unbind notices */
        int failed_result;    /* of the last open */
        int told_error;       /* of the last failure whose explanation was logged */

        STAILQ_HEAD(, registry_request) requests; /* the first is being served */
        int numa_result;                          /* of the last NUMA job */
};

/*
 * The last Set of a GPU that left the driver, for when it is bound again. A reset by nvidia-smi unbinds and binds it.
 */
struct remembered_set {
        struct gpu_info info;
        int index;
        bool configured; /* policy.persistence at that time */
        enum last_set last_set;
        LIST_ENTRY(remembered_set) link;
};

/* Descriptors of a previous process, until their GPU has an entry. */
struct inheritance {
        struct pci_address address;
        struct gpu_hold hold;
        LIST_ENTRY(inheritance) link;
};

struct registry {
        struct registry_config config;
        struct entry **entries; /* by ascending address */
        size_t n_entries;
        LIST_HEAD(, inheritance) inheritances;
        LIST_HEAD(, remembered_set) remembered;
        LIST_HEAD(, registry_lease) leases;
        STAILQ_HEAD(, registry_request) unlisted; /* requests for GPUs that the next list may have, oldest first */
        struct event *timer;                      /* the earliest end of a pause or a limit */
        struct question *asking; /* on a worker thread; if it hangs there, no further question is asked */
        struct unbinds *unbinds; /* the subscription to unbind notices: follow_unbinds() */
        uint64_t deaf_usec;      /* since when opens wait for that subscription; 0: none waits */

        struct event *scan_timer; /* the next scan that is not caused by an event */
        bool polling;             /* changes are not reported */
        bool scan_owed;           /* scan again soon: no memory, no thread, or the first scan failed */
        bool scanning;            /* a scan is on a worker thread */
        bool scan_again;
        int scan_result;    /* of the last scan */
        uint64_t seen_usec; /* when the last scan began */
        bool scanned;       /* the first scan is over */
        bool empty_told;

        bool changed; /* since on_change was called */
        bool ready;
        bool stopping;
        bool keep_gpus;
        bool stopped;
};

/* Does everything that can be done now for every GPU. Call it after every event, however small. */
void registry_advance(struct registry *registry);

/* Whether two UUIDs certainly belong to different GPUs. "" is an unknown UUID. */
bool is_other_gpu(const char *first, const char *second);

/* Decides again whether the GPU is wanted. */
void entry_update_want(struct entry *entry);
/* Whether the policy and the last Set together enable persistence. Other reasons may still forbid it. */
bool entry_is_enabled(const struct entry *entry);
/* Records the last Set. Ends a pause after a failure: a client that asks wants a retry now. */
void entry_set(struct entry *entry, enum last_set last_set);
void entry_start_job(struct entry *entry, enum gpu_job job);
/* Serves the requests of a GPU as far as possible now. */
void entry_serve(struct entry *entry);
/* Serves the requests for unknown GPUs as far as possible now. Returns when the next is due; UINT64_MAX: none. */
uint64_t registry_serve_unlisted(struct registry *registry, uint64_t now_usec);
/* When its first request must be answered; UINT64_MAX: there is none. */
uint64_t entry_request_due(const struct entry *entry);
/* "0000:17:00.0" */
const char *entry_address(const struct entry *entry, char buffer[static PCI_ADDRESS_SIZE]);

/* The GPU is gone: releases it. registry_sweep() then forgets it, unless it comes back before. */
void entry_lose(struct entry *entry);

/* What is held of the GPU is useless: closes it, and then opens it again if wanted. */
void entry_spoil(struct entry *entry);

struct entry *registry_find_entry(const struct registry *registry, const struct pci_address *address); /* or NULL */
int registry_add_entry(struct registry *registry, const struct gpu_info *info, int index);
/* Forgets the entries that are gone and released. */
void registry_sweep(struct registry *registry);
/* Asks for the policy again, after more became known about the GPU or the configuration changed. */
void entry_apply_policy(struct entry *entry);

/* Makes an entry for each GPU whose descriptors were handed in. */
void registry_take_inheritances(struct registry *registry);
void registry_arm_scan(struct registry *registry);

/* Asks the driver the next question that is due, unless a job is in the driver. */
void registry_ask(struct registry *registry);

/* The driver announces that a GPU is about to be unbound, and waits for us to release it; or that it was bound. */
void registry_note_event(struct registry *registry, const struct rm_event *event);
/* The kernel log says that the driver waits for the users of this GPU. Does nothing if we neither hold nor open it,
 * or if a driver is bound to it: the record is then of an earlier unbind. */
void registry_note_unbind(struct registry *registry, const struct pci_address *address);

bool registry_lease_covers(const struct registry *registry, const struct pci_address *address);
/* Answers the leases that can be answered. Returns when to call it again if nothing happens before. */
uint64_t registry_tell_leases(struct registry *registry, uint64_t now_usec);
