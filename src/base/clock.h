#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Time in microseconds. Durations and deadlines use the monotonic clock; real time is only for display. */

#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

static inline uint64_t clock_usec(clockid_t clock) {
        struct timespec now = {0};

        (void)clock_gettime(clock, &now);
        return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

static inline uint64_t clock_monotonic_usec(void) {
        return clock_usec(CLOCK_MONOTONIC);
}

static inline uint64_t clock_realtime_usec(void) {
        return clock_usec(CLOCK_REALTIME);
}

/* The end of a timeout that begins now; UINT64_MAX (never) if the sum overflows. */
static inline uint64_t clock_deadline_usec(uint64_t timeout_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return timeout_usec > UINT64_MAX - now_usec ? UINT64_MAX : now_usec + timeout_usec;
}

/* The time until a deadline; 0 if it has passed. */
static inline uint64_t clock_left_usec(uint64_t deadline_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return deadline_usec > now_usec ? deadline_usec - now_usec : 0;
}

/* Converts a duration or a time. */
static inline struct timespec clock_timespec(uint64_t usec) {
        return (struct timespec){
                .tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_nsec = (long)(usec % USEC_PER_SEC * 1000),
        };
}

/* Sleeps for this time, or until a signal arrives. */
static inline void clock_sleep(uint64_t usec) {
        const struct timespec pause = clock_timespec(usec);

        (void)nanosleep(&pause, NULL);
}

/* Converts a duration, for timers and sockets. */
static inline struct timeval clock_timeval(uint64_t usec) {
        return (struct timeval){
                .tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_usec = (suseconds_t)(usec % USEC_PER_SEC),
        };
}
