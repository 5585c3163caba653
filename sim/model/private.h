#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What the model's files share. Everything is guarded by model->mutex; a function here expects it to be held unless it
 * says otherwise, and lets go of it while it sleeps.
 *
 *      uvm_lock      UVM's global lock: a registration is made or dropped
 *      open_lock     drivers before 545: the whole of an open of any node of theirs (DRIVER_OPENS_ONE_BY_ONE)
 *      device_list   the driver's nv_linux_devices_lock: taken to find a GPU, kept while waiting for that GPU's lock
 *      gpu->lock     ldata_lock: an open or a close of that GPU is under way
 *      api_lock      RM's API lock: the serial part of every initialisation, teardown, and what RM is asked
 *
 * are taken in this order. They are not mutexes but states of the monitor, because they are held across sleeps.
 */

#include <pthread.h>
#include <stdarg.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "sim/model/model.h"

enum {
        MODEL_COMM_SIZE = 16, /* TASK_COMM_LEN */
        MODEL_UNKNOWN_MAX = 64,
};

/* A lock that is taken in the order in which it was asked for. */
struct turnstile {
        uint64_t next_ticket;
        uint64_t serving;
};

/* Who did something, for the journal and for people. */
struct who {
        pid_t pid;
        char comm[MODEL_COMM_SIZE];
};

/* What nvidia-smi sets; lost at each teardown. */
struct gpu_settings {
        unsigned power_limit_w;
        unsigned graphics_clock_mhz;
        unsigned memory_clock_mhz;
        const char *compute_mode;
};

extern const struct gpu_settings gpu_default_settings;

struct model_gpu {
        struct scenario_gpu spec;
        uint32_t minor;
        struct turnstile lock;
        struct gpu_settings settings;

        bool probed;
        bool bound;     /* on the driver's list: opens find it */
        bool accepting; /* deferred opens are taken */
        bool removing;  /* an unbind is under way */
        bool remove_device;

        bool initialised; /* as the driver's flag: not when only the legacy flag keeps the hardware up */
        bool kept;        /* by the legacy flag */
        bool initialising;
        bool ever_initialised;
        bool had_interrupts; /* since the bind */
        bool spent;          /* confidential: has been initialised since the last reset */

        unsigned usage;
        unsigned deferred; /* deferred opens that are not done */
        unsigned initialisations, teardowns;
        unsigned uvm_registrations;
        uint32_t adapter_status;
        uint64_t fabric_ready_usec;
};

enum file_state {
        FILE_OPENING,
        FILE_OPEN,
        FILE_FAILED, /* a deferred open failed: the descriptor is there, the GPU is not */
        FILE_GONE,   /* likewise, for the GPU was removed by surprise */
};

/* An additional use of a GPU by a file: through UVM or by attaching. */
struct reference {
        struct model_gpu *gpu;
        bool uvm;
        LIST_ENTRY(reference) link;
};

struct model_file {
        struct model *model;
        enum model_node node;
        enum file_state state;
        struct model_gpu *gpu;
        struct who who;

        uint64_t ticket; /* of a deferred open, for the GPU's lock */
        bool abandoned;  /* closed before its deferred open was done */
        int open_rc;
        uint32_t adapter_status;

        bool uvm_initialised;
        uint64_t uvm_flags;
        bool attached;
        LIST_HEAD(, reference) references;

        LIST_ENTRY(model_file) link;
};

struct model_thread {
        pthread_t id;
        struct model *model;
        void (*run)(struct model *model, void *argument);
        void *argument;
        bool done;
        LIST_ENTRY(model_thread) link;
};

struct journal;

struct unknown_ioctl {
        enum model_node node;
        unsigned long command;
        uint64_t count;
};

struct model {
        pthread_mutex_t mutex;
        pthread_cond_t changed; /* anything at all */
        bool stopping;
        uint64_t started_usec;

        struct scenario scenario;
        struct model_gpu gpus[SCENARIO_GPUS_MAX];
        size_t n_gpus;
        uint64_t memblock_size;

        struct turnstile open_lock;
        struct turnstile device_list;
        struct turnstile api_lock;
        struct turnstile uvm_lock;

        LIST_HEAD(, model_file) files;
        LIST_HEAD(, model_thread) threads;
        struct journal *journal;

        struct unknown_ioctl unknown[MODEL_UNKNOWN_MAX];
        size_t n_unknown;
        uint64_t unknown_beyond; /* calls of more different ones than there is room for */

        model_process_check process_check;
        void *process_check_user;
        model_uevent uevent;
        void *uevent_user;
        model_kernel_line kernel_line;
        void *kernel_line_user;

        pthread_mutex_t listen_mutex; /* taken without the model's: held while listeners are told */
        LIST_HEAD(, model_listener) listeners;
};

/* ---- model.c: the monitor ---- */

struct model *model_lock(struct model *model); /* returns it */
void model_unlock(struct model *model);
void model_unlock_done(struct model **model);
/* Locks until the scope's end. */
#define MODEL_LOCKED(which) CLEANUP(model_unlock_done) __attribute__((unused)) struct model *locked_ = model_lock(which)

