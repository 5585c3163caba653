/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/args/command.h"

#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "cli/report/report.h"
#include "cli/report/wrap.h"

enum {
        MESSAGE_SIZE = 4096,
        INDENT = 6, /* of further lines */
};

/* Broken into lines where somebody reads it; one line in a log or a pipe. */
static void print_message(const char *prefix, const char *text) {
        (void)fflush(stdout); /* what was said before comes before */
        (void)fputs(prefix, stderr);
        wrap_print(stderr, text, strlen(prefix), INDENT, report_style_of(stderr).width);
}

static void print_complaint(const struct invocation *invocation, const char *text) {
        char prefix[64];

        (void)text_format(prefix, sizeof(prefix), "%s: ", invocation->program);
        print_message(prefix, text);
}

int complain(const struct invocation *invocation, int status, const char *format, ...) {
        char text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        print_complaint(invocation, text);
        return status;
}

int complain_memory(const struct invocation *invocation, int status) {
        return complain(invocation, status, "out of memory");
}

int complain_usage(const struct invocation *invocation, const char *format, ...) {
        char text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        text_append(text, sizeof(text), " (see %s --help)", invocation->program);
        print_complaint(invocation, text);
        return invocation->usage_status;
}

void complain_detail(const char *format, ...) {
        char text[MESSAGE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        print_message("  ", text);
}

int command_look(const struct invocation *invocation, unsigned flags, uint64_t timeout_usec,
                 struct snapshot **ret_snapshot) {
        const struct snapshot_request request = {
                .locations = invocation->locations,
                .flags = flags,
                .timeout_usec = timeout_usec,
        };
        int r = snapshot_read(&request, ret_snapshot);

        if (r < 0)
                (void)complain_memory(invocation, STATUS_FAILED);
        return r;
}
