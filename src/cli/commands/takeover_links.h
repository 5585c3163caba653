#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Two links that make a driver package's unit run our daemon: to a drop-in for it, and to the socket unit that the
 * package lacks. Being links to our files, they follow an upgrade of Holdfast and survive one of the driver package; if
 * Holdfast is removed they dangle, and systemd ignores them.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/locations.h"

#define TAKEOVER_DROP_IN "/etc/systemd/system/nvidia-persistenced.service.d/50-holdfast.conf"

struct takeover_link {
        const char *path;
        const char *target;
};

extern const struct takeover_link takeover_links[];
extern const size_t n_takeover_links;

/* Whether the drop-in is our link. */
bool takeover_links_are_made(const struct locations *locations);

/*
 * Makes them; does not replace files that are not ours. Returns 0 or, with a sentence in error, -ENOENT if our own file
 * is not installed, -EEXIST if another file is in the place of a link, or other negative errno.
 */
int takeover_links_make(const struct locations *locations, char *error, size_t error_size);

/* Removes ours, and the drop-in's folder if it is empty then. Returns 0 or, with a sentence, negative errno. */
int takeover_links_remove(const struct locations *locations, char *error, size_t error_size);
