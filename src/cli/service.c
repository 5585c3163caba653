/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/service.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "gpu/modprobe.h"

#define SOCKET_UNIT "nvidia-persistenced.socket"

enum { OUTPUT_SIZE = 8192 };

/* Which property goes where, for the first unit asked about and for the second. */
static const struct property {
        const char *name;
        size_t offset;
        size_t size;
} properties[][12] = {
#define PROPERTY(property_name, member)                                                                                \
        {                                                                                                              \
                .name = property_name, .offset = offsetof(struct service, member),                                     \
                .size = sizeof(((struct service *)0)->member)                                                          \
        }
        {
                PROPERTY("ActiveState", active_state),
                PROPERTY("DynamicUser", dynamic_user),
                PROPERTY("ExecMainStatus", exec_main_status),
                PROPERTY("ExecStart", exec_start),
                PROPERTY("FragmentPath", fragment_path),
                PROPERTY("LoadState", load_state),
                PROPERTY("Result", result),
                PROPERTY("RuntimeDirectory", runtime_directory),
                PROPERTY("SubState", sub_state),
                PROPERTY("UnitFileState", unit_file_state),
                PROPERTY("User", user),
                {0},
        },
        {
                PROPERTY("ActiveState", socket_active_state),
                PROPERTY("UnitFileState", socket_file_state),
                {0},
        },
#undef PROPERTY
};

/* Finds the program on PATH. */
static bool find_program(const char *name, char path[static PATH_MAX]) {
        const char *folders = getenv("PATH");

        for (const char *folder = folders ? folders : "/usr/bin:/bin"; *folder != '\0';) {
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

/* "Name=value" a line; an empty line before the next unit. */
static void take_output(struct service *service, char *output) {
        size_t unit = 0;

        for (char *line = output; *line != '\0';) {
                size_t length = strcspn(line, "\n");
                char *next = line + length + (line[length] == '\n');
                char *value;

                line[length] = '\0';
                value = strchr(line, '=');
                if (length == 0 && ++unit == ARRAY_SIZE(properties))
                        return;
                if (value) {
                        *value = '\0';
                        take_property(service, unit, line, value + 1);
                }
                line = next;
        }
}

void service_read(struct service *service, const char *root, uint64_t timeout_usec) {
        const char *const arguments[] = {
                NULL,
                "show",
                "--no-pager",
                "--property=ActiveState,DynamicUser,ExecMainStatus,ExecStart,FragmentPath,LoadState,Result,"
                "RuntimeDirectory,SubState,UnitFileState,User",
                SERVICE_UNIT,
                SOCKET_UNIT,
                NULL,
        };
        const char *call[ARRAY_SIZE(arguments)];
        char path[PATH_MAX], output[OUTPUT_SIZE];
        int r;

        *service = (struct service){0};
        /* This folder is how sd_booted(3) tells. Below a root it is that tree's systemd, which nobody can ask. */
        if (file_rooted(path, root, "/run/systemd/system") < 0 || access(path, F_OK) < 0) {
                (void)text_format(service->reason, sizeof(service->reason), "systemd does not run here: no %.100s",
                                  path);
                return;
        }
        if (!find_program("systemctl", path)) {
                (void)text_copy(service->reason, sizeof(service->reason), "there is no systemctl on PATH");
                return;
        }
        memcpy(call, arguments, sizeof(call));
        call[0] = path;
        r = modprobe_run(call, timeout_usec, output, sizeof(output));
        if (r < 0) {
                (void)text_format(service->reason, sizeof(service->reason), "systemctl show failed: %.60s",
                                  r == -EIO && output[0] != '\0' ? text_trim(text_printable(output)) : strerror(-r));
                return;
        }
        take_output(service, output);
        service->known = service->load_state[0] != '\0';
        if (!service->known)
                (void)text_copy(service->reason, sizeof(service->reason),
                                "systemctl show told nothing about " SERVICE_UNIT);
}

bool service_program(const struct service *service, char *buffer, size_t size) {
        static const char label[] = "path=";
        const char *path = strstr(service->exec_start, label);
        size_t length;

        if (!path)
                return false;
        path += strlen(label);
        length = strcspn(path, " ;");
        return length > 0 && length < size && text_format(buffer, size, "%.*s", (int)length, path) == 0;
}
