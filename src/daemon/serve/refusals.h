#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Logs refused calls. Each user has a budget of lines per minute, so that nobody can fill the log, or use up the lines
 * of another user. Further calls are counted, and their number is logged at the end of the minute. Users beyond
 * REFUSALS_USERS_MAX share one budget.
 */

#include <event2/event.h>

#include "daemon/serve/peer.h"

enum { REFUSALS_USERS_MAX = 16, REFUSALS_LINES_MAX = 5, REFUSALS_WINDOW_SEC = 60 };

struct refusals {
        struct event *window; /* pending while a minute is running */
        struct refusals_user {
                uid_t uid;
                unsigned n; /* 0: free */
        } users[REFUSALS_USERS_MAX];
        unsigned n_others;
};

int refusals_init(struct refusals *refusals, struct event_base *loop);
void refusals_done(struct refusals *refusals);

/* Logs that this call of the peer was refused, and the reason; or only counts it, if the budget is used up. */
void refusals_log(struct refusals *refusals, const struct peer *peer, const char *call, const char *reason);
