#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds out from /proc which processes hold descriptors of the simulator's device nodes. It uses only readlink() and
 * fdinfo, which do not call into the file system: a thread that serves the simulator's mount must never access it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Counts the descriptors of all processes that refer to this inode (fdinfo's "ino:", Linux 5.14). Returns 0 or negative
 * errno. */
int descriptors_count(uint64_t inode, size_t *ret_count);

bool descriptors_process_has(pid_t process, uint64_t inode);

/*
 * Call this before the nodes exist. Descriptors that are in a socket's queue at this time (some programs keep them
 * there forever) cannot refer to the nodes, so descriptors_in_flight() ignores these sockets unless they contain more
 * descriptors than at this time.
 */
void descriptors_remember_flights(void);

/* Whether any socket holds descriptors that were sent but not yet received (fdinfo's "scm_fds:", Linux 5.6). */
bool descriptors_in_flight(void);

/* Returns the process of a thread, since FUSE reports thread ids. Returns the thread's id if /proc does not name it. */
pid_t descriptors_process_of(pid_t thread);

/*
 * Whether the thread closes its descriptors because its program ends: it exits, or is inside execve(). Then its command
 * line is empty: a task that exits has no memory, and the new program's memory has no arguments yet. About a thread
 * that waits for us inside execve(), read only cmdline and status in /proc: the kernel holds its exec_update_lock
 * meanwhile, and reading /proc/PID/stat or /proc/PID/fd would wait for this lock, which is a deadlock.
 */
bool descriptors_end_with_program(pid_t thread);

/* Whether such a thread exits, and is not inside execve(). A thread that exits has no memory; one inside execve()
 * already has the new program's. */
bool descriptors_process_exits(pid_t thread);
