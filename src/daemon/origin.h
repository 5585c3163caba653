#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Where the process at the other end of a connection runs: beside us, or in a container. A container's root has uid 0
 * too unless it has a user namespace of its own; what tells it apart is its PID namespace.
 *
 *      level 0   host             a procfs mount belongs to one namespace: "NSpid:" has one number for each level
 *      level 1     container A    from that one down to the process: N for us, M for the peer
 *      level 2       container B
 *
 * SO_PEERCRED gives a pid for processes of our own namespace and of those below it, and 0 for all others. A peer that
 * has a pid is therefore beside us exactly when it is as deep as we are: M == N. This holds whichever namespace /proc
 * belongs to, and also when we are in a container ourselves.
 *
 * There are two ways to find M:
 *
 *      pidfd    SO_PEERPIDFD (Linux 6.5) refers to the process that connected, and /proc/self/fdinfo/FD tells its
 *               NSpid. No pid is looked up, so a pid that was given to another process since cannot deceive; and
 *               hidepid= cannot hide it.
 *      pid      /proc/PID/status. The pid may be another process's by now: one that started after the connection was
 *               taken is not our peer. Pids of SO_PEERCRED are ours, so /proc must be ours too (N == 1).
 *
 * Times are microseconds of CLOCK_BOOTTIME, which is the clock of start times in /proc.
 */

#include <stdint.h>
#include <sys/types.h>

enum origin {
        ORIGIN_BESIDE,    /* in our PID namespace */
        ORIGIN_ELSEWHERE, /* in another one: a container, as far as we are concerned */
        ORIGIN_GONE,      /* the process has ended */
        ORIGIN_UNKNOWN,   /* /proc does not tell */
};

enum origin origin_of_pidfd(int pidfd);
enum origin origin_of_pid(pid_t pid, uint64_t connected_boottime_usec);

/*
 * How many numbers the line "NSpid:" has, in the text of /proc/PID/status or /proc/PID/fdinfo/FD. Returns 0, -ESRCH
 * when it says that the process has ended, -ENXIO when it says that procfs cannot see the process, -EINVAL when there
 * is no such line or it is none.
 */
int origin_parse_depth(const char *text, unsigned *ret_depth);

/* The start time in the text of /proc/PID/stat, in clock ticks since boot. Returns 0 or -EINVAL. */
int origin_parse_start(const char *text, uint64_t *ret_ticks);
