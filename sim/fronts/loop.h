#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The thread that reads the kernel's requests to a front: to one mount (FUSE), or to several devices, each with its own
 * session (CUSE). It runs each request's operation, which answers at once or passes the call to a worker.
 */

#include <stddef.h>

struct fuse_session;
struct front_loop;

/* Sets O_NONBLOCK and O_CLOEXEC on the session's descriptor. Returns 0 or negative errno. */
int loop_prepare(struct fuse_session *session);

/*
 * Starts to serve the prepared sessions, which stay the caller's. If the kernel ends one of them, because somebody
 * unmounts it, the thread prints a message and ends the program with SIGTERM. Returns 0 or negative errno.
 */
int loop_start(struct front_loop **ret_loop, struct fuse_session *const *sessions, size_t n_sessions);
/* Ends the thread, which then reads no more requests. NULL is ignored. */
void loop_stop(struct front_loop *loop);
