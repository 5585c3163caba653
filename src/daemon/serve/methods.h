#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The RPC methods: one table with program, version, procedure and who may call. A record goes in, a reply goes out
 * through the session, at once or when the GPU has done what was asked.
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

        uint64_t serial;  /* grows with every change of anything in the list */
        uint8_t *list;    /* as it was then */
        size_t list_size; /* bytes */

        LIST_HEAD(, watcher) watchers; /* Watch calls that wait for a change */
        struct event *heartbeat;       /* answers them all the same, once a minute */
        uint64_t calls;
        uint64_t rejected;
        uint64_t refused;
        struct refusals refusals;
};

/* The caller fills in registry, server (before the first record) and policy. */
int methods_init(struct methods *methods, struct event_base *loop, const char *backend);
void methods_done(struct methods *methods);

/* Answers a record; the session's on_record. userdata is a struct methods. */
void methods_on_record(struct session *session, const uint8_t *record, size_t length, void *userdata);

/* Something in the registry changed: when the list shows it, those who watch are answered. */
void methods_on_change(struct methods *methods);
