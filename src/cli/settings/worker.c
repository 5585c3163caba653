/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/settings/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define HOOK_END_USEC (5 * USEC_PER_SEC) /* for a hook that was killed */

/* ---- in the worker -------------------------------------------------------------------------------------------- */

static void tell(void *userdata, json_t *row) {
        const int *fd = userdata;

        if (row && json_dumpfd(row, *fd, JSON_COMPACT) == 0)
                (void)!write(*fd, "\n", 1);
        json_decref(row);
}

static void work(int fd, const struct apply *apply, const struct hook_call *call) {
        sigset_t none;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (apply)
                tell(&fd, apply_run(apply));
        if (call)
                hooks_run(call, tell, &fd);
        _exit(0);
}

/* ---- the parent process --------------------------------------------------------------------------------------- */

int settings_worker_start(struct settings_worker *worker, const struct apply *apply, const struct hook_call *call) {
        int ends[2];
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0)
                work(ends[1], apply, call);
        (void)close(ends[1]);
        if (pid < 0) {
                int r = -errno;

                (void)close(ends[0]);
                return r;
        }
        (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
        worker->pid = pid;
        worker->fd = ends[0];
        worker->applying = apply != NULL;
        worker->length = 0;
        worker->hook_usec = call ? call->limit_usec + HOOK_END_USEC : 0;
        worker->deadline_usec = clock_monotonic_usec() + (apply ? WORKER_APPLY_SEC * USEC_PER_SEC : worker->hook_usec);
        return 0;
}

static void end(struct settings_worker *worker) {
        worker->fd = fd_close(worker->fd);
        (void)settings_worker_is_gone(worker);
}

static json_t *take_line(struct settings_worker *worker) {
        char *newline = memchr(worker->bytes, '\n', worker->length);
        size_t length = newline ? (size_t)(newline - worker->bytes) : 0;
        json_t *line;

        if (!newline)
                return NULL;
        line = json_loadb(worker->bytes, length, 0, NULL);
        worker->length -= length + 1;
        memmove(worker->bytes, newline + 1, worker->length);
        worker->applying = false;
        worker->deadline_usec = clock_monotonic_usec() + worker->hook_usec;
        return line;
}

json_t *settings_worker_next(struct settings_worker *worker) {
        json_t *line = take_line(worker);

        while (!line && worker->fd >= 0) {
                ssize_t n = read(worker->fd, worker->bytes + worker->length, sizeof(worker->bytes) - worker->length);

                if (n < 0 && errno == EAGAIN)
                        return NULL;
                if (n <= 0) {
                        end(worker);
                        return NULL;
                }
                worker->length += (size_t)n;
                line = take_line(worker);
        }
        return line;
}

void settings_worker_kill(struct settings_worker *worker) {
        if (worker->pid > 0)
                (void)kill(worker->pid, SIGKILL);
        end(worker);
}

bool settings_worker_is_gone(struct settings_worker *worker) {
        if (worker->pid > 0 && worker->fd < 0 && waitpid(worker->pid, NULL, WNOHANG) != 0)
                worker->pid = 0;
        return worker->pid == 0;
}

json_t *settings_worker_apply(const struct apply *apply) {
        static struct settings_worker worker;
        json_t *line = NULL;

        if (settings_worker_start(&worker, apply, NULL) < 0)
                return NULL;
        while (!line && worker.fd >= 0) {
                struct pollfd wait = {.fd = worker.fd, .events = POLLIN};
                uint64_t now_usec = clock_monotonic_usec();

                if (now_usec >= worker.deadline_usec)
                        break;
                (void)poll(&wait, 1, (int)((worker.deadline_usec - now_usec) / USEC_PER_MSEC + 1));
                line = settings_worker_next(&worker);
        }
        settings_worker_kill(&worker);
        return line;
}
