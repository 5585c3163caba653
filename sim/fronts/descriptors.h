#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds out from /proc which processes hold descriptors of the simulator's device nodes. Only readlink() and fdinfo are
 * used, which ask nothing of a file system: the simulator must never call into its own mount from a thread that serves
 * it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* How many descriptors of all processes refer to this inode (fdinfo's "ino:", Linux 5.14). Returns 0 or negative errno.
 */
int descriptors_count(uint64_t inode, size_t *ret_count);

bool descriptors_process_has(pid_t process, uint64_t inode);

/*
 * To be called before the nodes exist: what is on its way between processes now (some keep descriptors in a queue for
 * ever) can be none of theirs, and is not counted by descriptors_in_flight().
 */
void descriptors_remember_flights(void);

/* Whether a socket somewhere holds descriptors that were sent and not yet received (fdinfo's "scm_fds:", Linux 5.6). */
bool descriptors_in_flight(void);

/* The process of a thread (FUSE tells thread ids). The thread's own id when /proc does not tell. */
pid_t descriptors_process_of(pid_t thread);

/*
 * Whether the thread closes its descriptors because its program ends: it exits, or is inside execve(). The sign is an
 * empty command line, as a task without memory of its own has. Nothing else of /proc may be asked about a thread that
 * waits for us inside execve(): the kernel holds its exec_update_lock meanwhile, on which reading /proc/PID/stat or
 * /proc/PID/fd would wait, and the two for each other for ever.
 */
bool descriptors_end_with_program(pid_t thread);

/* Of those, whether it exits: it has no memory left, where execve() has the new program's. */
bool descriptors_process_exits(pid_t thread);
