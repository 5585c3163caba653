#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The RPC client: one connection to a persistence daemon, ours or NVIDIA's. Each call blocks at most for the
 * connection's timeout. A failed call returns a negative errno; client_error() returns the sentence for it.
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
 * Connects to the socket at path; timeout_usec bounds each call from then on. Returns 0; -ENOENT (no socket, so no
 * daemon), -ECONNREFUSED (a dead daemon left its socket), -EACCES, or other negative errno.
 */
int client_connect(struct client **ret_client, const char *path, uint64_t timeout_usec);
/*
 * For a client_connect() to path that failed with error: writes a sentence into buffer that says what failed, why, and
 * what to do.
 */
void client_connect_error(char *buffer, size_t size, const char *path, int error);
struct client *client_free(struct client *client);
/* For CLEANUP(client_done). */
void client_done(struct client **client);

/* The pid of the daemon from the kernel (SO_PEERCRED); 0: unknown. */
int32_t client_peer_pid(const struct client *client);

/* The sentence for the last failed call on this connection; "" if there is none. Valid until the next call. */
const char *client_error(const struct client *client);

/*
 * Program 35006. Returns 0 if an answer came; *ret_status is then the daemon's enum nvpd_status. -ETIMEDOUT: no answer
 * in time (the next call skips a late one). -EPROTO: an invalid answer. -EOPNOTSUPP: the daemon does not know the
 * procedure. -ECONNRESET: the daemon closed the connection. Once the connection is broken, every call returns
 * -ENOTCONN.
 */
int client_get_mode(struct client *client, const struct pci_address *address, uint32_t *ret_status, bool *ret_enabled);
int client_set_mode(struct client *client, const struct pci_address *address, bool enabled, uint32_t *ret_status);

/*
 * Holdfast's own program. -EOPNOTSUPP: this is another daemon (NVIDIA's). *ret_gpus is an array of ret_head->n_gpus
 * items that the caller frees.
 */
int client_list(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);

/*
 * Waits until the serial of the list differs from this one, and returns the list. If nothing changes, the daemon
 * answers within a minute; if the connection's timeout is shorter, the call returns -ETIMEDOUT.
 */
int client_watch(struct client *client, uint64_t serial, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);

/*
 * The same in two steps, with no other call between them. Between them, the caller can poll client_fd() together with
 * other descriptors: it becomes readable when the answer has arrived or the daemon is gone. client_fd() returns -1 once
 * the connection is broken.
 */
int client_watch_begin(struct client *client, uint64_t serial);
int client_watch_end(struct client *client, struct hf_list_head *ret_head, struct hf_gpu **ret_gpus);
int client_fd(const struct client *client);

/*
 * The configuration of each GPU, as an array of *ret_n items that the caller frees. -EOPNOTSUPP also from a daemon of
 * version 0.1, which does not have this call.
 */
int client_configured(struct client *client, struct hf_gpu_configured **ret_gpus, size_t *ret_n);

/* Converts the address of an item of either list. */
struct pci_address client_address(const struct hf_address *address);

int client_stats(struct client *client, struct hf_stats *ret_stats);

/*
 * Begins a lease: these GPUs (n is 0: all) are released, and stay released until this connection ends, for whatever
 * reason. The answer comes when they are released. *ret_status is NVPD_SUCCESS; NVPD_DRIVER (one GPU cannot be
 * released, but the lease exists); or another status if there is no lease. n is at most HF_GPUS_MAX.
 */
int client_lease(struct client *client, const struct pci_address *addresses, size_t n, uint32_t *ret_status);

/*
 * Writes the path of the daemon's socket: "/var/run/nvidia-persistenced/socket", or <root>/run/... with another root.
 * Returns 0 or -ENAMETOOLONG.
 */
int client_socket_path(char *buffer, size_t size, const struct locations *locations);

/*
 * Removes the socket that a killed daemon left. Call this after client_connect() returned -ECONNREFUSED. Locks the pid
 * file beside it, so that no daemon can start meanwhile. Returns 0, also if the socket is already gone; -EBUSY if a
 * daemon has locked the pid file; or other negative errno.
 */
int client_remove_dead_socket(const char *path);
