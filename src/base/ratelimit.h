#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Limits how often something happens in an interval, for example so that no client can fill the log. */

#include <stdbool.h>

#include "base/clock.h"

struct ratelimit {
        unsigned burst;
        uint64_t interval_usec;
        uint64_t begin_usec;
        unsigned count;
};

#define RATELIMIT(burst_, interval_sec_)                                                                               \
        { .burst = (burst_), .interval_usec = (interval_sec_)*USEC_PER_SEC }

static inline bool ratelimit_pass(struct ratelimit *limit) {
        uint64_t now_usec = clock_monotonic_usec();

        if (limit->begin_usec == 0 || now_usec >= limit->begin_usec + limit->interval_usec) {
                limit->begin_usec = now_usec;
                limit->count = 0;
        }
        return limit->count++ < limit->burst;
}
