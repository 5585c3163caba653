#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The log of refused calls. Each user has a budget of lines in each minute, so that nobody fills the log or hides
 * another in it; what was left out is counted, and told when the minute is over. Users beyond a number share a budget.
 */

#include <event2/event.h>

#include "daemon/serve/peer.h"

enum { REFUSALS_USERS_MAX = 16, REFUSALS_LINES_MAX = 5, REFUSALS_WINDOW_SEC = 60 };

struct refusals {
        struct event *window; /* pending while one is open */
        struct refusals_user {
                uid_t uid;
                unsigned n; /* 0: free */
        } users[REFUSALS_USERS_MAX];
        unsigned n_others;
};

int refusals_init(struct refusals *refusals, struct event_base *loop);
void refusals_done(struct refusals *refusals);

/* Logs that the peer was refused this call, for that reason, or counts it. */
void refusals_log(struct refusals *refusals, const struct peer *peer, const char *call, const char *reason);
