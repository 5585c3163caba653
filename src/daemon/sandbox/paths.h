#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The files that the daemon needs after its start, as Landlock rules. Almost none is writable (the table in paths.c).
 * Nodes may appear in /dev at any time, so there is one rule for all of /dev. It permits only reading and ioctl(),
 * which is enough for NVIDIA's driver, so that no disk can be written to. Only with a closed library, /dev is writable.
 */

#include "daemon/sandbox/sandbox.h"

/*
 * Limits the process. If the kernel has no Landlock or refuses it, this is logged and the process continues without:
 * the sandbox must never prevent a GPU from being held.
 */
void sandbox_limit_paths(const struct sandbox_config *config);

/* The same for the keeper, which needs at most the runtime directory. NULL: it needs no files. */
void sandbox_limit_keeper_paths(const char *runtime_directory);
