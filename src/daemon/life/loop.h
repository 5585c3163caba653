#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The event loop, and the signals that it handles: TERM, INT, USR1 and HUP. */

#include <event2/event.h>

enum { LOOP_SIGNALS = 4 };

struct loop {
        struct event_base *base;
        struct event *signals[LOOP_SIGNALS];
};

/* Returns 0 or -ENOMEM (logged). Call loop_done() in either case. */
int loop_init(struct loop *loop, void (*on_signal)(evutil_socket_t number, short what, void *userdata), void *userdata);
void loop_done(struct loop *loop);

/* Frees an event and sets it to NULL. *event may be NULL. */
void loop_free_event(struct event **event);
