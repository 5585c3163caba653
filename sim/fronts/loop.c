/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/thread.h"
#include "sim/fronts/device.h"

struct front_loop {
        pthread_t thread;
        struct fuse_buf buffer; /* libfuse allocates it at the first request */
        size_t n_sessions;
        struct fuse_session **sessions;
        struct pollfd *waits; /* one for each session; the last one ends the thread */
};

int loop_prepare(struct fuse_session *session) {
        int fd = fuse_session_fd(session);

        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        return 0;
}

/* Answers one request. Returns false if the session has ended. */
static bool serve_one(struct front_loop *loop, struct fuse_session *session) {
        int r = fuse_session_receive_buf(session, &loop->buffer);

        if (r == -EINTR || r == -EAGAIN) /* the kernel may withdraw a request between poll() and read() */
                return true;
        if (r <= 0)
                return false;
        fuse_session_process_buf(session, &loop->buffer);
        return true;
}

static bool serve_ready(struct front_loop *loop) {
        for (size_t i = 0; i < loop->n_sessions; i++)
                if (loop->waits[i].revents && !serve_one(loop, loop->sessions[i]))
                        return false;
        return true;
}

static void *loop_main(void *argument) {
        struct front_loop *loop = argument;
        bool served = true;

        while (served) {
                if (poll(loop->waits, loop->n_sessions + 1, -1) < 0)
                        continue;
                if (loop->waits[loop->n_sessions].revents)
                        break;
                served = serve_ready(loop);
        }
        if (!served) {
                fprintf(stderr,
                        "holdfast-sim: a mount or device was removed (for example by umount); the simulator ends\n");
                (void)kill(getpid(), SIGTERM);
        }
        return NULL;
}

static void loop_free(struct front_loop *loop) {
        if (loop->waits)
                (void)fd_close(loop->waits[loop->n_sessions].fd);
        free(loop->buffer.mem);
        free(loop->waits);
        free(loop->sessions);
        free(loop);
}

static int init_waits(struct front_loop *loop, struct fuse_session *const *sessions, size_t n_sessions) {
        loop->n_sessions = n_sessions;
        loop->sessions = calloc(n_sessions, sizeof(loop->sessions[0]));
        loop->waits = calloc(n_sessions + 1, sizeof(loop->waits[0]));
        if (!loop->waits)
                return -ENOMEM;
        loop->waits[n_sessions] = (struct pollfd){.fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN};
        if (loop->waits[n_sessions].fd < 0)
                return -errno;
        if (!loop->sessions)
                return -ENOMEM;
        for (size_t i = 0; i < n_sessions; i++) {
                loop->sessions[i] = sessions[i];
                loop->waits[i] = (struct pollfd){.fd = fuse_session_fd(sessions[i]), .events = POLLIN};
        }
        return 0;
}

int loop_start(struct front_loop **ret_loop, struct fuse_session *const *sessions, size_t n_sessions) {
        struct front_loop *loop = calloc(1, sizeof(*loop));
        int r;

        if (!loop)
                return -ENOMEM;
        r = init_waits(loop, sessions, n_sessions);
        if (r == 0)
                r = thread_start(&loop->thread, &(struct thread_options){0}, loop_main, loop);
        if (r < 0) {
                loop_free(loop);
                return r;
        }
        *ret_loop = loop;
        return 0;
}

void loop_stop(struct front_loop *loop) {
        if (!loop)
                return;
        (void)eventfd_write(loop->waits[loop->n_sessions].fd, 1);
        (void)pthread_join(loop->thread, NULL);
        loop_free(loop);
}
