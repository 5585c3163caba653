/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/snapshot_daemon.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/locations.h"
#include "base/text.h"
#include "client/client.h"

static void set_held_of_all(struct snapshot *snapshot, enum hf_tristate held) {
        each_gpu(gpu, snapshot)
                gpu->held = held;
}

/* ---- no answer --------------------------------------------------------------- */

static void note_no_connection(struct snapshot *snapshot, int error) {
        const char *path = snapshot->daemon_socket;

        snapshot->daemon_errno = error;
        snapshot->daemon = error == -ENOENT || error == -ECONNREFUSED ? DAEMON_NONE : DAEMON_SILENT;
        if (error == -ENOENT)
                text_set(snapshot->daemon_error, "no persistence daemon is running: there is no socket %s", path);
        else if (error == -ECONNREFUSED)
                text_set(snapshot->daemon_error, "no persistence daemon is running: no process listens on %s any more",
                         path);
        else
                text_set(snapshot->daemon_error, "cannot connect to the persistence daemon at %s: %s", path,
                         strerror(-error));
        if (snapshot->daemon == DAEMON_NONE)
                set_held_of_all(snapshot, HF_NO);
}

static void note_no_answer(struct snapshot *snapshot, int error, const struct client *client) {
        snapshot->daemon = DAEMON_SILENT;
        snapshot->daemon_errno = error;
        text_set(snapshot->daemon_error, "%s", client_error(client));
}

/* ---- Holdfast: List ---------------------------------------------------------- */

static int take_detail(struct snapshot *snapshot, const struct hf_gpu *detail) {
        const struct pci_address address = client_address(&detail->address);
        struct snapshot_gpu *row;
        int r;

        r = snapshot_get_row(snapshot, &address, &row);
        if (r < 0)
                return r;
        row->detail = *detail;
        (void)text_printable(row->detail.uuid);
        (void)text_printable(row->detail.model);
        (void)text_printable(row->detail.error_text);
        (void)text_printable(row->detail.uvm_text);
        row->in_daemon = true;
        row->held = detail->state == HF_GPU_HELD ? HF_YES : HF_NO;
        row->legacy = detail->legacy_flag;

        /* The driver reports some of this only after the first initialisation, and with the nvidia-cfg backend never.
         */
        if (row->info.uuid[0] == '\0')
                text_set(row->info.uuid, "%s", row->detail.uuid);
        if (row->info.model[0] == '\0')
                text_set(row->info.model, "%s", row->detail.model);
        if (row->info.minor == GPU_MINOR_UNKNOWN)
                row->info.minor = detail->minor;
        return 0;
}

static int take_list(struct snapshot *snapshot, const struct hf_gpu *details) {
        (void)text_printable(snapshot->head.version);
        (void)text_printable(snapshot->head.backend);
        snapshot->daemon = DAEMON_HOLDFAST;
        set_held_of_all(snapshot, HF_NO);
        for (uint32_t i = 0; i < snapshot->head.n_gpus; i++) {
                int r = take_detail(snapshot, &details[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int take_configured(struct snapshot *snapshot, struct client *client) {
        CLEANUP(free_ptr) struct hf_gpu_configured *gpus = NULL;
        size_t n = 0;
        int r;

        r = client_configured(client, &gpus, &n);
        if (r < 0)
                return r == -EOPNOTSUPP ? 0 : r;
        for (size_t i = 0; i < n; i++) {
                const struct pci_address address = client_address(&gpus[i].address);
                struct snapshot_gpu *gpu = snapshot_find(snapshot, &address);

                if (gpu)
                        gpu->configured = gpus[i].persistence ? HF_YES : HF_NO;
        }
        return 0;
}

/* ---- NVIDIA's: Get for each GPU ---------------------------------------------- */

static int ask_get(struct client *client, struct snapshot_gpu *gpu) {
        bool enabled = false;
        int r;

        r = client_get_mode(client, &gpu->info.address, &gpu->get_status, &enabled);
        if (r < 0)
                return r;
        gpu->in_daemon = gpu->get_status != NVPD_DEVICE_NOT_FOUND;
        if (gpu->get_status == NVPD_SUCCESS)
                gpu->held = enabled ? HF_YES : HF_NO;
        else if (gpu->get_status == NVPD_DEVICE_NOT_FOUND)
                gpu->held = HF_NO;
        return 0;
}

static int ask_get_all(struct snapshot *snapshot, struct client *client) {
        snapshot->daemon = DAEMON_NVIDIA;
        each_gpu(gpu, snapshot) {
                int r = ask_get(client, gpu);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* ----------------------------------------------------------------------------- */

int snapshot_ask_daemon(struct snapshot *snapshot, const struct locations *locations, uint64_t timeout_usec) {
        CLEANUP(client_done) struct client *client = NULL;
        CLEANUP(free_ptr) struct hf_gpu *details = NULL;
        int r;

        r = client_socket_path(snapshot->daemon_socket, sizeof(snapshot->daemon_socket), locations);
        if (r == 0)
                r = client_connect(&client, snapshot->daemon_socket, timeout_usec);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                note_no_connection(snapshot, r);
                return 0;
        }

        snapshot->daemon_pid = client_peer_pid(client);
        r = client_list(client, &snapshot->head, &details);
        if (r == 0) {
                r = take_list(snapshot, details);
                if (r == 0)
                        r = take_configured(snapshot, client);
        } else if (r == -EOPNOTSUPP)
                r = ask_get_all(snapshot, client);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                note_no_answer(snapshot, r, client);
        return 0;
}
