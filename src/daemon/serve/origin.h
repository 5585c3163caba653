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
        ORIGIN_ELSEWHERE, /* in another one: a container, as far as we are concerned */
        ORIGIN_GONE,      /* the process has ended */
        ORIGIN_UNKNOWN,   /* /proc does not tell */
};

/*
 * Who may act for this host's root has its rights, too. A container can share the host's PID namespace (hostPID:, --pid
 * host); its root has uid 0 and a pid beside us, and lacks CAP_SYS_ADMIN, which the driver itself asks of whoever
 * resets a GPU or switches persistence mode.
 *
 * Mount namespaces tell nothing: services of the host have their own (PrivateTmp=), the daemon too.
 */
enum rights {
        RIGHTS_OF_THE_HOST, /* also where the kernel does not tell otherwise: an LSM forbids it, /proc is hidden */
        RIGHTS_OF_A_USER_NAMESPACE,
        RIGHTS_TAKEN, /* it is without CAP_SYS_ADMIN */
};

/* What is known of the process that connected. */
struct origin_facts {
        enum origin origin;
        uint64_t pid_namespace; /* 0: ours; 1: one that cannot be named; otherwise its inode */
        enum rights rights;     /* if it is beside us */
};

/* How much is asked: each takes system calls. */
enum origin_question {
        ORIGIN_WHERE,      /* pid_namespace, and origin if that is no more work: by pidfd */
        ORIGIN_CAPABLE,    /* all, rights being whether CAP_SYS_ADMIN is in effect */
        ORIGIN_MAY_BECOME, /* all, rights being whether it could ever have it (the bounding set) */
};

/*
 * ORIGIN_WHERE is asked of everybody, the others of uid 0 and of admins. It reads nothing below /proc/PID: the texts
 * status and stat borrow the process' memory, and who gives that back as the last one has to free it, in our case in
 * the event loop; and stat and the links wait while an execution hangs. By pidfd the others read neither stat nor
 * links, either.
 */
struct origin_facts origin_of_pidfd(int pidfd, pid_t pid, enum origin_question question);
struct origin_facts origin_of_pid(pid_t pid, uint64_t connected_boottime_usec, enum origin_question question);

/* Whether CAP_SYS_ADMIN is in the set of that label ("CapBnd:") of /proc/PID/status. Returns 0 or -EINVAL. */
int origin_parse_capable(const char *text, const char *label, bool *ret_capable);

/*
 * How many numbers the line "NSpid:" has, in the text of /proc/PID/status or /proc/PID/fdinfo/FD. Returns 0, -ESRCH
 * when it says that the process has ended, -ENXIO when it says that procfs cannot see the process, -EINVAL when there
 * is no such line or it is none.
 */
int origin_parse_depth(const char *text, unsigned *ret_depth);

/* The start time in the text of /proc/PID/stat, in clock ticks since boot. Returns 0 or -EINVAL. */
int origin_parse_start(const char *text, uint64_t *ret_ticks);
