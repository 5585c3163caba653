/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/refusals.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/log.h"

/* The minute is over: logs how many calls were only counted, and gives everybody a new budget. */
static void on_window(evutil_socket_t fd, short what, void *userdata) {
        struct refusals *refusals = userdata;

        for (size_t i = 0; i < ARRAY_SIZE(refusals->users); i++) {
                struct refusals_user *user = &refusals->users[i];

                if (user->n > REFUSALS_LINES_MAX)
                        log_write(LOG_WARNING, "refused calls of uid %u: %u more suppressed", (unsigned)user->uid,
                                  user->n - REFUSALS_LINES_MAX);
                user->n = 0;
        }
        if (refusals->n_others > REFUSALS_LINES_MAX)
                log_write(LOG_WARNING, "refused calls of other users: %u more suppressed",
                          refusals->n_others - REFUSALS_LINES_MAX);
        refusals->n_others = 0;
}

int refusals_init(struct refusals *refusals, struct event_base *loop) {
        *refusals = (struct refusals){.window = event_new(loop, -1, 0, on_window, refusals)};
        return refusals->window ? 0 : -ENOMEM;
}

/* Logs what is still only counted. */
void refusals_done(struct refusals *refusals) {
        if (!refusals->window)
                return;
        on_window(-1, 0, refusals);
        event_free(refusals->window);
        refusals->window = NULL;
}

static unsigned *count_of(struct refusals *refusals, uid_t uid) {
        for (size_t i = 0; i < ARRAY_SIZE(refusals->users); i++) {
                struct refusals_user *user = &refusals->users[i];

                /* Slots are taken in order and freed all at once, so no slot in use follows a free one. */
                if (user->n > 0 && user->uid != uid)
                        continue;
                user->uid = uid;
                return &user->n;
        }
        return &refusals->n_others;
}

void refusals_log(struct refusals *refusals, const struct peer *peer, const char *call, const char *reason) {
        static const struct timeval window = {.tv_sec = REFUSALS_WINDOW_SEC};
        unsigned *n = count_of(refusals, peer->uid);

        if (++*n <= REFUSALS_LINES_MAX)
                log_write(LOG_WARNING, "refused %s from uid %u, pid %d: %s", call, (unsigned)peer->uid, (int)peer->pid,
                          reason);
        if (!event_pending(refusals->window, EV_TIMEOUT, NULL))
                (void)event_add(refusals->window, &window);
}
