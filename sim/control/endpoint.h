#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Unix stream sockets by path, also where the path is longer than sockaddr_un holds (test directories are): the folder
 * is opened, and the address goes through /proc/self/fd.
 */

/* Connects. Returns a descriptor or negative errno. */
int endpoint_connect(const char *path);

/* Binds (in place of a dead socket), with mode 0666, and listens. Returns a descriptor; -EADDRINUSE when a living
 * process serves the path; or negative errno. */
int endpoint_listen(const char *path);
