#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The RPC methods: one table with program, version, procedure and who may call. A record goes in, a reply goes out
 * through the session, at once or when the GPU has done what was asked.
 */

#include "daemon/registry.h"
#include "daemon/session.h"

struct methods {
        struct registry *registry;
        const char *backend;            /* name, for List */
        uint64_t started_realtime_usec; /* likewise */
};

/* Answers a record; the session's on_record. userdata is a struct methods. */
void methods_on_record(struct session *session, const uint8_t *record, size_t length, void *userdata);
