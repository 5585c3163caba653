/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/inherited.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { FIRST_FD = 3 };

unsigned inherited_count(void) {
        const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
        uint64_t expected, count;

        if (!pid || !fds || text_parse_u64(pid, 10, INT32_MAX, &expected) < 0 || expected != (uint64_t)getpid() ||
            text_parse_u64(fds, 10, INHERITED_MAX, &count) < 0)
                return 0;
        return (unsigned)count;
}

int inherited_take(unsigned i, char *ret_name, unsigned name_size) {
        const char *names = getenv("LISTEN_FDNAMES");
        size_t length = 0;

        for (unsigned skipped = 0; names && skipped < i; skipped++) {
                names = strchr(names, ':');
                names = names ? names + 1 : NULL;
        }
        if (names)
                length = strcspn(names, ":");
        if (length >= name_size)
                length = 0;
        memcpy(ret_name, names ? names : "", length);
        ret_name[length] = '\0';
        (void)fcntl(FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
        return FIRST_FD + (int)i;
}

void inherited_done(void) {
        (void)unsetenv("LISTEN_PID");
        (void)unsetenv("LISTEN_FDS");
        (void)unsetenv("LISTEN_FDNAMES");
}
