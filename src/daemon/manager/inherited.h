#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Descriptors that the service manager passes at the start (sd_listen_fds(3)): the listening socket, and what a process
 * before us left in its store. They are 3, 4, ...; LISTEN_FDS says how many, LISTEN_FDNAMES their names.
 */

enum { INHERITED_MAX = 1024 };

/*
 * Looks what there is, before anything is forked: pid is the one that was started. What LISTEN_PID, LISTEN_FDS and
 * LISTEN_FDNAMES say; each may be NULL.
 */
void inherited_open(const char *pid, const char *fds, const char *names);

/* How many there are; 0 if none, or if what the variables say cannot be. */
unsigned inherited_count(void);

/* The i-th, made close-on-exec, and its name ("" when there is none, or it is longer than name_size takes). */
int inherited_take(unsigned i, char *ret_name, unsigned name_size);

/* Forgets the names. After the last inherited_take(). */
void inherited_done(void);
