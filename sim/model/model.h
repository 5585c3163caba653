#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulated driver's model: what open, close and the ioctls do to GPUs. It does not depend on FUSE, sockets or the
 * ioctl encodings. Programs reach it through sim/fronts and sim/rm, through sim/tree, and through sim/control.
 *
 * Calls sleep as the driver's do, so each front runs every call that may sleep on a thread of its own. One mutex and
 * one condition variable guard everything (a monitor): the driver's locks are states in it, and sleeping on them, on an
 * initialisation's time and on a hang are all the same wait, which model_stop() and model_interrupt() can end.
 *
 *      a GPU that is present:  no open file: cold, or kept initialised by the legacy flag
 *                              open files (usage_count): initialised
 *      open(), first user:  own lock -> global lock for lock_usec -> init_usec without it -> initialised
 *      close(), last user:  own lock -> global lock for teardown_usec -> settings fall back -> cold
 *
 * Errors are negative errno as the kernel gives them (docs/simulator.md has the table and its sources).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>
#include <sys/queue.h>

#include "sim/model/scenario.h"

struct model;
struct model_file;

#define MODEL_MINOR_NONE UINT32_MAX
#define MODEL_BIOS_REVISION UINT32_C(0x96008900)

/* The identity of every simulated GPU: an H100's numbers, and an invented video BIOS. */
enum {
        MODEL_PCI_VENDOR = 0x10de,
        MODEL_PCI_DEVICE = 0x2330,
        MODEL_PCI_SUBSYSTEM = 0x16c1, /* the subsystem's vendor is the same */
        MODEL_PCI_REVISION = 0xa1,
        MODEL_PCI_CLASS = 0x030200,
        MODEL_BIOS_OEM_REVISION = 0x01,
};

enum model_node {
        MODEL_NODE_CTL,
        MODEL_NODE_GPU,
        MODEL_NODE_UVM,
};

/* The calling process. pid is the process (thread group), not the thread. */
struct model_caller {
        pid_t pid;
        uid_t uid;
};

/* A sleeping call that its front can interrupt, when the caller gets a signal. The call then returns -EINTR where the
 * driver's would. Zero-initialise; may be NULL for calls that are never interrupted. */
struct model_wait {
        bool interrupted;
};

/* ---- life ---- */

int model_new(struct model **ret_model, const struct scenario *scenario);
/* Makes every sleeping call return -ESHUTDOWN, and stops timed events. Files may still be closed. */
void model_stop(struct model *model);
/* Call this after model_stop(), when no call is in the model any more. Frees the remaining files. */
void model_free(struct model *model);
void model_interrupt(struct model *model, struct model_wait *wait);

/* ---- files ---- */

/*
 * open(2) of a node. minor is used only for MODEL_NODE_GPU. nonblock is O_NONBLOCK: if the driver's version defers such
 * opens, returns at once and initialises on a thread of the model. Sleeps. Returns 0 or the driver's negative errno.
 */
int model_open(struct model *model, enum model_node node, unsigned minor, bool nonblock,
               const struct model_caller *caller, struct model_wait *wait, struct model_file **ret_file);

/* Opens by PCI address, blocking, for the nvidia-cfg shim. Returns -ENODEV if there is no such GPU. */
int model_open_address(struct model *model, const struct pci_address *address, const struct model_caller *caller,
                       struct model_wait *wait, struct model_file **ret_file);

/*
 * The last close of a file (release): drops its UVM registrations, attached GPUs and its use of a GPU. Sleeps while the
 * GPU is torn down. Never fails. If the file's deferred open is not done yet, leaves the close to a thread of the model
 * and returns, as the driver does for a killed process. For a live process, a front first calls model_wait_deferred(),
 * since the driver's close() waits for the deferred open.
 */
void model_close(struct model_file *file);

enum model_node model_file_node(const struct model_file *file);
struct model *model_file_model(const struct model_file *file);

/*
 * NV_ESC_WAIT_OPEN_COMPLETE: sleeps until a deferred open is done. *ret_rc is the result that a blocking open would
 * have returned, *ret_adapter_status its NV_STATUS. For MODEL_NODE_CTL both are 0. Returns 0; -EINTR; -EINVAL if the
 * scenario's driver does not have the ioctl.
 */
int model_wait_open(struct model_file *file, struct model_wait *wait, int *ret_rc, uint32_t *ret_adapter_status);

