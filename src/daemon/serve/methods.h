#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The RPC methods: a table of program, version, procedure and permission. Each takes a record and replies through the
 * session, at once or when the job of the GPU is done.
 */

#include <sys/queue.h>

#include "daemon/gpus/registry.h"
#include "daemon/serve/peer.h"
#include "daemon/serve/refusals.h"
#include "daemon/serve/server.h"

struct watcher;

struct methods {
        struct registry *registry;
        struct server *server;
        const char *backend; /* name, for List */
        struct peer_policy policy;
        uint64_t started_realtime_usec;

        uint64_t serial;  /* begins with the time of the start, and grows with every change of the list */
        uint8_t *list;    /* the encoded list with that serial; NULL: none */
        size_t list_size; /* bytes */

        LIST_HEAD(, watcher) watchers; /* Watch calls that wait for a change */
        struct event *heartbeat;       /* answers them once a minute even if nothing changed */
        uint64_t calls;
        uint64_t rejected;
        uint64_t refused;
        struct refusals refusals;
};

/* The caller sets registry, server (before the first record) and policy. */
int methods_init(struct methods *methods, struct event_base *loop, const char *backend);
void methods_done(struct methods *methods);

/* Answers a record; the on_record callback of sessions. userdata is a struct methods. */
void methods_on_record(struct session *session, const uint8_t *record, size_t length, void *userdata);

/* Call this when the registry changed. If the change is visible in the list, all Watch calls are answered. */
void methods_on_change(struct methods *methods);
