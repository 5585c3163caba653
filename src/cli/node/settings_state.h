#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The JSON document (docs/schemas/settings.json) in which holdfast-settings.service describes the settings of this
 * node's GPUs. Everybody may read it.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/locations.h"

#define SETTINGS_STATE_FOLDER "/run/holdfast-settings"
#define SETTINGS_STATE_FILE "/run/holdfast-settings/state.json"

/* Returns 0 and a new reference; -ENOENT when the service does not run; -EBADMSG; or other negative errno. */
int settings_state_read(const struct locations *locations, json_t **ret_document);

/* The same also if the service does not run any more. */
int settings_state_read_last(const struct locations *locations, json_t **ret_document);

/* The text of that key, or `otherwise` where there is none. The object may be NULL. */
const char *settings_state_text(const json_t *object, const char *key, const char *otherwise);

/* The row whose key has that text, and its place; or NULL. The array may be NULL. */
json_t *settings_state_find_row(const json_t *rows, const char *key, const char *text, size_t *ret_place);

/* The GPU's row, or NULL. The document may be NULL. */
json_t *settings_state_find(const json_t *document, const char *address);

/* The number of the GPU's settings that are not as wanted, and of its failed hooks. The row may be NULL. */
size_t settings_state_count_differing(const json_t *gpu);

/* A new array with a sentence about each of these. */
json_t *settings_state_problems(const json_t *gpu);

/* Whether the service has applied the settings after this open (of that daemon, with that number). The row may be NULL.
 */
bool settings_state_is_applied(const json_t *gpu, uint64_t daemon_started, uint32_t opens);
