#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Differences between versions of NVIDIA's driver: versions.c has a row for each behaviour. Other code asks for a
 * behaviour by name, and never compares versions. docs/simulator.md also has the table.
 */

#include <stdbool.h>
#include <stdint.h>

/* A version as one number that can be compared. */
#define DRIVER_VERSION(major, minor, patch)                                                                            \
        ((uint64_t)(major) << 32 | (uint64_t)(minor) << 16 | (uint64_t)(patch)) /* none has a part above 65535 */

/* The first version with a behaviour, and the first later version without it. 0: all earlier, or all later, versions.
 */
struct version_span {
        uint64_t from;
        uint64_t until;
};

enum driver_trait {
        DRIVER_OPENS_ONE_BY_ONE,
        DRIVER_NUMA_AUTO_ONLINE,
        DRIVER_DEFERS_OPENS,
        DRIVER_OVERLAPS_INITIALISATIONS,
        DRIVER_CHECKS_FABRIC,
        DRIVER_ANNOUNCES_UNBINDS,
        DRIVER_HIDES_UNKNOWN_UUID,
        DRIVER_SHOWS_RAIL_GATING,
        DRIVER_UNLISTS_BEFORE_WAITING,
        DRIVER_CHECKS_ALL_SIZES,
        N_DRIVER_TRAITS,
};

/* Parses "595.45.04", or two numbers as in "550.78". Returns 0 for an invalid version. */
uint64_t version_parse(const char *text);
bool version_in(uint64_t version, const struct version_span *span);
bool version_has(uint64_t version, enum driver_trait trait);
