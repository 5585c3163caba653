#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The whole daemon:
 *
 *      runtime directory, backend (as root) -> privileges dropped -> pid file -> socket -> sandbox
 *              -> hold the GPUs -> ready -> loop -> release the GPUs, or leave them -> remove socket and pid file
 */

#include "daemon/process/options.h"
#include "daemon/process/privileges.h"
#include "daemon/process/startup.h"

/*
 * Runs the daemon from its start to its end, and reports to the waiting parent, if any. Returns the exit status. If a
 * thread is stuck in the driver, the function does not return: it ends the process.
 */
int daemon_run(const struct options *options, const struct privileges *privileges, struct startup *startup);
