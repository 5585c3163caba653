#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulator's socket: one JSON object a line, one answer a line.
 *
 *      {"verb":"status"}                          -> {"ok":true,"result":...}
 *      {"verb":"fail","gpu":"3","count":2}        -> {"ok":false,"error":"a sentence"}
 *
 * Besides the model's verbs (model_run_verb) there are those of the nvidia-cfg shim: list, open, close, uvm. A
 * connection that has opened a GPU *is* the handle: its end, however it comes, closes the GPU, as the kernel closes a
 * killed process's descriptors.
 */

#include "sim/model/model.h"

#define SERVER_DEFAULT_SOCKET "/run/holdfast-sim/socket" /* below --root */

struct control_server;

int server_new(struct control_server **ret_server, struct model *model);
/* Ends every connection and closes what it held. Call model_stop() before, so that no call keeps sleeping. */
void server_free(struct control_server *server);

/* Serves one more socket. Returns 0, -EADDRINUSE when a living process serves the path, or negative errno. */
int server_listen(struct control_server *server, const char *path);
