#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The simulator's socket: one JSON object per line, one answer per line.
 *
 *      {"verb":"status"}                          -> {"ok":true,"result":...}
 *      {"verb":"fail","gpu":"3","count":2}        -> {"ok":false,"error":"a sentence"}
 *
 * In addition to the model's verbs (model_run_verb), the nvidia-cfg shim uses list, open, close and uvm. A connection
 * that has opened a GPU *is* the handle: when it ends for any reason, the GPU is closed, as the kernel closes the
 * descriptors of a killed process.
 */

#include "sim/model/model.h"

#define SERVER_DEFAULT_SOCKET "/run/holdfast-sim/socket" /* below --root */

struct control_server;

int server_new(struct control_server **ret_server, struct model *model);
/* Ends every connection and closes its GPUs. Call model_stop() first, which ends sleeping calls. */
void server_free(struct control_server *server);

/* Serves one more socket. Returns 0, -EADDRINUSE if a process serves the path, or negative errno. */
int server_listen(struct control_server *server, const char *path);