/* Whether a deferred open is not done. */
bool model_file_is_opening(struct model_file *file);
/* For a close: sleeps until a deferred open is done, whatever its result, or until interrupted. */
void model_wait_deferred(struct model_file *file, struct model_wait *wait);

/*
 * Every other ioctl on a GPU's file starts with this: sleeps until a deferred open is done. Returns 0, -EIO if it
 * failed, -EINVAL if the GPU is lost (surprise removal), or -EINTR.
 */
int model_file_usable(struct model_file *file, struct model_wait *wait);

/*
 * The result of poll(2) on a GPU's file, without sleeping: POLLERR while a deferred open is pending and after it
 * failed, POLLHUP if the GPU is lost by surprise, otherwise 0.
 */
short model_file_poll(struct model_file *file);

/* ---- reading (nothing is initialised) ---- */

struct model_numa {
        enum nv_numa_status status;
        bool auto_online;
        int node;
        uint64_t memblock_size, memory_address, memory_size;
};

struct model_gpu_view {
        struct scenario_gpu spec; /* the current values, which verbs change */
        unsigned minor;           /* MODEL_MINOR_NONE unless probed */
        bool bound;               /* listed by the driver (not unbound, not removed) */
        bool probed;              /* /proc directory exists: bound, or an unbind still waits for users */
        bool unbinding;           /* that unbind; sysfs has no links between device and driver any more */
        bool initialised;         /* also when only the legacy flag keeps it so */
        bool ever_initialised;    /* since then, Video BIOS and firmware are known */
        bool initialising;
        bool tearing_down;   /* after its last close; still initialised */
        bool interrupts;     /* message-signalled interrupts are on: from before an initialisation to the teardown */
        bool had_interrupts; /* at some time since the bind: sysfs then has the folder msi_irqs */
        unsigned usage_count;
        uint32_t adapter_status; /* NV_STATUS of the last initialisation; NV_ERR_INVALID_STATE: never tried */
        unsigned initialisations;
        unsigned teardowns;
        unsigned attachments;       /* files of nvidiactl that use it (NV_ESC_ATTACH_GPUS_TO_FD) */
        const char *compute_mode;   /* "Default", "Prohibited" or "Exclusive_Process" */
        unsigned uvm_registrations; /* if not 0, /proc/driver/nvidia-uvm/gpus/UUID exists */
        struct model_numa numa;
};

/*
 * Fills views with every GPU of the scenario, in order of minor, and returns their number. GPUs without a minor (see
 * bound, probed, spec.present) come last. views has room for SCENARIO_GPUS_MAX. Never sleeps.
 */
size_t model_list(struct model *model, struct model_gpu_view *views);
/* Sleeps while the driver's device-list lock is held, as NV_ESC_CARD_INFO does. */
void model_wait_device_list(struct model *model);
/* Sleeps while RM's API lock is held, as every call to RM does. */
void model_wait_api(struct model *model);
const struct scenario *model_scenario(const struct model *model);

/* ---- ioctls ---- */

/* NV_ESC_SYS_PARAMS: the first value stays. Returns -EBUSY for a different value. */
int model_set_sys_params(struct model *model, uint64_t memblock_size);

int model_numa_info(struct model_file *file, struct model_numa *ret_numa);
/* NV_ESC_SET_NUMA_STATUS. Returns -EINVAL for an invalid status, -EACCES unless the caller is root, -EBUSY for
 * OFFLINE_IN_PROGRESS if the GPU has more than one user. */
int model_numa_set(struct model_file *file, const struct model_caller *caller, int32_t status);

/*
 * NV_ESC_ATTACH_GPUS_TO_FD on a MODEL_NODE_CTL file: uses each GPU until the file is closed; zeros are skipped; once
 * per file, all or nothing. Every failure is -EINVAL. Sleeps.
 */
int model_attach(struct model_file *file, const uint32_t *gpu_ids, size_t n_gpu_ids, const struct model_caller *caller);

/* UVM on a MODEL_NODE_UVM file: return NV_STATUS. A registration uses the GPU as an open does. Sleeps (first user). */
uint32_t model_uvm_initialize(struct model_file *file, uint64_t flags);
uint32_t model_uvm_register(struct model_file *file, const uint8_t uuid[static NV_UUID_SIZE],
                            const struct model_caller *caller, struct model_wait *wait);
