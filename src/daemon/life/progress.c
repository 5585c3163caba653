/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/progress.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/life/loop.h"
#include "daemon/manager/notify.h"

/* How often to ask the service manager for more time while GPUs start, and for how much time. */
enum { EXTEND_PERIOD_SEC = 5, EXTEND_SEC = 15 };
enum { RETRY_SEC = 1 }; /* after a message that could not be sent */

static bool is_temporary(int error) {
        return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM;
}

static void try_again_soon(struct progress *progress) {
        static const struct timeval pause = {.tv_sec = RETRY_SEC};

        (void)event_add(progress->retry, &pause);
}

/* In a message of its own: of several states in one message, systemd takes only the last. */
static int tell_reloading(struct progress *progress) {
        int r = 0;

        if (progress->reload_usec != 0)
                r = notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)progress->reload_usec);
        if (!is_temporary(r))
                progress->reload_usec = 0;
        return r;
}

/*
 * If the manager's queue is full, the timer tries again. Without READY=1 the manager would end us when the start takes
 * too long; without RELOADING=1 and READY=1 a reload would fail; without WATCHDOG=1 the manager would kill us.
 */
void progress_tell(struct progress *progress) {
        struct registry_counts counts = registry_count(progress->registry);
        int r;

        if (is_temporary(tell_reloading(progress))) {
                try_again_soon(progress);
                return;
        }
        r = notify_send("%s%sSTATUS=%zu of %zu GPUs held%s", progress->owes_watchdog ? "WATCHDOG=1\n" : "",
                        progress->owes_ready ? "READY=1\n" : "", counts.held, counts.gpus,
                        progress->stopping ? ", stopping" : "");

        if (is_temporary(r)) {
                try_again_soon(progress);
                return;
        }
        progress->owes_ready = false;
        progress->owes_watchdog = false;
        (void)event_del(progress->retry);
}

static void on_retry(evutil_socket_t fd, short what, void *userdata) {
        progress_tell(userdata);
}

void progress_ready(struct progress *progress) {
        (void)event_del(progress->extend);
        progress->owes_ready = true;
        progress_tell(progress);
}

static void on_extend(evutil_socket_t fd, short what, void *userdata) {
        (void)notify_send("EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)(EXTEND_SEC * USEC_PER_SEC));
}

/*
 * Sent from the loop, because the watchdog is for a loop that hangs. GPUs that are stuck in the driver do not matter.
 */
static void on_watchdog(evutil_socket_t fd, short what, void *userdata) {
        struct progress *progress = userdata;

        if (!is_temporary(notify_send("WATCHDOG=1")))
                return;
        progress->owes_watchdog = true;
        try_again_soon(progress);
}

/* A reload before we are ready is not reported: the READY=1 at its end would mean that we are ready. */
void progress_reloading(struct progress *progress) {
        if (!registry_is_ready(progress->registry))
                return;
        progress->reload_usec = clock_monotonic_usec();
        (void)tell_reloading(progress);
}

void progress_reloaded(struct progress *progress) {
        if (!registry_is_ready(progress->registry))
                return;
        progress->owes_ready = true;
        progress_tell(progress);
}

void progress_stopping(struct progress *progress) {
        progress->stopping = true;
        progress->owes_ready = false;
        progress->reload_usec = 0;
        (void)notify_send("STOPPING=1");
}

static struct event *periodic(struct event_base *loop, event_callback_fn callback, uint64_t period_usec,
                              void *userdata) {
        struct timeval period = clock_timeval(period_usec);
        struct event *event = event_new(loop, -1, EV_PERSIST, callback, userdata);

        if (event && period_usec != 0 && event_add(event, &period) < 0)
                loop_free_event(&event);
        return event;
}

int progress_init(struct progress *progress, struct event_base *loop, const struct registry *registry,
                  uint64_t watchdog_usec) {
        *progress = (struct progress){
                .registry = registry,
                .retry = event_new(loop, -1, 0, on_retry, progress),
                .extend = periodic(loop, on_extend, EXTEND_PERIOD_SEC * USEC_PER_SEC, progress),
                .watchdog = periodic(loop, on_watchdog, watchdog_usec, progress),
        };
        return progress->retry && progress->extend && progress->watchdog
                       ? 0
                       : log_errno(LOG_ERR, -ENOMEM, "cannot create timers");
}

void progress_done(struct progress *progress) {
        loop_free_event(&progress->retry);
        loop_free_event(&progress->extend);
        loop_free_event(&progress->watchdog);
}
