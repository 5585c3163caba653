#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A filter of system calls for the rest of the process' life, threads made later included, and before it a limit on
 * files (paths.h). A client that found a way to run code in the daemon could neither start a program nor reach the
 * network, load a module, mount, trace, read another process' memory, connect to D-Bus, or write to a file.
 *
 * It must never be what keeps a GPU from being held, so nothing is killed:
 *
 *      forbidden (a table)    EPERM
 *      permitted (a table)    goes through
 *      anything else          ENOSYS, as on a kernel that does not have the call: C libraries know what to do then
 *
 * What is turned away appears in the kernel log (audit type 1326, with the number of the call), unless a filter of the
 * service manager keeps seccomp(2) from us: prctl(2) then loads ours, which cannot log.
 *
 * sandbox.c loads what filters.c, a program that runs while we are built, has put together with libseccomp.
 * none.c is linked where there is no libseccomp, and into builds with sanitizers, which trace the process at its end.
 */

#include <stdbool.h>

struct sandbox_config {
        /*
         * A library runs in the process whose calls nobody can list (NVIDIA's libnvidia-cfg.so.1): then only what is
         * forbidden is turned away, and everything else is permitted, connect(2) too.
         */
        bool closed_library;
        bool onlines_numa;             /* writes to /sys/devices/system/memory (gpu/numa.h) */
        const char *root;              /* of another system or a simulated one; NULL or empty: none */
        const char *config_path;       /* read again at a reload; NULL: none */
        const char *runtime_directory; /* NULL: none */
};

/*
 * To be called by the only thread, when descriptors that need more than the table permits (the listening socket, the
 * uevent socket) are made. Sets no_new_privs. Returns 0, also where the kernel or the build has no filters (logged); or
 * negative errno (logged).
 */
int sandbox_enter(const struct sandbox_config *config);

/*
 * The same for a keeper (daemon/manager/keeper.h), which needs far less: it connects and executes nothing, and opens
 * nothing but a pid file that a killed daemon left in the runtime directory, to remove it. NULL: it does not.
 */
int sandbox_enter_keeper(const char *runtime_directory);
