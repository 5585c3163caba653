/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/inherited.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { FIRST_FD = 3 };

static unsigned count;
static char *names; /* with colons between them; NULL: none were given */

static unsigned read_count(void) {
        const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
        uint64_t expected, number;

        if (!pid || !fds || text_parse_u64(pid, 10, INT32_MAX, &expected) < 0 || expected != (uint64_t)getpid() ||
            text_parse_u64(fds, 10, INHERITED_MAX, &number) < 0)
                return 0;
        return (unsigned)number;
}

void inherited_open(void) {
        const char *given = getenv("LISTEN_FDNAMES");

        count = read_count();
        if (count > 0 && given)
                names = strdup(given); /* without memory for the names: descriptors without names */
        (void)unsetenv("LISTEN_PID");
        (void)unsetenv("LISTEN_FDS");
        (void)unsetenv("LISTEN_FDNAMES");
}

unsigned inherited_count(void) {
        return count;
}

int inherited_take(unsigned i, char *ret_name, unsigned name_size) {
        const char *name = names;
        size_t length = 0;

        for (unsigned skipped = 0; name && skipped < i; skipped++) {
                name = strchr(name, ':');
                name = name ? name + 1 : NULL;
        }
        if (name)
                length = strcspn(name, ":");
        if (length >= name_size)
                length = 0;
        if (length > 0)
                memcpy(ret_name, name, length);
        ret_name[length] = '\0';
        (void)fcntl(FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
        return FIRST_FD + (int)i;
}

void inherited_done(void) {
        free(names);
        names = NULL;
        count = 0;
}
