#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Starts threads with almost all signals blocked, so that the main thread receives them. It runs the loop, or waits for
 * signals with a descriptor or sigwait(). No handler may interrupt the work of another thread.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct thread_options {
        size_t stack_size; /* bytes; 0: the default of threads (8 MiB, unless RLIMIT_STACK says otherwise) */
        void *stack;       /* of the caller: stack_size bytes, valid until the thread is joined; NULL: from glibc */
        bool detached;     /* start it detached; false: the owner joins it */
        int takes;         /* a signal that is not blocked, for pthread_kill(); 0: none */
};

/*
 * The thread starts with all signals blocked except options->takes. SIGTERM is blocked only if the caller blocks it:
 * the daemon's threads must not block it, because it ends the process while they are in the driver (stop_leave() in
 * life/stop.c); but in a process that reads SIGTERM from a descriptor, all threads must. The caller's own mask does not
 * change.
 *
 * Returns 0 and sets *ret_thread (run may have begun or even ended by then), or negative errno, for example -EAGAIN, if
 * no thread was started.
 */
int thread_start(pthread_t *ret_thread, const struct thread_options *options, void *(*run)(void *argument),
                 void *argument);

/*
 * Whether a thread of this process blocks the signal. glibc blocks all signals while a thread starts and ends, even
 * those that the thread itself does not block; a joined thread also counts until the kernel has removed it. Reads
 * /proc; false if it cannot.
 */
bool thread_any_blocks(int number);
