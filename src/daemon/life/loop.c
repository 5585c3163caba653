/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "base/log.h"
#include "daemon/serve/server.h"

/* By default libevent writes to standard error, which nobody reads in the background. */
static void on_loop_message(int severity, const char *message) {
        log_write(severity >= EVENT_LOG_WARN ? LOG_WARNING : LOG_DEBUG, "event loop: %s", message);
}

static struct event_base *make_base(void) {
        struct event_config *config = event_config_new();
        struct event_base *base;

        if (!config)
                return NULL;
        /* Only one thread uses the loop. The environment must not configure a daemon that runs as root. */
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
        (void)event_config_set_max_dispatch_interval(config, NULL, SERVER_CALLBACKS_BEFORE_A_LOOK, SERVER_FIRST + 1);
        base = event_base_new_with_config(config);
        event_config_free(config);
        if (base)
                (void)event_base_priority_init(base, SERVER_PRIORITIES);
        return base;
}

int loop_init(struct loop *loop, void (*on_signal)(evutil_socket_t number, short what, void *userdata),
              void *userdata) {
        static const int numbers[LOOP_SIGNALS] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

        *loop = (struct loop){0};
        event_set_log_callback(on_loop_message);
        loop->base = make_base();
        if (!loop->base)
                return log_errno(LOG_ERR, -ENOMEM, "cannot create the event loop");
        for (size_t i = 0; i < LOOP_SIGNALS; i++) {
                loop->signals[i] = evsignal_new(loop->base, numbers[i], on_signal, userdata);
                if (!loop->signals[i] || event_add(loop->signals[i], NULL) < 0)
                        return log_errno(LOG_ERR, -ENOMEM, "cannot listen for signals");
        }
        return 0;
}

void loop_free_event(struct event **event) {
        if (*event)
                event_free(*event);
        *event = NULL;
}

void loop_done(struct loop *loop) {
        for (size_t i = 0; i < LOOP_SIGNALS; i++)
                loop_free_event(&loop->signals[i]);
        if (loop->base)
                event_base_free(loop->base);
        loop->base = NULL;
}
