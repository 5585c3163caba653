/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/service.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/locations.h"
#include "base/program.h"
#include "base/text.h"

/* sd_booted(3) checks for this folder, too. */
#define RUNNING "/run/systemd/system"

#define TIMEOUT_MAX_USEC (3600 * USEC_PER_SEC) /* for "infinity" */

enum {
        OUTPUT_SIZE = 8192,
        WORDS_MAX = 6,
};

/* Which property goes where, for the first unit asked about and for the second. */
static const struct property {
        const char *name;
        size_t offset;
        size_t size;
} properties[][15] = {
#define PROPERTY(property_name, member)                                                                                \
        {                                                                                                              \
                .name = property_name, .offset = offsetof(struct service, member),                                     \
                .size = sizeof(((struct service *)0)->member)                                                          \
        }
        {
                PROPERTY("ActiveState", active_state),
                PROPERTY("Documentation", documentation),
                PROPERTY("DropInPaths", drop_in_paths),
                PROPERTY("DynamicUser", dynamic_user),
                PROPERTY("ExecMainStatus", exec_main_status),
                PROPERTY("ExecStart", exec_start),
                PROPERTY("FragmentPath", fragment_path),
                PROPERTY("LoadState", load_state),
                PROPERTY("NRestarts", n_restarts),
                PROPERTY("Result", result),
                PROPERTY("RuntimeDirectory", runtime_directory),
                PROPERTY("SubState", sub_state),
                PROPERTY("UnitFileState", unit_file_state),
                PROPERTY("User", user),
                {0},
        },
        {
                PROPERTY("UnitFileState", socket_file_state),
                {0},
        },
#undef PROPERTY
};

static bool find_program(const struct locations *locations, const char *name, char path[static PATH_MAX]) {
        for (const char *folder = locations->programs ? locations->programs : "/usr/bin:/bin"; *folder != '\0';) {
                size_t length = strcspn(folder, ":");

                if (folder[0] == '/' && text_format(path, PATH_MAX, "%.*s/%s", (int)length, folder, name) == 0 &&
                    access(path, X_OK) == 0)
                        return true;
                folder += length;
                folder += *folder == ':';
        }
        return false;
}

static void take_property(struct service *service, size_t unit, const char *name, const char *value) {
        for (const struct property *row = properties[unit]; row->name; row++)
                if (text_equal(row->name, name))
                        (void)text_copy((char *)service + row->offset, row->size, value);
}

/* The value after the label in "{ path=... ; argv[]=... ; code=exited ; status=3 }", up to the next " ;" or " }". */
static bool find_part(const char *command, const char *label, char *buffer, size_t size) {
        const char *part = strstr(command, label);

        if (!part)
                return false;
        part += strlen(label);
        for (size_t length = 0; part[length] != '\0'; length++)
                if (text_starts_with(part + length, " ;") || text_starts_with(part + length, " }"))
                        return text_format(buffer, size, "%.*s", (int)length, part) == 0;
        return false;
}

/* Called for each command except ExecStart=. Keeps the first that failed, unless its failure is ignored. */
static void take_command(struct service *service, const char *name, const char *value) {
        char path[192], code[16], status[16];

        if (service->failed_command[0] != '\0' || !strstr(value, "ignore_errors=no") ||
            !find_part(value, "path=", path, sizeof(path)) || !find_part(value, "code=", code, sizeof(code)) ||
            !find_part(value, "; status=", status, sizeof(status)))
                return;
        if (text_equal(code, "(null)") || (text_equal(code, "exited") && atoi(status) == 0))
                return;
        text_set(service->failed_command, "%s=%s", name, path);
        text_set(service->failed_status, "%s, %s", code, status);
}

static bool is_command(const char *name) {
        return text_equal(name, "ExecCondition") || text_equal(name, "ExecStartPre") ||
               text_equal(name, "ExecStartPost");
}

/* "Name=value" a line; an empty line before the next unit. */
static void take_output(struct service *service, char *output) {
        size_t unit = 0;

        for (char *line; (line = strsep(&output, "\n"));) {
                char *value = strchr(line, '=');

                if (line[0] == '\0' && ++unit == ARRAY_SIZE(properties))
                        return;
                if (!value)
                        continue;
                *value++ = '\0';
                if (unit == 0 && is_command(line))
                        take_command(service, line, value);
                take_property(service, unit, line, value);
        }
}

int service_run_program(const struct locations *locations, const char *name, const char **arguments,
                        uint64_t timeout_usec, char *output, size_t size) {
        char path[PATH_MAX];

        if (!find_program(locations, name, path))
                return -ENOENT;
        arguments[0] = path;
        return program_run(arguments, timeout_usec < TIMEOUT_MAX_USEC ? timeout_usec : TIMEOUT_MAX_USEC, output, size);
}

/* The unit's name without .service. */
static int short_name_length(const struct service *service) {
        const char *end = strrchr(service->unit, '.');

        return end ? (int)(end - service->unit) : (int)strlen(service->unit);
}