/* Sleeps until anything changes, or until then. */
void model_sleep(struct model *model);
void model_sleep_until(struct model *model, uint64_t until_usec);
void model_changed(struct model *model);
/* Sleeps for so long. Returns 0 or -ESHUTDOWN. */
int model_spend(struct model *model, uint64_t duration_usec);

void turnstile_enter(struct model *model, struct turnstile *turnstile);
bool turnstile_try(struct turnstile *turnstile);
/* Enters in two steps: the place in the queue, and the wait for it. */
uint64_t turnstile_queue(struct turnstile *turnstile);
void turnstile_wait(struct model *model, struct turnstile *turnstile, uint64_t ticket);
void turnstile_leave(struct model *model, struct turnstile *turnstile);

/* Runs a function with the mutex held on a thread that model_free() joins. Returns 0 or negative errno. */
int model_spawn(struct model *model, void (*run)(struct model *model, void *argument), void *argument);

/* Reads the process's name; takes no lock. */
struct who who_is(const struct model_caller *caller);

/* ---- journal.c ---- */

int journal_new(struct journal **ret_journal);
void journal_free(struct journal *journal);
/* gpu and who may be NULL. */
void journal_add(struct model *model, const struct model_gpu *gpu, const struct who *who, const char *event,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
uint64_t journal_last(const struct journal *journal);
/* Records after `since`, only those called `event` unless that is NULL. New reference, NULL without memory. */
json_t *journal_read(struct model *model, uint64_t since, const char *event);

/* ---- gpu.c: one GPU's life; the caller is inside gpu->lock ---- */

/* Waits until RM's API lock is free, as whatever takes it for a moment does. */
void model_enter_api(struct model *model);
int gpu_use(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_unuse(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_tear_down(struct model *model, struct model_gpu *gpu, const struct who *who);

/* Finds by what identifies it among those on the driver's list, and goes inside its lock, waiting for it inside the
 * device list's: as the driver does, so that one busy GPU holds up every other look-up. NULL when there is none. */
struct model_gpu *gpu_enter(struct model *model, bool (*is_it)(const struct model_gpu *gpu, const void *key),
                            const void *key);
/*
 * By UUID: the GPU that is known by it, otherwise one whose UUID is not known; inside its lock. NULL when all are known
 * and none is it (nv.c, find_uuid_candidate).
 */
struct model_gpu *gpu_enter_candidate(struct model *model, const uint8_t *uuid);
void gpu_leave(struct model *model, struct model_gpu *gpu);
bool gpu_has_minor(const struct model_gpu *gpu, const void *minor);
bool gpu_has_address(const struct model_gpu *gpu, const void *address);
bool gpu_has_id(const struct model_gpu *gpu, const void *gpu_id);
bool gpu_has_uuid(const struct model_gpu *gpu, const void *uuid_bytes);

/* ---- file.c ---- */

int file_open_address(struct model *model, const struct pci_address *address, const struct who *who,
                      struct model_file **ret_file);
void file_close(struct model *model, struct model_file *file);
const char *node_name(enum model_node node);

/* Ends all uses of a GPU that is removed under its users; their descriptors stay, dead. */
void files_orphan(struct model *model, struct model_gpu *gpu);

/* ---- reference.c ---- */

void references_orphan(struct model_file *file, const struct model_gpu *gpu);
void references_drop(struct model *model, struct model_file *file);
bool file_references(const struct model_file *file, const struct model_gpu *gpu, bool uvm);

/* ---- numa.c ---- */

void numa_fill(const struct model *model, const struct model_gpu *gpu, struct model_numa *ret_numa);

/* ---- bind.c ---- */

/* What the driver's probe does: the GPU gets a minor and is on the list. */
void gpu_probe(struct model *model, struct model_gpu *gpu);
void bind_notice(struct model *model, const struct model_gpu *gpu, bool bind);
void gpu_uevent(struct model *model, const struct model_gpu *gpu, const char *action);
/* Starts an unbind on a thread of its own; gpu->removing ends when it is done. Returns 0 or negative errno. */
int gpu_start_unbind(struct model *model, struct model_gpu *gpu, bool remove_device);

/* ---- bus.c ---- */

/* -EBUSY when it is bound already. */
int gpu_bind(struct model *model, struct model_gpu *gpu);
/* Waits for an unbind that was started. Returns 0, or -EINTR when it goes on without the caller. */
int gpu_wait_unbound(struct model *model, struct model_gpu *gpu, const struct model_wait *wait);
/* -EBUSY if the GPU is in use. */
int gpu_reset(struct model *model, struct model_gpu *gpu, const struct who *who);
/* Brings a GPU back to the bus, healthy, and binds it. */
int gpu_add(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_remove_unbound(struct model *model, struct model_gpu *gpu, const struct who *who);

/* ---- status.c: JSON for `status` and for people ---- */

json_t *status_json(struct model *model);
/* "nvidia-persiste (pid 12), python3 (pid 34)" */
void holders_format(struct model *model, const struct model_gpu *gpu, char *buffer, size_t size);
