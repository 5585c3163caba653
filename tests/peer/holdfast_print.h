#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A List as rpcgen's code has it, in text: a line for the daemon and one for each GPU, field=value in wire order. */

#include <stdio.h>

#include "holdfast.h"

void holdfast_print(FILE *output, const hf_list *list);
