#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Descriptors that the service manager passes at the start (sd_listen_fds(3)): the listening socket, and what a
 * previous process stored with it. Their numbers are 3, 4, ...; LISTEN_FDS has their count, LISTEN_FDNAMES their names.
 */

enum { INHERITED_MAX = 1024 };

/*
 * pid, fds and names are the values of LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; each may be NULL. Call it before
 * anything is forked, because LISTEN_PID is the process that was started.
 */
void inherited_open(const char *pid, const char *fds, const char *names);

/* The number of descriptors; 0 also if the variables are invalid or meant for another process. */
unsigned inherited_count(void);

/*
 * Makes the i-th descriptor close-on-exec and returns it. *ret_name is "" if it has no name, or one that does not fit.
 */
int inherited_take(unsigned i, char *ret_name, unsigned name_size);

/* Frees the names. Call it after the last inherited_take(). */
void inherited_done(void);
