#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The folder that --root names: cleared of a dead predecessor's mount, and DIR/run, which stays an ordinary folder
 * inside the mount, for other programs' sockets. It goes with the mount it is in.
 */

/*
 * Creates DIR and DIR/run where they are missing. *ret_run_fd is the real DIR/run, opened while it can still be
 * reached. Returns 0, -EBUSY when a living simulator serves DIR, or negative errno.
 */
int mount_prepare(const char *root, int *ret_run_fd);

/* Shows the real run folder at DIR/run inside the mount, which must be served already: this looks up names in it. */
int mount_show_run(const char *root, int run_fd);
