#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * What makes systemd run our daemon in a unit that a driver package owns: a drop-in for it, and the socket unit that
 * the package has not. They are links to files of ours, so an upgrade of Holdfast brings their new content; one of the
 * driver package does not touch them; and should Holdfast be removed, they lead nowhere and systemd passes over them.
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

/* Whether the drop-in is there, and ours. */
bool takeover_links_are_made(const struct locations *locations);

/*
 * Makes them, each at once in the place of what was there; what is there and not ours is left alone. Returns 0; -ENOENT
 * when our own file is not installed, -EEXIST when another's is in the way; or other negative errno: with a sentence.
 */
int takeover_links_make(const struct locations *locations, char *error, size_t error_size);

/* Takes ours away, and the drop-in's folder if nothing else is in it. Returns 0 or negative errno with a sentence. */
int takeover_links_remove(const struct locations *locations, char *error, size_t error_size);
