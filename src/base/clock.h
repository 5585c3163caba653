#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Time in microseconds. Durations and deadlines use the monotonic clock; only what is shown to people is real time. */

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

/* When a timeout that begins now ends; UINT64_MAX, which is never, if the clock cannot count that far. */
static inline uint64_t clock_deadline_usec(uint64_t timeout_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return timeout_usec > UINT64_MAX - now_usec ? UINT64_MAX : now_usec + timeout_usec;
}

/* How long it is until a deadline; 0 once that is over. */
static inline uint64_t clock_left_usec(uint64_t deadline_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return deadline_usec > now_usec ? deadline_usec - now_usec : 0;
}

/* A duration, or a time, as waits take it. */
static inline struct timespec clock_timespec(uint64_t usec) {
        return (struct timespec){
                .tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_nsec = (long)(usec % USEC_PER_SEC * 1000),
        };
}

/* Sleeps for so long, or until a signal comes. */
static inline void clock_sleep(uint64_t usec) {
        const struct timespec pause = clock_timespec(usec);

        (void)nanosleep(&pause, NULL);
}

/* A duration as timers and sockets take it. */
static inline struct timeval clock_timeval(uint64_t usec) {
        return (struct timeval){
                .tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_usec = (suseconds_t)(usec % USEC_PER_SEC),
        };
}
