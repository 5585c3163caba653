/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which unit is the daemon's: nvidia-persistenced.service, holdfast.service, an instance, or a vendor's. */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/node/service.h"

enum {
        OUTPUT_SIZE = 16384, /* some ten units */
        CGROUP_SIZE = 4096,
};

/*
 * The signs that a unit is the daemon's. The unit with the highest sum is taken, or the first of those that have it.
 * WEIGHT_DAEMON (the daemon runs in the unit) outweighs the others. The existence of a unit is no sign:
 * holdfast.service is on every node.
 */
enum weight {
        WEIGHT_HAS_RUN = 1, /* or tried to */
        WEIGHT_ENABLED = 2,
        WEIGHT_DAEMON = 4,
};

/* What systemctl reports about a unit. */
struct candidate {
        char unit[SERVICE_UNIT_SIZE];
        int32_t main_pid;
        bool is_daemons; /* by its name, its program or its main process */
        unsigned weight;
};

struct unit_search {
        int32_t daemon_pid;
        char own_unit[SERVICE_UNIT_SIZE]; /* in whose control group the daemon is; empty: not known */
        struct candidate candidate;       /* whose lines are being read */
        struct candidate best;
};

/* Finds the last part of the control group's path that is a service. The service itself made the groups below it. */
static bool find_service_in_path(char *path, char *unit, size_t size) {
        char *rest = NULL;
        bool found = false;

        for (char *part = strtok_r(path, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
                const char *end = strrchr(part, '.');

                if (end && text_equal(end, ".service"))
                        found = text_copy(unit, size, part);
        }
        return found;
}

/* Lines are NUMBER:CONTROLLERS:PATH. systemd's line has no controllers, or (cgroup 1) the controller "name=systemd". */
static void find_unit_of_process(const struct locations *locations, int32_t pid, char *unit, size_t size) {
        char file[64], path[PATH_MAX], text[CGROUP_SIZE];
        char *rest = NULL;

        unit[0] = '\0';
        text_set(file, "/proc/%d/cgroup", (int)pid);
        if (pid <= 1 || locations_path(path, locations, file) < 0 || file_read(path, text, sizeof(text)) < 0)
                return;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                char *controllers = strchr(line, ':');
                char *groups = controllers ? strchr(controllers + 1, ':') : NULL;

                if (groups &&
                    (text_starts_with(controllers, "::") || text_starts_with(controllers, ":name=systemd:")) &&
                    find_service_in_path(groups, unit, size))
                        return;
        }
        unit[0] = '\0';
}

static void take_property(struct candidate *candidate, const char *name, const char *value) {
        if (text_equal(name, "Id")) {
                text_set(candidate->unit, "%s", value);
                candidate->is_daemons |= text_equal(value, SERVICE_UNIT) || text_equal(value, "holdfast.service");
        } else if (text_equal(name, "MainPID"))
                candidate->main_pid = atoi(value);
        else if (text_equal(name, "ExecStart"))
                candidate->is_daemons |= strstr(value, "/nvidia-persistenced ") != NULL;
        else if (text_equal(name, "ActiveState") && !text_equal(value, "inactive"))
                candidate->weight |= WEIGHT_HAS_RUN;
        else if (text_equal(name, "UnitFileState") && text_starts_with(value, "enabled"))
                candidate->weight |= WEIGHT_ENABLED;
}

/* Called when all lines of a unit have been read. */
static void weigh(struct unit_search *search) {
        struct candidate *candidate = &search->candidate;

        if (search->daemon_pid > 0 && candidate->main_pid == search->daemon_pid)
                candidate->is_daemons = true;
        if (text_equal(candidate->unit, search->own_unit))
                candidate->weight |= WEIGHT_DAEMON;
        if (candidate->unit[0] != '\0' && candidate->is_daemons && candidate->weight > search->best.weight)
                search->best = *candidate;
        *candidate = (struct candidate){0};
}

/* "Name=value" a line; an empty line before the next unit. */
static void take_output(struct unit_search *search, char *output) {
        for (char *line; (line = strsep(&output, "\n"));) {
                char *value = strchr(line, '=');

                if (line[0] == '\0')
                        weigh(search);
                else if (value) {
                        *value = '\0';
                        take_property(&search->candidate, line, value + 1);
                }
        }
        weigh(search);
}

static void find_unit(char unit[static SERVICE_UNIT_SIZE], const struct locations *locations, int32_t daemon_pid,
                      uint64_t timeout_usec) {
        struct unit_search search = {.daemon_pid = daemon_pid, .best.unit = SERVICE_UNIT};
        /* Patterns match only units that systemd has in memory: those that are enabled, run, or have failed. */
        const char *arguments[] = {
                NULL,
                "show",
                "--no-pager",
                "--property=ActiveState,ExecStart,Id,MainPID,UnitFileState",
                "--",
                SERVICE_UNIT,
                "holdfast.service",
                "holdfast@*.service",
                "*nvidia-persistence*.service",
                search.own_unit,
                NULL,
        };
        char output[OUTPUT_SIZE] = "";

        find_unit_of_process(locations, daemon_pid, search.own_unit, sizeof(search.own_unit));
        if (search.own_unit[0] == '\0')
                arguments[ARRAY_SIZE(arguments) - 2] = NULL;
        if (service_can_ask(locations) &&
            service_run_program(locations, "systemctl", arguments, timeout_usec, output, sizeof(output)) == 0)
                take_output(&search, output);
        (void)text_copy(unit, SERVICE_UNIT_SIZE, search.best.unit);
}

void service_find(struct service *service, const struct locations *locations, int32_t daemon_pid,
                  uint64_t timeout_usec) {
        uint64_t start_usec = clock_monotonic_usec(), spent_usec;
        char unit[SERVICE_UNIT_SIZE];

        find_unit(unit, locations, daemon_pid, timeout_usec);
        spent_usec = clock_monotonic_usec() - start_usec;
        service_read(service, locations, unit, spent_usec < timeout_usec ? timeout_usec - spent_usec : 0);
}
