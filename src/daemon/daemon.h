#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon put together:
 *
 *      runtime directory, backend (as root) -> privileges dropped -> pid file -> socket -> sandbox
 *              -> hold the GPUs -> ready -> loop -> release the GPUs, or leave them -> remove socket and pid file
 */

#include "daemon/config.h"
#include "daemon/options.h"
#include "daemon/privileges.h"
#include "daemon/startup.h"

/* Runs from the start to the end; tells the waiting parent, if any. Returns the exit status, or exits by itself. */
int daemon_run(const struct options *options, const struct privileges *privileges, struct startup *startup);

enum { DAEMON_NO_CONFIG = 1 };

/*
 * Reads the configuration file. Returns 0; DAEMON_NO_CONFIG when none was named and none is at the usual place, and
 * *ret_config is empty; or negative errno, with a sentence in error and *ret_config as it was.
 */
int daemon_read_config(const struct options *options, struct config *ret_config, char error[static CONFIG_ERROR_SIZE]);
