/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/command.h"

#include <stdarg.h>

__attribute__((format(printf, 2, 0))) static void print_complaint(const struct invocation *invocation,
                                                                  const char *format, va_list arguments) {
        (void)fflush(stdout); /* what was said before comes before */
        (void)fprintf(stderr, "%s: ", invocation->program);
        (void)vfprintf(stderr, format, arguments);
}

int complain(const struct invocation *invocation, int status, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        print_complaint(invocation, format, arguments);
        va_end(arguments);
        (void)fputc('\n', stderr);
        return status;
}

int complain_usage(const struct invocation *invocation, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        print_complaint(invocation, format, arguments);
        va_end(arguments);
        (void)fprintf(stderr, " (see %s --help)\n", invocation->program);
        return invocation->usage_status;
}