static int ask_systemctl(struct service *service, const struct locations *locations, uint64_t timeout_usec) {
        char socket_unit[SERVICE_UNIT_SIZE];
        const char *arguments[] = {
                NULL,
                "show",
                "--no-pager",
                "--property=ActiveState,Documentation,DropInPaths,DynamicUser,ExecCondition,ExecMainStatus,ExecStart,"
                "ExecStartPost,ExecStartPre,FragmentPath,LoadState,NRestarts,Result,RuntimeDirectory,SubState,"
                "UnitFileState,User",
                "--",
                service->unit,
                socket_unit,
                NULL,
        };
        char output[OUTPUT_SIZE] = "";
        int r;

        text_set(socket_unit, "%.*s.socket", short_name_length(service), service->unit);
        r = service_run_program(locations, "systemctl", arguments, timeout_usec, output, sizeof(output));
        if (r < 0) {
                text_set(service->reason, "systemctl show failed: %.60s",
                         r == -EIO && output[0] != '\0' ? text_trim(text_printable(output)) : strerror(-r));
                return r;
        }
        take_output(service, output);
        if (service->load_state[0] != '\0')
                return 0;
        text_set(service->reason, "systemctl show reported nothing about %.100s", service->unit);
        return -EBADMSG;
}

/*
 * Reads the last log line of the unit's failed command, or the daemon's last warning or error. Lines of systemd itself
 * about them say less, so the identifier excludes them.
 */
static void ask_journal(struct service *service, const struct locations *locations, uint64_t timeout_usec) {
        const char *program = strrchr(service->failed_command, '/');
        bool anybody = !program && service_flaps(service); /* it runs again: the failed command is unknown */
        char identifier[128], unit[SERVICE_UNIT_SIZE + 32];
        const char *arguments[] = {
                NULL,
                "--boot",
                "--quiet",
                "--no-pager",
                "--lines=1",
                "--output=cat",
                program || anybody ? "--priority=debug" : "--priority=warning",
                unit,
                anybody ? NULL : identifier,
                NULL,
        };
        char output[OUTPUT_SIZE];

        text_set(unit, "_SYSTEMD_UNIT=%s", service->unit);
        text_set(identifier, "SYSLOG_IDENTIFIER=%.100s", program ? program + 1 : "nvidia-persistenced");
        if (service_run_program(locations, "journalctl", arguments, timeout_usec, output, sizeof(output)) == 0)
                text_set(service->last_words, "%s", text_trim(output));
}

bool service_can_ask(const struct locations *locations) {
        char path[PATH_MAX];

        return locations_path(path, locations, RUNNING) == 0 && access(path, F_OK) == 0;
}

void service_read(struct service *service, const struct locations *locations, const char *unit, uint64_t timeout_usec) {
        *service = (struct service){0};
        text_set(service->unit, "%s", unit);
        if (!service_can_ask(locations)) {
                text_set(service->reason, "systemd does not run here: no %.100s%s", locations->root, RUNNING);
                return;
        }
        service->known = ask_systemctl(service, locations, timeout_usec) == 0;
        if (service_has_failed(service) || service_flaps(service))
                ask_journal(service, locations, timeout_usec);
}

bool service_has_failed(const struct service *service) {
        return service->known &&
               (text_equal(service->active_state, "failed") || text_equal(service->sub_state, "auto-restart"));
}

bool service_flaps(const struct service *service) {
        return service->known && text_equal(service->active_state, "activating") && atoi(service->n_restarts) > 0;
}

bool service_is_ours(const struct service *service) {
        return strstr(service->documentation, "man:holdfast(1)") != NULL;
}

const char *service_start_cure(const struct service *service) {
        return service->known && text_equal(service->unit_file_state, "static")
                       ? "systemctl add-wants multi-user.target UNIT && systemctl start UNIT"
                       : "systemctl enable --now UNIT";
}

const char *service_new_socket_cure(const struct service *service) {
        return service->socket_file_state[0] != '\0' ? "systemctl stop UNIT.socket; systemctl restart UNIT"
                                                     : "systemctl restart UNIT";
}

void service_command(const struct service *service, const char *commands, char *buffer, size_t size) {
        static const char word[] = "UNIT";

        buffer[0] = '\0';
        for (const char *found; (found = strstr(commands, word)); commands = found + strlen(word))
                text_append(buffer, size, "%.*s%.*s", (int)(found - commands), commands, short_name_length(service),
                            service->unit);
        text_append(buffer, size, "%s", commands);
}

bool service_runs_ours(const struct service *service, const struct locations *locations) {
        char program[PATH_MAX], path[PATH_MAX], ours[PATH_MAX];
        struct stat a, b;

        return service_program(service, program, sizeof(program)) && locations_path(path, locations, program) == 0 &&
               locations_path(ours, locations, HOLDFAST_DAEMON) == 0 && stat(path, &a) == 0 && stat(ours, &b) == 0 &&
               a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool service_program(const struct service *service, char *buffer, size_t size) {
        return find_part(service->exec_start, "path=", buffer, size) && buffer[0] != '\0';
}

/* Returns the output's first line, without its full stop. Further lines only say where to look. */
static char *first_sentence(char *output) {
        size_t length = strcspn(output, "\n");

        output[length > 0 && output[length - 1] == '.' ? length - 1 : length] = '\0';
        return text_trim(text_printable(output));
}

int service_control(const struct locations *locations, const char *const words[], uint64_t timeout_usec, char *error,
                    size_t error_size) {
        const char *arguments[WORDS_MAX + 2] = {NULL};
        char output[OUTPUT_SIZE] = "";
        int r;

        for (size_t i = 0; words[i] && i < WORDS_MAX; i++)
                arguments[i + 1] = words[i];
        r = service_run_program(locations, "systemctl", arguments, timeout_usec, output, sizeof(output));
        if (r < 0)
                (void)text_format(error, error_size, "systemctl %s failed: %s", words[0],
                                  r == -EIO && output[0] != '\0' ? first_sentence(output) : strerror(-r));
        return r;
}
