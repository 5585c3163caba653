#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The thread that takes the kernel's requests of a front: of one mount (FUSE), or of several devices, each with a
 * session of its own (CUSE). It runs each request's operation, which answers at once or hands the call to a worker.
 */

#include <stddef.h>

struct fuse_session;
struct front_loop;

/* Makes the session's descriptor one for this: it never blocks and is not inherited. Returns 0 or negative errno. */
int loop_prepare(struct fuse_session *session);

/*
 * Starts to serve the sessions, all prepared, which are not owned. Should the kernel end one of them (somebody unmounts
 * it), the thread says so and ends the program with SIGTERM. Returns 0 or negative errno.
 */
int loop_start(struct front_loop **ret_loop, struct fuse_session *const *sessions, size_t n_sessions);
/* Ends the thread: no request is taken any more. NULL is nothing. */
void loop_stop(struct front_loop *loop);
