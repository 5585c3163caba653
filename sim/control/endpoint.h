#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Unix stream sockets by path, also if the path is too long for sockaddr_un, as in test directories: opens the folder
 * and uses an address below /proc/self/fd.
 */

/* Connects. Returns a descriptor or negative errno. */
int endpoint_connect(const char *path);

/* Binds with mode 0666, replacing a dead socket, and listens. Returns a descriptor; -EADDRINUSE if a process serves the
 * path; or negative errno. */
int endpoint_listen(const char *path);

/* Sends the text and a newline to a blocking socket, without SIGPIPE. Returns 0 or negative errno. */
int endpoint_send(int fd, const char *text);
