#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * GPUs as users name them: by index (in the order of PCI addresses, as nvidia-smi counts), PCI address in any spelling,
 * UUID or the beginning of one, or "all" (also "*"); several with commas between. Only ids_select() needs the GPUs.
 */

#include <stddef.h>

#include "base/options.h"
#include "cli/node/snapshot.h"

enum {
        IDS_MAX = 256,
        ID_TEXT_SIZE = 64,
};

enum id_kind {
        ID_ALL,
        ID_INDEX,
        ID_ADDRESS,
        ID_UUID,
};

struct id {
        enum id_kind kind;
        size_t index;
        struct pci_address address;
        char text[ID_TEXT_SIZE]; /* as given */
};

struct ids {
        size_t n; /* 0: all GPUs */
        struct id items[IDS_MAX];
};

/* Adds what list names. Returns 0, or -EINVAL with a sentence in error. */
int ids_add(struct ids *ids, const char *list, char *error, size_t error_size);

/* For an option's `set`; each use of the option adds GPUs. */
int ids_set(struct options_parser *parser, const struct option_spec *spec, void *ids, const char *list);

/*
 * Sets `selected` of the named GPUs, and clears it of all others. "all" leaves out GPUs that are excluded from the
 * driver. Returns 0; or, with a sentence in error, -ENODEV (no such GPU) or -EINVAL (several UUIDs begin like that).
 */
int ids_select(const struct ids *ids, struct snapshot *snapshot, char *error, size_t error_size);
