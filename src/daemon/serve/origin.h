#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Finds where the process at the other end of a connection runs: beside us (in our PID namespace), or in a container.
 * Without a user namespace, root of a container has uid 0 as well; its PID namespace distinguishes it.
 *
 * PID namespaces are nested: that of the host contains that of container A, which may contain that of container B. A
 * procfs mount belongs to one namespace. The line "NSpid:" of a process has one number for each level from that
 * namespace down to the one of the process: N numbers for us, M for the peer.
 *
 * SO_PEERCRED gives a pid for processes of our own namespace and of those below it, and 0 for all others. So a peer
 * that has a pid is beside us if and only if it is as deep as we are: M == N. This is true for any namespace that /proc
 * belongs to, and also if we are in a container ourselves.
 *
 * There are two ways to find M:
 *
 *      pidfd    SO_PEERPIDFD (Linux 6.5) refers to the process that connected, and /proc/self/fdinfo/FD tells its
 *               NSpid. This works with hidepid=, and even if another process has got the same pid since.
 *      pid      /proc/PID/status. Another process may have the pid by now: if it started after we accepted the
 *               connection, it is not our peer. SO_PEERCRED gives pids of our namespace, so /proc must belong to that
 *               as well (N == 1).
 *
 * Times are microseconds of CLOCK_BOOTTIME, which is the clock of start times in /proc.
 */

#include <linux/ioctl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A descriptor of the process' PID namespace (linux/pidfd.h from Linux 6.11 on). */
#ifndef PIDFD_GET_PID_NAMESPACE
#define PIDFD_GET_PID_NAMESPACE _IO(0xFF, 5)
#endif

enum origin {
        ORIGIN_BESIDE,    /* in our PID namespace */
        ORIGIN_ELSEWHERE, /* in another one, which we regard as a container */
        ORIGIN_GONE,      /* the process has ended */
        ORIGIN_UNKNOWN,   /* /proc does not show it */
};

/*
 * The rights of a process beside us. A container can share the host's PID namespace (hostPID:, --pid host): its root
 * has uid 0 and is beside us, but has no CAP_SYS_ADMIN. The driver itself requires CAP_SYS_ADMIN for resetting a GPU
 * and for switching persistence mode.
 *
 * Mount namespaces do not help: services of the host have their own (PrivateTmp=), and so does the daemon.
 */
enum rights {
        RIGHTS_OF_THE_HOST, /* also if this cannot be found out (an LSM forbids it, /proc is hidden) */
        RIGHTS_OF_A_USER_NAMESPACE,
        RIGHTS_TAKEN, /* it has no CAP_SYS_ADMIN */
};

/* What we know about the process that connected. */
struct origin_facts {
        enum origin origin;
        uint64_t pid_namespace; /* 0: ours; 1: unknown; otherwise its inode number */
        enum rights rights;     /* valid if it is beside us */
};

/* What to find out: each needs more system calls. */
enum origin_question {
        ORIGIN_WHERE,      /* pid_namespace; also origin, if there is a pidfd */
        ORIGIN_CAPABLE,    /* everything; rights: whether CAP_SYS_ADMIN is in effect */
        ORIGIN_MAY_BECOME, /* everything; rights: whether it could ever get it (the bounding set) */
};

/*
 * ORIGIN_WHERE is for every client, so it reads nothing in /proc/PID. Reading status or stat takes a reference to the
 * process' memory; if that becomes the last one, the event loop must free the memory. Reading stat or a link blocks
 * while the process hangs in an execve(). The other questions are only for uid 0 and members of the admin group. With a
 * pidfd they read neither stat nor links.
 */
struct origin_facts origin_of_pidfd(int pidfd, pid_t pid, enum origin_question question);
struct origin_facts origin_of_pid(pid_t pid, uint64_t connected_boottime_usec, enum origin_question question);

/*
 * Finds whether CAP_SYS_ADMIN is in the set with this label ("CapBnd:") in the text of /proc/PID/status. Returns 0 or
 * -EINVAL.
 */
int origin_parse_capable(const char *text, const char *label, bool *ret_capable);

/*
 * Counts the numbers in the line "NSpid:" of the text of /proc/PID/status or /proc/PID/fdinfo/FD. Returns 0; -ESRCH if
 * the line says that the process has ended; -ENXIO if it says that procfs cannot see the process; -EINVAL if the line
 * is missing or invalid.
 */
int origin_parse_depth(const char *text, unsigned *ret_depth);

/* The start time in the text of /proc/PID/stat, in clock ticks since boot. Returns 0 or -EINVAL. */
int origin_parse_start(const char *text, uint64_t *ret_ticks);
