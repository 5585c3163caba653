#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Starts threads with all signals blocked, so that the main thread receives them: it runs the loop, or waits for
 * signals by descriptor or sigwait(). A handler, or a default action, must not run in the middle of another's work.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct thread_options {
        size_t stack_size; /* bytes; 0: the default of threads (8 MiB, unless RLIMIT_STACK says otherwise) */
        void *stack; /* the caller's own, of stack_size bytes, valid until the thread has been joined; NULL: glibc's */
        bool detached; /* the thread is detached; otherwise the owner joins it */
        int takes;     /* the one signal that pthread_kill() sends to it; 0: none */
};

/*
 * The thread is born with every signal blocked but options->takes, and SIGTERM, which it has as the caller has it: the
 * daemon's threads must not block the signal that ends the process while they are in the driver (life/stop.c,
 * stop_leave()); in a process that reads SIGTERM from a descriptor all of them block it. The caller's own mask is as
 * before afterwards.
 *
 * Returns 0 with *ret_thread written (run may have begun, or even have ended, by then), or negative errno, EAGAIN for
 * instance, and no thread.
 */
int thread_start(pthread_t *ret_thread, const struct thread_options *options, void *(*run)(void *argument),
                 void *argument);
