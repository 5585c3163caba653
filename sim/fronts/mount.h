#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Prepares the folder that --root names. Removes the mount of a killed predecessor, and keeps DIR/run an ordinary
 * folder inside the mount, for other programs' sockets. It is unmounted with the mount that contains it.
 */

/*
 * Creates DIR and DIR/run if they are missing. *ret_run_fd is the real DIR/run, opened before the mount hides it.
 * Returns 0, -EBUSY if a running simulator serves DIR, or negative errno.
 */
int mount_prepare(const char *root, int *ret_run_fd);

/* Mounts the real run folder at DIR/run inside the mount, which must already be served, since this looks up names in
 * it. */
int mount_show_run(const char *root, int run_fd);
