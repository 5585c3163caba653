/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/node/driver_files.h"
#include "cli/node/initialised.h"
#include "cli/node/settings_state.h"
#include "cli/node/snapshot_daemon.h"

/* If the daemon's list changes during each read: at most READS_MAX reads, and none that begins later than REPEATS_USEC
 * after the first began. */
enum { READS_MAX = 3 };
#define REPEATS_USEC (1 * USEC_PER_SEC)

void snapshot_done(struct snapshot **snapshot) {
        if (!*snapshot)
                return;
        free((*snapshot)->gpus);
        free((*snapshot)->holders);
        json_decref((*snapshot)->settings);
        free(*snapshot);
        *snapshot = NULL;
}

int snapshot_get_row(struct snapshot *snapshot, const struct pci_address *address, struct snapshot_gpu **ret_row) {
        struct snapshot_gpu *gpus;

        *ret_row = snapshot_find(snapshot, address);
        if (*ret_row)
                return 0;
        gpus = array_grown(snapshot->gpus, snapshot->n_gpus, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        snapshot->gpus = gpus;
        gpus[snapshot->n_gpus] = (struct snapshot_gpu){
                .info = {.address = *address, .minor = GPU_MINOR_UNKNOWN},
                .configured = HF_UNKNOWN,
                .held = HF_UNKNOWN,
                .initialised = HF_UNKNOWN,
                .legacy = HF_UNKNOWN,
        };
        *ret_row = &gpus[snapshot->n_gpus++];
        return 0;
}

/* ---- what the driver lists --------------------------------------------------- */

static int add_driver_row(struct snapshot *snapshot, const struct gpu_info *info) {
        struct snapshot_gpu *row;
        int r;

        r = snapshot_get_row(snapshot, &info->address, &row);
        if (r < 0)
                return r;
        row->info = *info;
        (void)text_printable(row->info.model);
        (void)text_printable(row->info.uuid);
        (void)text_printable(row->info.video_bios);
        row->in_driver = true;
        return 0;
}

static int copy_inventory(struct snapshot *snapshot, const struct snapshot *from) {
        snapshot->driver_loaded = from->driver_loaded;
        snapshot->n_untold = from->n_untold;
        snapshot->untold = from->untold;
        memcpy(snapshot->driver_version, from->driver_version, sizeof(snapshot->driver_version));
        for (size_t i = 0; i < from->n_gpus; i++) {
                int r = from->gpus[i].in_driver ? add_driver_row(snapshot, &from->gpus[i].info) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static int gather_inventory(struct snapshot *snapshot, const struct locations *locations) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        size_t n = 0;
        int r;

        r = driver_files_read(locations, &gpus, &n, &snapshot->n_untold, &snapshot->untold);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && r != -ENOENT)
                snapshot->inventory_error = r;
        snapshot->driver_loaded = r == 0;
        if (inventory_driver_version(locations, snapshot->driver_version, sizeof(snapshot->driver_version)) < 0)
                snapshot->driver_version[0] = '\0';

        for (size_t i = 0; i < n; i++) {
                r = add_driver_row(snapshot, &gpus[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- processes that have the nodes open -------------------------------------- */

/* Whether a GPU's node is unknown. Then it is also unknown which processes have that GPU open. */
static bool is_node_untold(const struct snapshot *snapshot) {
        each_gpu(gpu, snapshot)
                if (snapshot->n_untold > 0 && gpu->in_driver && gpu->info.minor == GPU_MINOR_UNKNOWN)
                        return true;
        return false;
}

static void assign_clients(struct snapshot *snapshot) {
        each_gpu(gpu, snapshot)
                for (size_t i = 0; i < snapshot->n_holders; i++) /* ordered by minor: a GPU's holders are neighbours */
                        if (snapshot->holders[i].minor == gpu->info.minor && gpu->n_clients++ == 0)
                                gpu->clients = &snapshot->holders[i];
}

static int gather_proof(struct snapshot *snapshot, const struct locations *locations) {
        int r = -ENOENT;

        if (snapshot->daemon == DAEMON_NVIDIA && snapshot->daemon_pid > 0)
                r = holders_scan_process(locations, snapshot->daemon_pid, &snapshot->holders, &snapshot->n_holders);
        if (r == -ENOMEM)
                return r;
        snapshot->clients_known = r == 0;
        if (r == 0)
                assign_clients(snapshot);
        return 0;
}

static int gather_clients(struct snapshot *snapshot, const struct locations *locations) {
        int r;

        r = holders_scan(locations, &snapshot->holders, &snapshot->n_holders, &snapshot->sight);
        if (r == -ENOMEM)
                return r;
        snapshot->clients_known = r == 0;
        snapshot->clients_complete = snapshot->sight.complete && !is_node_untold(snapshot);
        snapshot->modeset = holders_has_modeset(locations);
        if (r == 0)
                assign_clients(snapshot);
        return 0;
}

/* ---- the driver and the daemon ------------------------------------------------ */

static int gather_driver(struct snapshot *snapshot, const struct snapshot_request *request) {
        if (request->inventory && request->inventory->driver_loaded)
                return copy_inventory(snapshot, request->inventory);
        return gather_inventory(snapshot, request->locations);
}

static int gather_all(struct snapshot *snapshot, const struct snapshot_request *request) {
        int r = gather_driver(snapshot, request);

        if (r < 0 || !(request->flags & SNAPSHOT_DAEMON))
                return r;
        return snapshot_ask_daemon(snapshot, request->locations, request->timeout_usec);
}

/* The daemon reports an excluded GPU only as one that it may not open; the driver's file says that it is excluded. */
static int find_excluded(struct snapshot *snapshot, const struct locations *locations) {
        CLEANUP(free_ptr) struct gpu_info *infos = calloc(snapshot->n_gpus + 1, sizeof(*infos));
        size_t n = 0;

        if (!infos)
                return -ENOMEM;
        each_gpu(gpu, snapshot)
                if (gpu->detail.error_number == EPERM)
                        infos[n++].address = gpu->info.address;
        if (n > 0)
                driver_files_read_gpus(locations, infos, n);
        for (size_t i = 0; i < n; i++)
                snapshot_find(snapshot, &infos[i].address)->info.excluded = infos[i].excluded;
        return 0;
}

static int add_names(struct snapshot *snapshot, const struct locations *locations) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        struct snapshot_gpu *row;
        size_t n = 0;
        int r;

        r = inventory_read_addresses(locations, &gpus, &n);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        for (size_t i = 0; i < n; i++) {
                r = snapshot_get_row(snapshot, &gpus[i].address, &row);
                if (r < 0)
                        return r;
                row->in_driver = true;
        }
        return 0;
}

/* Our daemon answers one question about all GPUs. Another daemon is asked about each, so the list must be read first.
 */
static int gather_quick(struct snapshot *snapshot, const struct snapshot_request *request) {
        int r = snapshot_ask_daemon(snapshot, request->locations, request->timeout_usec);

        if (r == 0 && snapshot->daemon == DAEMON_HOLDFAST) {
                (void)inventory_driver_version(request->locations, snapshot->driver_version,
                                               sizeof(snapshot->driver_version));
                r = find_excluded(snapshot, request->locations);
                if (r == 0 && (request->flags & SNAPSHOT_NAMES))
                        r = add_names(snapshot, request->locations);
        }
        if (r < 0 || snapshot->daemon == DAEMON_HOLDFAST)
                return r;
        r = gather_driver(snapshot, request);
        if (r < 0 || snapshot->daemon == DAEMON_SILENT)
                return r;
        return snapshot_ask_daemon(snapshot, request->locations, request->timeout_usec);
}

/* ---- conclusions ------------------------------------------------------------- */

static enum hf_tristate find_initialised(const struct snapshot *snapshot, const struct snapshot_gpu *gpu,
                                         const struct locations *locations) {
        if (gpu->held == HF_YES)
                return HF_YES;
        if (!gpu->in_driver)
                return HF_UNKNOWN;
        return initialised_has_interrupts(locations, &gpu->info.address) ? HF_YES : HF_UNKNOWN;
}

/* A daemon may be opening a GPU, and a read of any GPU's `power` file (initialised.h) would wait for that. */
static bool may_ask_driver(const struct snapshot *snapshot) {
        return snapshot->daemon == DAEMON_NONE && snapshot->n_untold == 0;
}

/* A GPU whose `power` file cannot be read stays unknown. */
static int ask_driver_initialised(struct snapshot *snapshot, const struct locations *locations) {
        CLEANUP(free_ptr) struct pci_address *addresses = calloc(snapshot->n_gpus + 1, sizeof(*addresses));
        CLEANUP(free_ptr) enum hf_tristate *initialised = calloc(snapshot->n_gpus + 1, sizeof(*initialised));

        if (!addresses || !initialised)
                return -ENOMEM;
        each_gpu(gpu, snapshot)
                addresses[gpu->index] = gpu->info.address;
        driver_files_read_initialised(locations, addresses, snapshot->n_gpus, initialised);
        each_gpu(gpu, snapshot)
                gpu->initialised = initialised[gpu->index];
        return 0;
}

static int gather_initialised(struct snapshot *snapshot, const struct locations *locations) {
        if (may_ask_driver(snapshot))
                return ask_driver_initialised(snapshot, locations);
        each_gpu(gpu, snapshot)
                gpu->initialised = find_initialised(snapshot, gpu, locations);
        return 0;
}

/* The driver enables a GPU's interrupts at the begin of an initialisation, which may still fail, and disables them at
 * the end of the teardown. A GPU that failed is being retried. */
static bool is_changing(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot_has_detail(snapshot, gpu) &&
               (gpu->detail.state == HF_GPU_OPENING || gpu->detail.state == HF_GPU_CLOSING ||
                gpu->detail.state == HF_GPU_FAILED);
}

/* Whether the GPU is initialised although no process holds it, so that only the kernel's flag can keep it so. */
static bool seems_legacy(const struct snapshot *snapshot, const struct snapshot_gpu *gpu,
                         const struct locations *locations) {
        return gpu->legacy == HF_UNKNOWN && gpu->held == HF_NO && gpu->initialised == HF_YES &&
               snapshot->clients_known && snapshot->clients_complete && gpu->n_clients == 0 && !snapshot->modeset &&
               !is_changing(snapshot, gpu) && !initialised_has_uvm(locations, gpu->info.uuid);
}

struct suspects {
        size_t n;
        struct snapshot_gpu **gpus;
        struct pci_address *addresses;
        enum hf_tristate *initialised;
};

static void suspects_done(struct suspects *suspects) {
        free(suspects->gpus);
        free(suspects->addresses);
        free(suspects->initialised);
}

static int find_suspects(const struct snapshot *snapshot, const struct locations *locations,
                         struct suspects *suspects) {
        suspects->gpus = calloc(snapshot->n_gpus + 1, sizeof(struct snapshot_gpu *));
        suspects->addresses = calloc(snapshot->n_gpus + 1, sizeof(*suspects->addresses));
        suspects->initialised = calloc(snapshot->n_gpus + 1, sizeof(*suspects->initialised));
        if (!suspects->gpus || !suspects->addresses || !suspects->initialised)
                return -ENOMEM;
        each_gpu(gpu, snapshot)
                if (seems_legacy(snapshot, gpu, locations)) {
                        suspects->addresses[suspects->n] = gpu->info.address;
                        suspects->gpus[suspects->n++] = gpu;
                }
        return 0;
}

static bool has_holder(const struct holder *holders, size_t n, int minor) {
        for (size_t i = 0; i < n; i++)
                if (holders[i].minor == minor)
                        return true;
        return false;
}

/* Whether a read of `power` may wait for another GPU than its own. */
static bool may_driver_wait(const struct snapshot *snapshot) {
        each_gpu(gpu, snapshot)
                if (snapshot_has_detail(snapshot, gpu) &&
                    (gpu->detail.stuck || gpu->detail.state == HF_GPU_OPENING || gpu->detail.state == HF_GPU_CLOSING))
                        return true;
        return snapshot->n_untold > 0;
}

/*
 * The snapshot is not of one moment, so a GPU may seem to be kept by the flag for two other reasons. The driver may be
 * tearing it down after its last close: a read of `power` waits for the end of that. Or a client has opened it after
 * the look for clients: another look finds that client, or the next read finds the GPU torn down.
 */
static int infer_legacy(struct snapshot *snapshot, const struct locations *locations) {
        CLEANUP(suspects_done) struct suspects suspects = {0};
        CLEANUP(free_ptr) struct holder *holders = NULL;
        struct holders_sight sight;
        size_t n_holders = 0;
        int r;

        r = find_suspects(snapshot, locations, &suspects);
        if (r < 0 || suspects.n == 0 || may_driver_wait(snapshot))
                return r;
        driver_files_read_initialised(locations, suspects.addresses, suspects.n, suspects.initialised);
        r = holders_scan(locations, &holders, &n_holders, &sight);
        if (r == -ENOMEM)
                return r;
        driver_files_read_initialised(locations, suspects.addresses, suspects.n, suspects.initialised);
        for (size_t i = 0; i < suspects.n; i++) {
                struct snapshot_gpu *gpu = suspects.gpus[i];

                if (suspects.initialised[i] == HF_NO)
                        gpu->initialised = HF_NO;
                else if (suspects.initialised[i] == HF_YES && r == 0 && sight.complete &&
                         !has_holder(holders, n_holders, gpu->info.minor)) {
                        gpu->legacy = HF_YES;
                        gpu->legacy_inferred = true;
                }
        }
        return 0;
}

/* NVML's rule: a GPU is persistent when the daemon holds it, or the kernel's flag is on. */
static enum snapshot_persistence find_persistence(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        if (gpu->held == HF_YES || gpu->legacy == HF_YES)
                return PERSISTENCE_ON;
        if (gpu->held == HF_UNKNOWN)
                return PERSISTENCE_UNKNOWN;
        if (gpu->legacy == HF_NO || gpu->initialised == HF_NO || gpu->info.excluded)
                return PERSISTENCE_OFF;
        /* While another process keeps the GPU initialised the flag is unknown; if it is set, NVML reports "on". */
        return snapshot->daemon == DAEMON_NONE || (gpu->initialised == HF_YES && !is_changing(snapshot, gpu))
                       ? PERSISTENCE_UNKNOWN
                       : PERSISTENCE_OFF;
}

static int conclude(struct snapshot *snapshot, const struct locations *locations) {
        int r = infer_legacy(snapshot, locations);

        each_gpu(gpu, snapshot)
                gpu->persistence = find_persistence(snapshot, gpu);
        return r;
}

/* nvidia-smi does not count GPUs that are excluded from the driver, so these come last. */
static int compare_rows(const void *a, const void *b) {
        const struct snapshot_gpu *first = a, *second = b;

        if (first->info.excluded != second->info.excluded)
                return first->info.excluded ? 1 : -1;
        return pci_address_compare(&first->info.address, &second->info.address);
}

static void sort_rows(struct snapshot *snapshot) {
        if (snapshot->n_gpus > 0)
                qsort(snapshot->gpus, snapshot->n_gpus, sizeof(snapshot->gpus[0]), compare_rows);
        each_gpu(gpu, snapshot) {
                gpu->index = (size_t)(gpu - snapshot->gpus);
                text_set(gpu->label, "GPU %zu %s", gpu->index, pci_address_format(&gpu->info.address, gpu->address));
        }
}

/* Without a document, for whatever reason, nothing is reported of settings. */
static void gather_settings(struct snapshot *snapshot, const struct locations *locations) {
        if (settings_state_read(locations, &snapshot->settings) < 0)
                return;
        each_gpu(gpu, snapshot)
                gpu->settings = settings_state_find(snapshot->settings, gpu->address);
}

static int read_once(const struct snapshot_request *request, struct snapshot **ret_snapshot) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
        int r;

        if (!snapshot)
                return -ENOMEM;
        snapshot->realtime_usec = clock_realtime_usec();
        r = request->flags & SNAPSHOT_QUICK ? gather_quick(snapshot, request) : gather_all(snapshot, request);
        sort_rows(snapshot);
        if (r == 0 && (request->flags & SNAPSHOT_PROOF))
                r = gather_proof(snapshot, request->locations);
        if (r == 0 && (request->flags & SNAPSHOT_CLIENTS))
                r = gather_clients(snapshot, request->locations);
        if (r == 0 && (request->flags & SNAPSHOT_MODE))
                r = gather_initialised(snapshot, request->locations);
        if (r == 0 && (request->flags & SNAPSHOT_MODE))
                r = conclude(snapshot, request->locations);
        if (r < 0)
                return r;
        gather_settings(snapshot, request->locations);
        *ret_snapshot = take_ptr(snapshot);
        return 0;
}

/* Whether our daemon's list changed after it was read, so that it may contradict what was read later. */
static bool is_overtaken(const struct snapshot *snapshot, const struct snapshot_request *request) {
        CLEANUP(snapshot_done) struct snapshot *later = NULL;

        if (snapshot->daemon != DAEMON_HOLDFAST || !(request->flags & (SNAPSHOT_CLIENTS | SNAPSHOT_MODE)))
                return false;
        later = calloc(1, sizeof(*later));
        if (!later || snapshot_ask_daemon(later, request->locations, request->timeout_usec) < 0)
                return false;
        return later->daemon == DAEMON_HOLDFAST ? later->head.serial != snapshot->head.serial
                                                : later->daemon != DAEMON_SILENT;
}

int snapshot_read(const struct snapshot_request *request, struct snapshot **ret_snapshot) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        uint64_t start_usec = clock_monotonic_usec();

        for (unsigned n_reads = 1;; n_reads++) {
                int r = read_once(request, &snapshot);

                if (r < 0)
                        return r;
                if (n_reads == READS_MAX || clock_monotonic_usec() - start_usec > REPEATS_USEC ||
                    !is_overtaken(snapshot, request))
                        break;
                snapshot_done(&snapshot);
        }
        *ret_snapshot = take_ptr(snapshot);
        return 0;
}

/* ---- reading ----------------------------------------------------------------- */

bool snapshot_is_empty(const struct snapshot *snapshot) {
        return !snapshot->driver_loaded && snapshot->n_gpus == 0 && !snapshot_has_daemon(snapshot);
}

bool snapshot_has_daemon(const struct snapshot *snapshot) {
        return snapshot->daemon == DAEMON_HOLDFAST || snapshot->daemon == DAEMON_NVIDIA;
}

struct snapshot_gpu *snapshot_next(const struct snapshot *snapshot, const struct snapshot_gpu *gpu,
                                   bool only_selected) {
        for (size_t i = gpu ? (size_t)(gpu - snapshot->gpus) + 1 : 0; i < snapshot->n_gpus; i++)
                if (!only_selected || snapshot->gpus[i].selected)
                        return &snapshot->gpus[i];
        return NULL;
}

struct snapshot_gpu *snapshot_find(const struct snapshot *snapshot, const struct pci_address *address) {
        each_gpu(gpu, snapshot)
                if (pci_address_compare(&gpu->info.address, address) == 0)
                        return gpu;
        return NULL;
}

const char *snapshot_untold(const struct snapshot *snapshot, char *buffer, size_t size) {
        char address[PCI_ADDRESS_SIZE];

        if (snapshot->n_untold == 0)
                return NULL;
        (void)text_format(buffer, size,
                          "the driver does not answer a read of /proc/driver/nvidia/gpus/%s/information: the details "
                          "of %zu GPU%s are unknown, perhaps because a GPU hangs in its initialisation",
                          pci_address_format(&snapshot->untold, address), snapshot->n_untold,
                          text_plural(snapshot->n_untold));
        return buffer;
}

const char *snapshot_gap(const struct snapshot *snapshot, const char *hidden, char *buffer, size_t size) {
        char address[PCI_ADDRESS_SIZE];

        if (snapshot->clients_complete)
                return NULL;
        if (snapshot->sight.n_hanging > 0)
                (void)text_format(buffer, size,
                                  "clients may be missing: reading the open files of process %d hangs; %zu "
                                  "process%s left out. Look at that process, and at its file systems.",
                                  (int)snapshot->sight.hanging_pid, snapshot->sight.n_hanging,
                                  snapshot->sight.n_hanging == 1 ? " was" : "es were");
        else if (!snapshot->sight.complete)
                (void)text_copy(buffer, size, hidden);
        else
                (void)text_format(buffer, size,
                                  "clients may be missing: the driver does not report which device node belongs to %s.",
                                  pci_address_format(&snapshot->untold, address));
        return buffer;
}

size_t snapshot_count_held(const struct snapshot *snapshot) {
        size_t n = 0;

        each_gpu(gpu, snapshot)
                n += gpu->held == HF_YES;
        return n;
}

size_t snapshot_count_differing(const struct snapshot *snapshot) {
        size_t n = 0;

        each_selected(gpu, snapshot)
                n += settings_state_count_differing(gpu->settings);
        return n;
}

bool snapshot_has_detail(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot->daemon == DAEMON_HOLDFAST && gpu->in_daemon;
}

bool snapshot_is_unlisted(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        return snapshot->daemon == DAEMON_HOLDFAST && gpu->in_driver && !gpu->in_daemon && !gpu->info.excluded;
}

bool snapshot_has_unlisted(const struct snapshot *snapshot) {
        each_gpu(gpu, snapshot)
                if (snapshot_is_unlisted(snapshot, gpu))
                        return true;
        return false;
}

bool snapshot_has_failed(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        const struct hf_gpu *detail = &gpu->detail;

        return snapshot_has_detail(snapshot, gpu) &&
               (detail->state == HF_GPU_FAILED || (detail->state == HF_GPU_OPENING && detail->error_number != 0));
}

int32_t snapshot_find_daemon(const struct snapshot *snapshot) {
        if (snapshot->daemon_pid > 1)
                return snapshot->daemon_pid;
        return snapshot->daemon == DAEMON_HOLDFAST ? (int32_t)snapshot->head.pid : 0;
}

bool snapshot_is_daemon(const struct snapshot *snapshot, const struct holder *holder) {
        int32_t daemon_pid = snapshot_find_daemon(snapshot);

        return holder->is_keeper || (daemon_pid != 0 && holder->pid == daemon_pid);
}

bool snapshot_is_client(const struct snapshot *snapshot, const struct holder *holder) {
        if (holder->pid == getpid())
                return false; /* we may have inherited a descriptor, which is closed when we end */
        return !snapshot_is_daemon(snapshot, holder);
}

const char *snapshot_daemon_word(const struct snapshot *snapshot) {
        static const char *const words[] = {
                [DAEMON_NONE] = "none",
                [DAEMON_SILENT] = "silent",
                [DAEMON_HOLDFAST] = "holdfast",
                [DAEMON_NVIDIA] = "nvidia",
        };

        return words[snapshot->daemon];
}

static const char *state_by_holdfast(const struct snapshot_gpu *gpu) {
        if (!gpu->in_daemon)
                return "unknown";
        if (gpu->detail.stuck)
                return "stuck";
        if (gpu->detail.leased && gpu->detail.state == HF_GPU_RELEASED)
                return "leased";
        return hf_gpu_state_name(gpu->detail.state);
}

const char *snapshot_state(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        static const char *const by_held[] = {[HF_NO] = "released", [HF_YES] = "held", [HF_UNKNOWN] = "unknown"};
        static const char *const by_driver[] = {
                [HF_NO] = "not initialised",
                [HF_YES] = "initialised",
                [HF_UNKNOWN] = "unknown",
        };

        if (gpu->info.excluded)
                return "excluded";
        switch (snapshot->daemon) {
        case DAEMON_HOLDFAST:
                return state_by_holdfast(gpu);
        case DAEMON_NVIDIA:
                return by_held[gpu->held];
        case DAEMON_NONE:
        case DAEMON_SILENT:
                break;
        }
        return by_driver[gpu->initialised];
}
