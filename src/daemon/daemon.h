#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The daemon put together:
 *
 *      runtime directory, backend (as root) -> privileges dropped -> pid file -> socket -> sandbox
 *              -> hold the GPUs -> ready -> loop -> release the GPUs, or leave them -> remove socket and pid file
 */

#include "daemon/process/options.h"
#include "daemon/process/privileges.h"
#include "daemon/process/startup.h"

/* Runs from the start to the end; tells the waiting parent, if any. Returns the exit status, or exits by itself. */
int daemon_run(const struct options *options, const struct privileges *privileges, struct startup *startup);
