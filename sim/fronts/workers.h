#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Threads for calls that may sleep: a front's loop passes each such call to a worker and continues. If no thread is
 * idle, a new one is started, so a call that hangs (a GPU stuck in its initialisation) does not delay others. Once the
 * maximum is reached, jobs wait for a thread.
 */

struct workers;

int workers_new(struct workers **ret_workers, unsigned maximum);
/* Ends the threads after all jobs have run. */
void workers_free(struct workers *workers);

/* Runs run(argument) on a worker. Returns 0, or negative errno; then it does not run. */
int workers_run(struct workers *workers, void (*run)(void *argument), void *argument);
