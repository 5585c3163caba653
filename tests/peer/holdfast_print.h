#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Prints answers decoded by rpcgen's code as text: field=value in wire order. */

#include <stdio.h>

#include "holdfast.h"

/* A line for the daemon and one for each GPU. */
void holdfast_print(FILE *output, const hf_list *list);
/* One line. */
void holdfast_print_stats(FILE *output, const hf_stats *stats);
/* A line for each GPU. */
void holdfast_print_configured(FILE *output, const hf_configured *configured);
