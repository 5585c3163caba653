#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Threads for calls that may sleep: a front's loop passes each such call to a worker and continues. A thread is started
 * when no idle one is left, so that a call which hangs (a GPU stuck in its initialisation) delays no other; past the
 * maximum, jobs wait their turn.
 */

struct workers;

int workers_new(struct workers **ret_workers, unsigned maximum);
/* Ends the threads. Every job handed in has run when this returns. */
void workers_free(struct workers *workers);

/* Runs run(argument) on a thread of its own. Returns 0, or negative errno: then it does not run. */
int workers_run(struct workers *workers, void (*run)(void *argument), void *argument);
