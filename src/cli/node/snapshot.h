#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What is known of this node's GPUs without opening one, in plain structs: what the driver lists, what the daemon
 * reports (ours everything, NVIDIA's held or not), and which processes have the nodes open.
 *
 *      /proc/driver/nvidia --\
 *      daemon: List or Get ---+--> rows by PCI address --> persistence mode, and what keeps it on
 *      /proc/PID/fd ----------+
 *      holdfast-settings' file/
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/locations.h"
#include "cli/node/holders.h"
#include "gpu/inventory.h"
#include "rpc/holdfast.h"
#include "rpc/nvpd.h"

enum snapshot_flags {
        SNAPSHOT_DAEMON = 1 << 0,  /* ask the daemon */
        SNAPSHOT_CLIENTS = 1 << 1, /* look through all processes' descriptors */
        SNAPSHOT_MODE = 1 << 2,    /* find the persistence mode; without a daemon asks the driver, which may wait */
        SNAPSHOT_PROOF = 1 << 3,   /* if the daemon is NVIDIA's, read which nodes it has open: fills in `clients` */
        SNAPSHOT_QUICK = 1 << 4,   /* do not read the driver's list if our daemon answers */
        SNAPSHOT_NAMES = 1 << 5,   /* with SNAPSHOT_QUICK: read only the addresses of that list, which never waits */
};

struct snapshot_request {
        const struct locations *locations;
        unsigned flags;
        uint64_t timeout_usec; /* for each question to the daemon */
        /* Take the driver's list from there instead of reading it again: the driver logs a line for each read of a GPU
         * that was never initialised. */
        const struct snapshot *inventory;
};

enum snapshot_daemon {
        DAEMON_NONE,     /* nothing listens */
        DAEMON_SILENT,   /* something listens, but does not answer us */
        DAEMON_HOLDFAST, /* List */
        DAEMON_NVIDIA,   /* Get only: NVIDIA's, or a compatible one */
};

enum { SNAPSHOT_LABEL_SIZE = 24 + PCI_ADDRESS_SIZE };

enum snapshot_persistence {
        PERSISTENCE_OFF,
        PERSISTENCE_ON,
        PERSISTENCE_UNKNOWN,
};

struct snapshot_gpu {
        size_t index;                    /* of its row */
        bool selected;                   /* the command is about this GPU (cli/args/ids.h) */
        char label[SNAPSHOT_LABEL_SIZE]; /* "GPU 3 0000:5d:00.0": how lines about it begin */
        char address[PCI_ADDRESS_SIZE];
        struct gpu_info info;
        bool in_driver;               /* the driver lists it */
        bool in_daemon;               /* DAEMON_HOLDFAST: `detail` is its row; DAEMON_NVIDIA: it knows the GPU */
        struct hf_gpu detail;         /* strings made printable */
        uint32_t get_status;          /* DAEMON_NVIDIA: enum nvpd_status */
        enum hf_tristate configured;  /* the daemon's options and file hold it; NVIDIA's does not report it */
        enum hf_tristate held;        /* by the daemon */
        enum hf_tristate initialised; /* in the driver, by any process */
        enum hf_tristate legacy;      /* the kernel's persistence flag */
        bool legacy_inferred;         /* not read, but inferred: it is initialised although no process has it open */
        const struct holder *clients; /* processes that have its node open, the daemon's too */
        size_t n_clients;
        enum snapshot_persistence persistence;
        const json_t *settings; /* holdfast-settings.service's row (settings_state.h), or NULL */
};

struct snapshot {
        uint64_t realtime_usec; /* when it was taken */
        bool driver_loaded;
        char driver_version[32]; /* empty: not known */
        int inventory_error;     /* negative errno other than -ENOENT: the driver's list cannot be read */
        size_t n_untold;         /* GPUs whose file did not answer in time; minor is -1 unless the daemon reports it */
        struct pci_address untold; /* the first of them */
        enum snapshot_daemon daemon;
        struct hf_list_head head; /* DAEMON_HOLDFAST; strings made printable */
        int32_t daemon_pid;       /* 0: not known */
        char daemon_socket[128];
        char daemon_error[384]; /* why there is no answer, a sentence; empty when there is one */
        int daemon_errno;       /* the negative errno to that */
        size_t n_gpus;
        struct snapshot_gpu *gpus;  /* by PCI address; those excluded from the driver last, as nvidia-smi counts */
        bool clients_known;         /* SNAPSHOT_CLIENTS or SNAPSHOT_PROOF was requested and has succeeded */
        bool clients_complete;      /* no process was hidden, and every GPU's node is known */
        struct holders_sight sight; /* which processes were seen */
        bool modeset;               /* nvidia-drm holds every GPU from inside the kernel */
        size_t n_holders;
        struct holder *holders;
        json_t *settings; /* the settings service's document; NULL: it does not run */
};

/* Takes a snapshot. Returns 0, also if there is neither driver nor daemon, or -ENOMEM. */
int snapshot_read(const struct snapshot_request *request, struct snapshot **ret_snapshot);

/* For CLEANUP(snapshot_done). */
void snapshot_done(struct snapshot **snapshot);

/* Whether there is neither a driver nor a daemon. */
bool snapshot_is_empty(const struct snapshot *snapshot);

/* Loops over all rows, or the selected ones: each_gpu(gpu, snapshot) puts(gpu->label); */
#define each_gpu(gpu, snapshot) for (struct snapshot_gpu *gpu = NULL; (gpu = snapshot_next(snapshot, gpu, false));)
#define each_selected(gpu, snapshot) for (struct snapshot_gpu *gpu = NULL; (gpu = snapshot_next(snapshot, gpu, true));)

/* The row after that one, or the first after NULL; NULL at the end. */
struct snapshot_gpu *snapshot_next(const struct snapshot *snapshot, const struct snapshot_gpu *gpu, bool only_selected);

/*
 * Whether the driver lists a GPU that our daemon does not list. Mostly this lasts for milliseconds: the daemon learns
 * of a bind by events, and then reads the driver's list, a read that waits while a GPU is being initialised.
 */
bool snapshot_is_unlisted(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);
bool snapshot_has_unlisted(const struct snapshot *snapshot);

/* Whether a daemon answers, ours or NVIDIA's. */
bool snapshot_has_daemon(const struct snapshot *snapshot);

/* The GPU's row, or NULL. */
struct snapshot_gpu *snapshot_find(const struct snapshot *snapshot, const struct pci_address *address);

enum { SNAPSHOT_GAP_SIZE = 256 };

/*
 * Why clients are not complete, a sentence with what to do, or NULL if they are. hidden: the sentence for processes of
 * other users that cannot be seen.
 */
const char *snapshot_gap(const struct snapshot *snapshot, const char *hidden, char *buffer, size_t size);

/* What the driver did not report in time, a sentence without full stop; or NULL. */
const char *snapshot_untold(const struct snapshot *snapshot, char *buffer, size_t size);

size_t snapshot_count_held(const struct snapshot *snapshot);

/* The number of the selected GPUs' settings that are not as wanted, and of their failed hooks. */
size_t snapshot_count_differing(const struct snapshot *snapshot);

/* Whether our daemon answers and knows the GPU, so that `detail` is its row. */
bool snapshot_has_detail(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);

/* Whether its last initialisation failed; true also during a retry, when the daemon reports "opening". */
bool snapshot_has_failed(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);

/*
 * The daemon's pid; 0: unknown. For a socket that systemd made, the kernel reports process 1; only our daemon reports
 * its own pid.
 */
int32_t snapshot_find_daemon(const struct snapshot *snapshot);

/* Whether the process is the daemon, or its keeper, which has copies of its descriptors. */
bool snapshot_is_daemon(const struct snapshot *snapshot, const struct holder *holder);

/* Whether the process is neither the daemon, nor its keeper, nor this process. */
bool snapshot_is_client(const struct snapshot *snapshot, const struct holder *holder);

/* The daemon in JSON: "none", "silent", "holdfast", "nvidia". */
const char *snapshot_daemon_word(const struct snapshot *snapshot);

/*
 * The GPU's state: "released", "opening", "held", "closing", "failed", "stuck", "leased", "excluded", "initialised",
 * "not initialised", or "unknown".
 */
const char *snapshot_state(const struct snapshot *snapshot, const struct snapshot_gpu *gpu);
