/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/life/stop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "daemon/life/loop.h"

enum {
        /* Some programs wait only 5 s for our end (NVIDIA's driver container does). The difference is for the exit
         * itself. */
        LIMIT_MSEC = 4500,
        HAND_OVER_LIMIT_MSEC = 3000,
        HAND_OVER_PERIOD_MSEC = 20,
        SETTLE_MSEC = 200, /* for threads to start or end */
};

static void begin(struct stop *stop, bool keep_gpus) {
        const struct timeval limit = clock_timeval(LIMIT_MSEC * USEC_PER_MSEC);

        stop->stopping = true;
        stop->keeps_gpus = keep_gpus;
        progress_stopping(stop->config.progress);
        (void)event_add(stop->limit, &limit);
        registry_stop(stop->config.registry, keep_gpus);
}

void stop_release(struct stop *stop) {
        if (stop->stopping)
                return;
        (void)event_del(stop->hand_over);
        begin(stop, false);
}

static void on_hand_over(evutil_socket_t fd, short what, void *userdata) {
        static const struct timeval period = {.tv_usec = HAND_OVER_PERIOD_MSEC * 1000};
        struct stop *stop = userdata;
        bool up = keeper_link_is_up(stop->config.keeper);

        if (!up && clock_monotonic_usec() < stop->hand_over_until_usec) {
                (void)event_add(stop->hand_over, &period);
                return;
        }
        if (!up)
                log_always(LOG_WARNING, "there is no keeper to hold the GPUs: releasing them");
        begin(stop, up);
}

void stop_hand_over(struct stop *stop) {
        uint64_t limit_usec = stop->config.may_keep ? HAND_OVER_LIMIT_MSEC * USEC_PER_MSEC : 0;

        if (stop->stopping || stop->hand_over_until_usec != 0)
                return;
        stop->hand_over_until_usec = clock_monotonic_usec() + limit_usec;
        on_hand_over(-1, 0, stop);
}

static void on_limit(evutil_socket_t fd, short what, void *userdata) {
        struct stop *stop = userdata;
        const struct gpu *gpu;
        char text[PCI_ADDRESS_SIZE];

        for (size_t i = 0; (gpu = registry_gpu(stop->config.registry, i)); i++)
                if (gpu->job != GPU_JOB_NONE)
                        log_write(LOG_WARNING,
                                  "device %s - a call of the driver has not returned; the kernel completes it after "
                                  "this process has ended",
                                  pci_address_format(&gpu->info.address, text));
        if (!stop->keeps_gpus)
                keeper_link_drop_all(stop->config.keeper);
        stop->config.on_limit(stop->config.userdata);
}

int stop_init(struct stop *stop, const struct stop_config *config) {
        *stop = (struct stop){
                .config = *config,
                .limit = event_new(config->loop, -1, 0, on_limit, stop),
                .hand_over = event_new(config->loop, -1, 0, on_hand_over, stop),
        };
        return stop->limit && stop->hand_over ? 0 : log_errno(LOG_ERR, -ENOMEM, "cannot create timers");
}

void stop_done(struct stop *stop) {
        loop_free_event(&stop->limit);
        loop_free_event(&stop->hand_over);
}

static bool is_opening(const struct registry *registry) {
        const struct gpu *gpu;

        for (size_t i = 0; (gpu = registry_gpu(registry, i)); i++)
                if (gpu->job == GPU_JOB_OPEN || gpu->job == GPU_JOB_ADOPT)
                        return true;
        return false;
}

/*
 * If an open is still in the driver, closing that file waits for the open (nv.c, nvidia_close). After _exit() this wait
 * lasts for as long as the GPU hangs, and no later signal ends it, not even SIGKILL. If a signal ends the process, that
 * signal stays pending, and the driver does not wait. The signal must be sent to the process, not to a thread, and no
 * thread may block it, because the thread that ends last closes the files. Threads that close sockets may be just
 * starting or ending, and block it meanwhile. SIGTERM is used because service managers regard it as a clean end.
 */
void stop_leave(const struct registry *registry, int status) {
        sigset_t signals;

        if (is_opening(registry)) {
                (void)sigemptyset(&signals);
                (void)sigaddset(&signals, SIGTERM);
                (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
                for (int i = 0; i < SETTLE_MSEC && thread_any_blocks(SIGTERM); i++)
                        clock_sleep(USEC_PER_MSEC);
                (void)signal(SIGTERM, SIG_DFL);
                (void)kill(getpid(), SIGTERM);
        }
        _exit(status);
}
