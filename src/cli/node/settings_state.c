/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/settings_state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

enum { STATE_SIZE_MAX = 4 << 20 };

/* A killed service leaves its file behind if no service manager removes it. */
static bool is_running(const json_t *document) {
        json_int_t pid = json_integer_value(json_object_get(document, "pid"));

        return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

int settings_state_read_last(const struct locations *locations, json_t **ret_document) {
        CLEANUP(json_decrefp) json_t *document = NULL;
        CLEANUP(free_ptr) char *text = NULL;
        char path[PATH_MAX];
        int r;

        r = locations_path(path, locations, SETTINGS_STATE_FILE);
        if (r == 0)
                r = file_read_text_at(AT_FDCWD, path, STATE_SIZE_MAX, &text);
        if (r < 0)
                return r;
        document = json_loads(text, 0, NULL);
        if (!json_is_object(document))
                return -EBADMSG;
        *ret_document = take_ptr(document);
        return 0;
}

int settings_state_read(const struct locations *locations, json_t **ret_document) {
        CLEANUP(json_decrefp) json_t *document = NULL;
        int r = settings_state_read_last(locations, &document);

        if (r < 0)
                return r;
        if (!is_running(document))
                return -ENOENT;
        *ret_document = take_ptr(document);
        return 0;
}

const char *settings_state_text(const json_t *object, const char *key, const char *otherwise) {
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : otherwise;
}

json_t *settings_state_find_row(const json_t *rows, const char *key, const char *text, size_t *ret_place) {
        json_t *row;
        size_t i;

        json_array_foreach(rows, i, row) {
                if (!text_equal(settings_state_text(row, key, ""), text))
                        continue;
                *ret_place = i;
                return row;
        }
        return NULL;
}

json_t *settings_state_find(const json_t *document, const char *address) {
        size_t place;

        return settings_state_find_row(json_object_get(document, "gpus"), "address", address, &place);
}

size_t settings_state_count_differing(const json_t *gpu) {
        size_t i, n = 0;
        json_t *row;

        json_array_foreach(json_object_get(gpu, "settings"), i, row)
                n += json_is_true(json_object_get(row, "differs"));
        json_array_foreach(json_object_get(gpu, "hooks"), i, row)
                n += json_is_string(json_object_get(row, "failure"));
        return n;
}

static const char *text_of(const json_t *row, const char *key) {
        return settings_state_text(row, key, "?");
}

json_t *settings_state_problems(const json_t *gpu) {
        json_t *problems = json_array(), *row;
        size_t i;

        json_array_foreach(json_object_get(gpu, "settings"), i, row) {
                if (json_is_true(json_object_get(row, "differs")))
                        (void)json_array_append_new(problems,
                                                    json_sprintf("%s, wanted %s: %s", text_of(row, "name"),
                                                                 text_of(row, "wanted"), text_of(row, "reason")));
        }
        json_array_foreach(json_object_get(gpu, "hooks"), i, row) {
                if (json_is_string(json_object_get(row, "failure")))
                        (void)json_array_append_new(problems,
                                                    json_sprintf("hook %s at event %s: %s", text_of(row, "name"),
                                                                 text_of(row, "event"), text_of(row, "failure")));
        }
        return problems;
}

bool settings_state_is_applied(const json_t *gpu, uint64_t daemon_started, uint32_t opens) {
        return json_is_true(json_object_get(gpu, "applied")) &&
               json_integer_value(json_object_get(gpu, "daemon_started")) == (json_int_t)daemon_started &&
               json_integer_value(json_object_get(gpu, "opens")) == (json_int_t)opens;
}
