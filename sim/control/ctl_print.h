#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What `holdfast-sim ctl` prints for people: one writer for each kind of result (docs/simulator.md has their members).
 */

#include <jansson.h>

void ctl_print_status(json_t *result);
void ctl_print_journal(json_t *result);
void ctl_print_message(json_t *result); /* a sentence from the simulator */
void ctl_print_set(json_t *result);
void ctl_print_done(json_t *result);
