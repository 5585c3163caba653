#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The registry's inside, for its own files:
 *
 *      registry.c           GPUs, their jobs, their advancing
 *      registry_scan.c      scans of the driver's list: GPUs that come and go
 *      registry_event.c     what happens at uevents, notices and unbinds
 *      registry_request.c   Set requests, one after another for each GPU
 *      registry_lease.c     leases
 *      registry_question.c  what the driver is asked besides
 */

#include "daemon/gpus/registry.h"
#include "daemon/gpus/unbinds.h"
#include "daemon/gpus/worker.h"

/*
 * What the scans of the driver's list say of a GPU:
 *
 *      ASSUMED ---listed---> LISTED <--listed--- DOUBTFUL      not listed by a scan older than our open
 *         |                   |  ^                  |
 *         |        not listed |  | listed again     | not listed by a newer scan
 *         +-----------------> GONE <----------------+
 *                              \--released--> forgotten
 *
 * A GPU that becomes LISTED gets its policy anew.
 */
enum presence {
        PRESENCE_LISTED,
        PRESENCE_ASSUMED, /* adopted, and not listed yet: wanted as it was, for rules may name its UUID */
        PRESENCE_DOUBTFUL,
        PRESENCE_GONE,
};

/* What a client asked for last. */
enum last_set {
        SET_NOTHING,
        SET_OFF,
        SET_ON,
};

/* What says whether a GPU is wanted stands in fields of its own; entry_update_want() merges them. */
struct entry {
        struct gpu gpu;
        struct registry *registry;

        int index;                     /* see registry_config.policy */
        struct registry_policy policy; /* as last asked for */
        enum last_set last_set;
        bool leased;    /* a lease covers it */
        bool unbinding; /* the driver waits for us to let go */
        bool stale;     /* what is held is of a GPU that was taken away: close it, then open anew */
        enum presence presence;
        uint64_t opened_usec; /* when the last open began */
        bool waiting;         /* an open waits until unbinds are heard of */
        int failed_result;    /* of the last open, as that gave it */
        int told_error;       /* of the last explanation of a failure that was logged */

        STAILQ_HEAD(, registry_request) requests; /* the first is being served */
        int numa_result;                          /* of the last NUMA job */
};

/* What a client asked for last of a GPU that left the driver, for when it is bound again: a reset by nvidia-smi does
 * both. */
struct remembered_set {
        struct gpu_info info;
        int index;
        bool configured; /* the policy's persistence */
        enum last_set last_set;
        LIST_ENTRY(remembered_set) link;
};

/* Descriptors of a process before us, until their GPU is found. */
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
        struct event *timer;                      /* the end of the nearest pause or limit */
        struct question *asking; /* on a worker thread, or left behind there: then nothing more is asked */
        struct unbinds *unbinds; /* the subscription to unbind notices: follow_unbinds() */
        uint64_t deaf_usec;      /* since when opens wait for that subscription; 0: it has come, or none does */

        struct event *scan_timer; /* the next scan that no event causes */
        bool polling;             /* nobody reports changes */
        bool scan_owed;           /* there was no memory or thread for a scan, or for what it found */
        bool scanning;            /* a scan is on a worker thread */
        bool scan_again;
        int scan_result;    /* of the last scan */
        uint64_t seen_usec; /* when it began */
        bool scanned;       /* the first scan is in */
        bool empty_told;

        bool changed; /* since on_change was called */
        bool ready;
        bool stopping;
        bool keep_gpus;
        bool stopped;
};

/* Takes every GPU as far as it gets now. To be called after every event, however small. */
void registry_advance(struct registry *registry);

/* Whether two UUIDs, of which either may be unknown (""), are certainly of different GPUs. */
bool is_other_gpu(const char *first, const char *second);

/* Works out anew whether the GPU is wanted. */
void entry_update_want(struct entry *entry);
/* What the policy and the last Set say together; more than they may forbid it. */
bool entry_is_enabled(const struct entry *entry);
/* A client decides. Ends a pause after a failure: whoever asks wants it tried now. */
void entry_set(struct entry *entry, enum last_set last_set);
void entry_start_job(struct entry *entry, enum gpu_job job);
/* Takes the requests of a GPU as far as they get now. */
void entry_serve(struct entry *entry);
/* Takes the requests for GPUs that were not known as far as they get now. Returns when one is due; UINT64_MAX: none. */
uint64_t registry_serve_unlisted(struct registry *registry, uint64_t now_usec);
/* When its request, if there is one, is answered at the latest. */
uint64_t entry_request_due(const struct entry *entry);
/* "0000:17:00.0" */
const char *entry_address(const struct entry *entry, char buffer[static PCI_ADDRESS_SIZE]);

/* It is gone: released, and forgotten by registry_sweep(), unless it comes back before. */
void entry_lose(struct entry *entry);

/* What is held of the GPU is worth nothing any more: it is closed, and then opened anew if wanted. */
void entry_spoil(struct entry *entry);

struct entry *registry_find_entry(const struct registry *registry, const struct pci_address *address); /* or NULL */
int registry_add_entry(struct registry *registry, const struct gpu_info *info, int index);
/* Forgets the entries that are gone and released. */
void registry_sweep(struct registry *registry);
/* More is known of the GPU: asks the policy anew. */
void entry_apply_policy(struct entry *entry);

/* GPUs of which descriptors were handed in become entries. */
void registry_take_inheritances(struct registry *registry);
void registry_arm_scan(struct registry *registry);

/* Asks the driver the next question that is due, unless it would keep us waiting. */
void registry_ask(struct registry *registry);

/* The driver announces that a GPU is about to be unbound, and waits for us to let go of it; or that it was bound. */
void registry_note_event(struct registry *registry, const struct rm_event *event);
/* The driver waits for the users of this GPU, as the kernel log says. Nothing to do where we are none. */
void registry_note_unbind(struct registry *registry, const struct pci_address *address);

bool registry_lease_covers(const struct registry *registry, const struct pci_address *address);
/* Answers the leases that can be. Returns when to look again if nothing happens before. */
uint64_t registry_tell_leases(struct registry *registry, uint64_t now_usec);
