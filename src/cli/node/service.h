#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon's unit as systemd knows it, from the names and values that `systemctl show` prints.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/locations.h"

#define SERVICE_UNIT "nvidia-persistenced.service"

enum { SERVICE_UNIT_SIZE = 256 }; /* systemd's own limit */

struct service {
        char unit[SERVICE_UNIT_SIZE]; /* its name, with .service */
        bool known;                   /* systemd answered; otherwise only `reason` is filled in */
        char reason[160];             /* why not: a sentence without its full stop */
        char load_state[32];
        char unit_file_state[32];
        char active_state[32];
        char sub_state[32];
        char result[32];
        char exec_main_status[16];
        char user[64];
        char dynamic_user[8];       /* "yes": a user that exists only while the unit runs */
        char runtime_directory[64]; /* RuntimeDirectory= */
        char fragment_path[256];
        char drop_in_paths[512];    /* space between */
        char exec_start[768];       /* "{ path=... ; argv[]=... ; ... ; code=exited ; status=203 }" */
        char documentation[128];    /* Documentation=: ours names man:holdfast(1) */
        char n_restarts[16];        /* automatic restarts since the last manual start */
        char failed_command[256];   /* "ExecStartPost=/path", of one that failed; empty: none did */
        char failed_status[32];     /* "exited with 3", of that one */
        char last_words[256];       /* of what failed, from the journal; empty: none there */
        char socket_file_state[32]; /* UnitFileState of the socket unit of the same name; empty: there is none */
};

/* Asks systemd, if it runs, about the unit, and the journal if the unit has failed. Each may take timeout_usec. */
void service_read(struct service *service, const struct locations *locations, const char *unit, uint64_t timeout_usec);

/*
 * The same, but finds out which unit is the daemon's (cli/node/service_unit.c). This is the unit in which the process
 * daemon_pid (0: not known) runs. Without one, it is a unit that starts a persistence daemon: preferably one that is
 * enabled, or else one that has run. Without one of these, it is SERVICE_UNIT.
 */
void service_find(struct service *service, const struct locations *locations, int32_t daemon_pid,
                  uint64_t timeout_usec);

/* Whether the unit has failed, including when systemd is about to start it again. */
bool service_has_failed(const struct service *service);

/* Whether systemd is starting the unit again, after at least one automatic restart. */
bool service_flaps(const struct service *service);

/* Whether the unit is Holdfast's or has the drop-in of a takeover. Both name man:holdfast(1) in Documentation=. */
bool service_is_ours(const struct service *service);

/* Commands for service_command() that start it now and at each boot; a unit without [Install] cannot be enabled. */
const char *service_start_cure(const struct service *service);

/* Commands that make the socket at its path anew. With a socket unit, a restart of the service alone does not. */
const char *service_new_socket_cure(const struct service *service);

/* Copies the commands, and replaces each word UNIT by the unit's name without .service. */
void service_command(const struct service *service, const char *commands, char *buffer, size_t size);

/* Whether ExecStart= names Holdfast's daemon, under any path: /usr/bin/nvidia-persistenced may be a link to it. */
bool service_runs_ours(const struct service *service, const struct locations *locations);

/* The program that ExecStart= names. Returns false when there is none. */
bool service_program(const struct service *service, char *buffer, size_t size);

/*
 * Whether systemd runs on this node: /run/systemd/system exists below the root, as sd_booted(3) checks. If not, no
 * systemd is asked: with --root, the answers of the machine's own would be about another node.
 */
bool service_can_ask(const struct locations *locations);

/*
 * Runs a program of systemd's. arguments[0] is free: this function sets it to the program's path; NULL ends the array.
 * Returns 0 with what it printed, or negative errno (-ENOENT: it is not there, -EIO: it failed, -ETIMEDOUT).
 */
int service_run_program(const struct locations *locations, const char *name, const char **arguments,
                        uint64_t timeout_usec, char *output, size_t size);

/*
 * Runs systemctl with these words, ended by NULL, for at most timeout_usec. Returns 0, or negative errno (-EIO: it
 * failed, -ETIMEDOUT) with its message in error.
 */
int service_control(const struct locations *locations, const char *const words[], uint64_t timeout_usec, char *error,
                    size_t error_size);
