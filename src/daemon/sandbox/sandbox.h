#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A system call filter for the rest of the process' life, including later threads, and a limit on files (paths.h). A
 * client that manages to run code in the daemon cannot start a program, use the network, load a module, mount, trace,
 * read the memory of other processes, connect to D-Bus, or write to files that are not open yet.
 * docs/reliability.md names what remains.
 *
 * It must never prevent a GPU from being held, so it never kills the process:
 *
 *      forbidden (a table)    EPERM
 *      permitted (a table)    executed
 *      anything else          ENOSYS, as on a kernel without this call, which C libraries can handle
 *
 * Refused calls appear in the kernel log (audit type 1326, with the number of the call). They are not logged if a
 * filter of the service manager forbids seccomp(2): our filter is then loaded by prctl(2), which cannot request
 * logging.
 *
 * sandbox.c loads filters that filters.c, a program that runs at build time, has generated with libseccomp. Builds
 * without libseccomp use none.c instead; so do builds with sanitizers, because these trace the process at its end.
 */

#include <stdbool.h>

struct sandbox_config {
        /*
         * The process contains a library whose calls we do not know (NVIDIA's libnvidia-cfg.so.1): then only forbidden
         * calls are refused, and everything else is permitted, including connect(2).
         */
        bool closed_library;
        bool onlines_numa;             /* it writes to /sys/devices/system/memory (gpu/numa.h) */
        const char *root;              /* another root directory (base/locations.h); NULL or empty: none */
        const char *config_path;       /* the configuration, for a reload; NULL: none */
        const char *runtime_directory; /* NULL: none */
};

/*
 * Enters the sandbox. Call it while there is one thread, after the descriptors that need other calls (the listening
 * socket, the uevent socket) are created. Sets no_new_privs. Returns 0, also if the kernel or the build has no filters
 * (logged); or negative errno (logged).
 */
int sandbox_enter(const struct sandbox_config *config);

/*
 * The same for a keeper (daemon/manager/keeper.h), which needs far fewer calls: it connects and executes nothing. It
 * opens only the pid file that a killed daemon left in the runtime directory, to remove it; NULL: not even that.
 */
int sandbox_enter_keeper(const char *runtime_directory);
