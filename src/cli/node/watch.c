/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#define ANSWER_USEC (5 * USEC_PER_SEC) /* to take a call, or to send the rest of an answer that has begun */

int watch_init(struct watch *watch) {
        static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGWINCH};
        sigset_t set;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                (void)sigaddset(&set, numbers[i]);
        *watch = (struct watch){.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
        if (watch->signal_fd < 0)
                return -errno;
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

void watch_done(struct watch *watch) {
        client_done(&watch->client);
        watch->signal_fd = fd_close(watch->signal_fd);
}

/* A daemon that accepts no more clients closes the connection at once, so the next attempt waits for the pause. */
static void give_up(struct watch *watch, uint64_t pause_usec) {
        client_done(&watch->client);
        watch->retry_usec = clock_monotonic_usec() + pause_usec;
}

/* Sends a Watch call if there is none. Returns whether another daemon answers now than the one that was seen. */
static bool begin(struct watch *watch, const struct snapshot *seen, uint64_t pause_usec) {
        if (watch->client || seen->daemon != DAEMON_HOLDFAST || clock_monotonic_usec() < watch->retry_usec)
                return false;
        if (client_connect(&watch->client, seen->daemon_socket, ANSWER_USEC) < 0 ||
            client_watch_begin(watch->client, seen->head.serial) < 0) {
                give_up(watch, pause_usec);
                return false;
        }
        if (client_peer_pid(watch->client) == seen->daemon_pid)
                return false;
        client_done(&watch->client);
        return true;
}

static enum watch_news read_signal(struct watch *watch) {
        enum watch_news news = WATCH_RESIZED;
        struct signalfd_siginfo signal;

        while (read(watch->signal_fd, &signal, sizeof(signal)) == sizeof(signal))
                if (signal.ssi_signo != SIGWINCH)
                        news = WATCH_ENDED;
        return news;
}

static enum watch_news read_answer(struct watch *watch, uint64_t pause_usec) {
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;

        if (client_watch_end(watch->client, &head, &gpus) < 0)
                give_up(watch, pause_usec);
        client_done(&watch->client);
        return WATCH_CHANGED;
}

enum watch_news watch_wait(struct watch *watch, const struct snapshot *seen, uint64_t pause_usec) {
        const struct timespec pause = clock_timespec(pause_usec);
        struct pollfd fds[] = {
                {.fd = watch->signal_fd, .events = POLLIN},
                {.fd = STDOUT_FILENO}, /* to see when its other end is closed */
                {.fd = -1, .events = POLLIN},
        };

        if (begin(watch, seen, pause_usec))
                return WATCH_CHANGED;
        if (watch->client)
                fds[2].fd = client_fd(watch->client);
        if (ppoll(fds, ARRAY_SIZE(fds), &pause, NULL) < 0)
                return WATCH_PAUSED; /* interrupted, for example by SIGCONT */
        if (fds[1].revents != 0)
                return WATCH_ENDED;
        if (fds[0].revents != 0)
                return read_signal(watch);
        return fds[2].revents != 0 ? read_answer(watch, pause_usec) : WATCH_PAUSED;
}