uint32_t model_uvm_unregister(struct model_file *file, const uint8_t uuid[static NV_UUID_SIZE]);
/* The shim's nvCfgEnable/DisableUVMPersistence on a GPU file. Return NV_STATUS. */
uint32_t model_uvm_persistence(struct model_file *file, bool enable);

/*
 * Sets RM's legacy flag. Returns -EPERM unless the caller has uid 0; -ENODEV if there is no such GPU, or if RM has no
 * object for it because it is not initialised.
 */
int model_legacy_set(struct model *model, unsigned minor, const struct model_caller *caller, bool enabled);

/*
 * Sets the drain state of a probed GPU. Returns -EPERM unless the caller has uid 0; -ENODEV if there is no such GPU.
 * With remove, a GPU that is not initialised is removed from the bus. The driver removes an initialised one at the last
 * close, which is not modelled.
 */
int model_drain(struct model *model, uint32_t gpu_id, const struct model_caller *caller, bool on, bool remove);

/*
 * Whether the process has the GPU's node open, for RM and UVM. The driver searches the caller's descriptors, including
 * descriptors received from another process, but the model knows only which process opened a file. A front that can
 * find this out (FUSE) sets a check with model_set_process_check() before the first open. Without a check, the process
 * that opened the file counts. The check is called with the model unlocked.
 */
typedef bool (*model_process_check)(void *user, pid_t pid, unsigned minor);
void model_set_process_check(struct model *model, model_process_check check, void *user);
bool model_process_has_gpu(struct model *model, pid_t pid, unsigned minor);

/*
 * Notices of binds and unbinds: `notify` of every listener is called after each of them, with the model unlocked, on
 * any thread. model_unlisten() ends a listener and waits for calls to it, so notify must not call it.
 */
struct model_listener {
        void (*notify)(struct model_listener *listener, uint32_t gpu_id, bool bind);
        LIST_ENTRY(model_listener) link;
};
void model_listen(struct model *model, struct model_listener *listener);
void model_unlisten(struct model *model, struct model_listener *listener);

/*
 * Sets the function that sends uevents about a GPU: "add" and "remove" (the bus), "bind" and "unbind" (the driver). It
 * is called after each event with the model locked, so the order is correct. It must not sleep or call the model. NULL
 * ends it.
 */
typedef void (*model_uevent)(void *user, const char *action, const struct pci_address *address);
void model_set_uevents(struct model *model, model_uevent uevent, void *user);

/* The same for lines that the driver writes to the kernel log, without the newline. */
typedef void (*model_kernel_line)(void *user, const char *line);
void model_set_kernel_log(struct model *model, model_kernel_line line, void *user);

/* ---- sysfs ---- */

/* The files below /sys/bus/pci by which a write changes a GPU. */
enum model_bus_file {
        MODEL_BUS_BIND,
        MODEL_BUS_REMOVE,
        MODEL_BUS_RESET,
        MODEL_BUS_UNBIND,
};

/* Returns 0 or the kernel's negative errno. An unbind and a removal sleep until the last user has closed the GPU. If
 * interrupted (-EINTR), they continue in the background. */
int model_bus_write(struct model *model, enum model_bus_file file, const struct pci_address *address,
                    const struct model_caller *caller, struct model_wait *wait);
/* Adds all GPUs that are not on the bus. Sleeps. */
void model_bus_rescan(struct model *model, const struct model_caller *caller);

/* ---- verbs ---- */

/*
 * A verb with its JSON arguments, as `holdfast-sim ctl` and a scenario's events give them (docs/simulator.md):
 * status, fail, hang, lose, drain, remove, add, unbind, bind, reset, set, legacy, fabric, journal. Sleeps where the
 * driver would: `unbind` and `remove` return when the last user has closed the GPU; if interrupted, they continue in
 * the background. arguments is an object or NULL. Returns a new reference to the result, or NULL with a sentence in
 * error.
 */
json_t *model_run_verb(struct model *model, const char *verb, json_t *arguments, const struct model_caller *caller,
                       struct model_wait *wait, char *error, size_t error_size);

/* Adds a line to the journal from a front. */
void model_note(struct model *model, const struct model_caller *caller, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Counts an unknown ioctl. `status` lists them. */
void model_note_unknown_ioctl(struct model *model, enum model_node node, const struct model_caller *caller,
                              unsigned long command);

bool model_has_verb(const char *verb);
