#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * How people name GPUs: by index (the order of PCI addresses, as nvidia-smi counts), PCI address in any spelling, UUID
 * or the beginning of one, or "all" (also "*"); several with commas between. Parsing needs no GPU; resolving does.
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
        size_t n; /* 0: nothing was named, which means all */
        struct id items[IDS_MAX];
};

/* Adds what list names. Returns 0, or -EINVAL with a sentence in error. */
int ids_add(struct ids *ids, const char *list, char *error, size_t error_size);

/* The same as an option's `set`: each use adds. */
int ids_set(struct options_parser *parser, const struct option_spec *spec, void *ids, const char *list);

/*
 * Sets `selected` of the GPUs meant, and of no others. "All" leaves out those that the administrator excluded from the
 * driver. Returns 0; -ENODEV (no such GPU) or -EINVAL (a UUID's beginning that several have) with a sentence in error.
 */
int ids_select(const struct ids *ids, struct snapshot *snapshot, char *error, size_t error_size);
