#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Internals of the daemon, for these files only:
 *
 *      daemon.c         callbacks between the parts, and the daemon's life
 *      daemon_steps.c   the steps of the start, and the stop, which undoes them in reverse order
 */

#include "daemon/daemon.h"
#include "daemon/gpus/hotplug.h"
#include "daemon/gpus/worker.h"
#include "daemon/life/confine.h"
#include "daemon/life/inherit.h"
#include "daemon/life/loop.h"
#include "daemon/life/progress.h"
#include "daemon/life/stop.h"
#include "daemon/manager/keeper_link.h"
#include "daemon/process/runtime.h"
#include "daemon/process/settings.h"
#include "daemon/serve/methods.h"

struct daemon {
        const struct options *options;
        const struct privileges *privileges;
        struct startup *startup;
        struct settings settings;
        struct runtime runtime;
        struct keeper_link *keeper;
        const struct gpu_ops *ops;
        void *backend;
        struct confine confine;
        struct loop loop;
        struct worker *worker;
        struct registry *registry;
        struct methods methods;
        struct progress progress;
        struct stop stop;
        struct inherit inherit;
        struct server *server;
        struct hotplug *hotplug;
        size_t n_steps; /* steps that were taken and are not undone */
        bool stuck;     /* a thread in the driver still uses what is left: free nothing more */
        int status;     /* exit status */
};

/* Takes the steps until one fails (logged). Returns 0, or the exit status. */
int steps_take(struct daemon *daemon);
/* Undoes the steps in reverse order. Stops early if a thread is stuck in the driver, because it still uses what the
 * earlier steps created. */
void steps_undo(struct daemon *daemon);

struct registry_policy daemon_policy_of(const struct gpu_info *info, int index, void *userdata);
void daemon_on_change(void *userdata);
void daemon_on_ready(void *userdata);
void daemon_on_stopped(void *userdata);
void daemon_on_hotplug(enum hotplug_action action, const struct pci_address *address, void *userdata);
void daemon_on_signal(evutil_socket_t number, short what, void *userdata);
void daemon_on_list_limit(evutil_socket_t fd, short what, void *userdata);
