/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void standard_open(void) {
        int fd;

        do {
                fd = open("/dev/null", O_RDWR); /* without O_CLOEXEC: programs that we start need these, too */
                if (fd < 0)                     /* anything that occupies the number will do */
                        fd = open("/", O_PATH | O_DIRECTORY);
        } while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                (void)close(fd);
}

int standard_complain(const char *program, int status, const char *format, ...) {
        va_list arguments;

        (void)fprintf(stderr, "%s: ", program);
        va_start(arguments, format);
        (void)vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void)fputc('\n', stderr);
        return status;
}

int standard_close_output(const char *program) {
        bool failed = ferror(stdout) != 0;
        int error = errno; /* of an earlier failed write, if nothing else has failed since */

        if (fclose(stdout) == 0 && !failed)
                return 0;
        if (!failed)
                error = errno;
        else if (error == 0)
                error = EIO;
        if (error != EPIPE)
                (void)fprintf(stderr, "%s: cannot write the output: %s\n", program, strerror(error));
        return -error;
}
