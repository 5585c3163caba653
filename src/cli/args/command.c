/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/args/command.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "cli/report/report.h"

enum {
        MESSAGE_SIZE = 4096,
        INDENT = 6, /* of further lines */
};

/* Breaks lines on a terminal only. */
static void print_message(const char *prefix, const char *text) {
        (void)fflush(stdout); /* keeps the order of what is printed */
        (void)fputs(prefix, stderr);
        text_wrap(stderr, text, strlen(prefix), INDENT, report_style_of(stderr).width);
}

int complain(const struct invocation *invocation, int status, const char *format, ...) {
        char prefix[64], text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        text_set(prefix, "%s: ", invocation->program);
        print_message(prefix, text);
        return status;
}

static int failure(const struct invocation *invocation, int status) {
        return invocation->failed_status != 0 ? invocation->failed_status : status;
}

int complain_memory(const struct invocation *invocation) {
        return complain(invocation, failure(invocation, STATUS_FAILED), "out of memory");
}

int complain_usage(const struct invocation *invocation, const char *format, ...) {
        char text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        return complain(invocation, failure(invocation, STATUS_USAGE), "%s (see %s --help)", text, invocation->program);
}

void complain_detail(const char *format, ...) {
        char text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        print_message("  ", text);
}

/* ---- what most commands begin and end with ---- */

int command_look(const struct invocation *invocation, unsigned flags, uint64_t timeout_usec,
                 struct snapshot **ret_snapshot) {
        const struct snapshot_request request = {
                .locations = invocation->locations,
                .flags = flags,
                .timeout_usec = timeout_usec,
        };

        return snapshot_read(&request, ret_snapshot) < 0 ? complain_memory(invocation) : STATUS_DONE;
}

int command_select(const struct invocation *invocation, const struct ids *ids, int nothing_status,
                   struct snapshot *snapshot) {
        char text[REPORT_NOTHING_SIZE];
        int r;

        if (snapshot_is_empty(snapshot))
                return complain(invocation, nothing_status, "%s",
                                report_nothing(snapshot, invocation->locations, text, sizeof(text)));
        r = ids_select(ids, snapshot, text, sizeof(text));
        return r < 0 ? complain(invocation, failure(invocation, r == -EINVAL ? STATUS_USAGE : STATUS_NO_GPU), "%s",
                                text)
                     : STATUS_DONE;
}

int command_print_json(const struct invocation *invocation, json_t *document) {
        return report_json_print(document, stdout) < 0 ? complain_memory(invocation) : STATUS_DONE;
}
