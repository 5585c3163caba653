#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The RPC client: one connection to a persistence daemon, ours or NVIDIA's. Calls block at most until the connection's
 * deadline. A call fails with a negative errno; client_error() returns the sentence for it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/locations.h"
#include "gpu/pci.h"
#include "rpc/holdfast.h"
#include "rpc/nvpd.h"

struct client;

/*
 * Connects to the socket at path; timeout_usec bounds each call from then on. Returns 0; -ENOENT (no socket: no
 * daemon), -ECONNREFUSED (a socket left behind by a dead daemon), -EACCES, or other negative errno.
 */
int client_connect(struct client **ret_client, const char *path, uint64_t timeout_usec);
/* Puts the sentence for a client_connect() to path that failed with error into buffer: what, why, what to do. */
void client_connect_error(char *buffer, size_t size, const char *path, int error);
struct client *client_free(struct client *client);
/* For CLEANUP(client_done). */
void client_done(struct client **client);

/* The pid of the daemon that listens, as the kernel tells it (SO_PEERCRED), or 0. */
int32_t client_peer_pid(const struct client *client);

/* The sentence for the last call that failed on this connection; "" before the first. Valid until the next call. */
const char *client_error(const struct client *client);

/*
 * Program 35006. They return 0 when an answer came; *ret_status is then the daemon's enum nvpd_status. -ETIMEDOUT: no
 * answer in time (a late one is skipped by the next call). -EPROTO: an invalid answer. -EOPNOTSUPP: the daemon does not
 * know the procedure. -ECONNRESET: it closed the connection. Once the stream is out of step every call is -ENOTCONN.
 */
int client_get_mode(struct client *client, const struct pci_address *address, uint32_t *ret_status, bool *ret_enabled);
int client_set_mode(struct client *client, const struct pci_address *address, bool enabled, uint32_t *ret_status);

/*
 * Holdfast's own program. -EOPNOTSUPP: another daemon (NVIDIA's) answers here.
 * *ret_gpus is an array of ret_head->n_gpus that the caller frees.
 */
int client_list(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);

/*
 * The same list, as soon as its serial is another than this. Without news the daemon answers within a minute; a shorter
 * time limit of the connection gives -ETIMEDOUT.
 */
int client_watch(struct client *client, uint64_t serial, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);

/*
 * The same in two steps: begun, the descriptor is polled, along with others; readable, it has the answer, or the daemon
 * is gone. -1 once the connection broke. No other call in between.
 */
int client_watch_begin(struct client *client, uint64_t serial);
int client_watch_end(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);
int client_fd(const struct client *client);

/*
 * What the configuration says of each GPU, an array of *ret_n that the caller frees. Also -EOPNOTSUPP: a daemon of
 * version 0.1, which does not tell.
 */
int client_configured(struct client *client, struct hf_gpu_configured **ret_gpus, size_t *ret_n);

/* The address of a row of either list. */
struct pci_address client_address(const struct hf_address *address);

int client_stats(struct client *client, struct hf_stats *ret_stats);

/*
 * A lease: these GPUs are released, n of 0 meaning all, and stay released until this connection ends, however it ends.
 * The answer comes when they are released. *ret_status: NVPD_SUCCESS; NVPD_DRIVER (one of them cannot be released; the
 * lease exists nevertheless); with any other there is no lease. n is at most HF_GPUS_MAX.
 */
int client_lease(struct client *client, const struct pci_address *addresses, size_t n, uint32_t *ret_status);

/* Where the daemon's socket is: "/var/run/nvidia-persistenced/socket", or <root>/run/... with a root. */
int client_socket_path(char *buffer, size_t size, const struct locations *locations);

/*
 * Removes the socket that a killed daemon left, to which a connection was refused. No daemon can start meanwhile: the
 * pid file beside it is locked. Returns 0, also when it was gone already; -EBUSY: a daemon has the pid file locked; or
 * negative errno.
 */
int client_remove_dead_socket(const char *path);
