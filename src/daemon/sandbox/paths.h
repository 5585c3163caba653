#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Which files the daemon needs from here on, as rules of Landlock. Nothing is writable but what is in the runtime
 * directory: device nodes are opened for reading, which is all that NVIDIA's driver asks for, so that a rule for the
 * whole of /dev, where nodes appear at any time, permits writing to no disk.
 */

#include "daemon/sandbox/sandbox.h"

/*
 * Enters. What the kernel lacks or refuses is logged, and the process goes on without: it must never be what keeps a
 * GPU from being held.
 */
void sandbox_limit_paths(const struct sandbox_config *config);

/* The same for the keeper, which needs the runtime directory at most; NULL: nothing. */
void sandbox_limit_keeper_paths(const char *runtime_directory);
