#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Shared by the model's files. model->mutex guards everything. Callers of the functions below must hold it unless
 * stated otherwise; a function releases it while it sleeps. These locks are taken in this order:
 *
 *      uvm_lock      UVM's global lock: while a registration is made or dropped
 *      open_lock     drivers before 545: during every open of any of their nodes (DRIVER_OPENS_ONE_BY_ONE)
 *      device_list   the driver's nv_linux_devices_lock: taken to find a GPU, kept while waiting for that GPU's lock
 *      gpu->lock     ldata_lock: during an open or a close of that GPU
 *      api_lock      RM's API lock: during the serial part of an initialisation, a teardown, and calls to RM
 *
 * They are not mutexes but states of the monitor, because they are held during sleeps.
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

/* A lock that waiters get in the order in which they asked. */
struct turnstile {
        uint64_t next_ticket;
        uint64_t serving;
        pthread_cond_t turned;
};

#define TURNSTILE_INIT                                                                                                 \
        { .turned = PTHREAD_COND_INITIALIZER }

/* The process that did something, for the journal and messages. */
struct who {
        pid_t pid;
        char comm[MODEL_COMM_SIZE];
};

/* Settings that nvidia-smi changes. They are lost at each teardown. */
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
        bool bound;     /* on the driver's list, where opens find it */
        bool accepting; /* accepts deferred opens */
        bool removing;  /* an unbind is under way */
        bool remove_device;

        bool initialised; /* as the driver's flag: false if only the legacy flag keeps the hardware initialised */
        bool kept;        /* by the legacy flag */
        bool initialising;
        bool ever_initialised;
        bool had_interrupts; /* since the bind */
        bool spent;          /* confidential: it was initialised since the last reset */

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
        FILE_FAILED, /* a deferred open failed: the descriptor exists, but has no GPU */
        FILE_GONE,   /* the same, because the GPU was removed by surprise */
};

/* A use of a GPU by a file of another node: through UVM or by attaching. */
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
        pthread_cond_t changed; /* anything except turnstiles */
        pthread_cond_t stopped; /* wakes those who spend time */
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
        uint64_t unknown_beyond; /* calls of further ioctls, when the table is full */

        model_process_check process_check;
        void *process_check_user;
        model_uevent uevent;
        void *uevent_user;
        model_kernel_line kernel_line;
        void *kernel_line_user;

        pthread_mutex_t listen_mutex; /* taken without the model's mutex; held while listeners are called */
        LIST_HEAD(, model_listener) listeners;
};

/* ---- model.c: the monitor ---- */

struct model *model_lock(struct model *model); /* returns it */
void model_unlock(struct model *model);
void model_unlock_done(struct model **model);
/* Locks until the scope's end. */
#define MODEL_LOCKED(which) CLEANUP(model_unlock_done) __attribute__((unused)) struct model *locked_ = model_lock(which)

/* Sleeps until anything changes, or until that time. */
void model_sleep(struct model *model);
void model_sleep_until(struct model *model, uint64_t until_usec);
void model_changed(struct model *model);
/* Sleeps for that time. Returns 0 or -ESHUTDOWN. */
int model_spend(struct model *model, uint64_t duration_usec);

void turnstile_enter(struct model *model, struct turnstile *turnstile);
bool turnstile_try(struct turnstile *turnstile);
/* Enters in two steps: takes a place in the queue, then waits for its turn. */
uint64_t turnstile_queue(struct turnstile *turnstile);
void turnstile_wait(struct model *model, struct turnstile *turnstile, uint64_t ticket);
void turnstile_leave(struct turnstile *turnstile);

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
/* Returns the records after `since`, only those named `event` unless it is NULL. New reference, or NULL if out of
 * memory. */
json_t *journal_read(struct model *model, uint64_t since, const char *event);

/* ---- gpu.c: one GPU's life; the caller is inside gpu->lock ---- */

/* Waits until RM's API lock is free, like a call that takes it only for a moment. */
void model_enter_api(struct model *model);
int gpu_use(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_unuse(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_tear_down(struct model *model, struct model_gpu *gpu, const struct who *who);

/* Finds a GPU on the driver's list and enters its lock. As in the driver, it waits for that lock while it holds the
 * device list's, so one busy GPU delays every other look-up. Returns NULL if there is none. */
struct model_gpu *gpu_enter(struct model *model, bool (*is_it)(const struct model_gpu *gpu, const void *key),
                            const void *key);
/*
 * Finds by UUID and enters the GPU's lock: the GPU with this UUID, otherwise one whose UUID is still unknown. Returns
 * NULL if all UUIDs are known and none matches (nv.c, find_uuid_candidate).
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

/* Ends all uses of a GPU that is removed while in use. Its users' descriptors stay open, but have no GPU. */
void files_orphan(struct model *model, struct model_gpu *gpu);

/* ---- reference.c ---- */

void references_orphan(struct model_file *file, const struct model_gpu *gpu);
void references_drop(struct model *model, struct model_file *file);
bool file_references(const struct model_file *file, const struct model_gpu *gpu, bool uvm);

/* ---- states.c ---- */

void numa_fill(const struct model *model, const struct model_gpu *gpu, struct model_numa *ret_numa);

/* ---- bind.c ---- */

/* The driver's probe: gives the GPU a minor and adds it to the list. */
void gpu_probe(struct model *model, struct model_gpu *gpu);
void bind_notice(struct model *model, const struct model_gpu *gpu, bool bind);
void gpu_uevent(struct model *model, const struct model_gpu *gpu, const char *action);
/* Starts an unbind on its own thread, which clears gpu->removing at the end. Returns 0 or negative errno. */
int gpu_start_unbind(struct model *model, struct model_gpu *gpu, bool remove_device);

/* ---- bus.c ---- */

/* Returns -EBUSY if the GPU is already bound. */
int gpu_bind(struct model *model, struct model_gpu *gpu);
/* Waits for an unbind that was started. Returns 0, or -EINTR if interrupted; the unbind then continues. */
int gpu_wait_unbound(struct model *model, struct model_gpu *gpu, const struct model_wait *wait);
/* Returns -EBUSY if the GPU is in use. */
int gpu_reset(struct model *model, struct model_gpu *gpu, const struct who *who);
/* Adds a removed GPU to the bus, no longer lost, and binds it. */
int gpu_add(struct model *model, struct model_gpu *gpu, const struct who *who);
void gpu_remove_unbound(struct model *model, struct model_gpu *gpu, const struct who *who);

/* ---- status.c: JSON for `status`, and texts for messages ---- */

json_t *status_json(struct model *model);
/* "nvidia-persiste (pid 12), python3 (pid 34)" */
void holders_format(struct model *model, const struct model_gpu *gpu, char *buffer, size_t size);
