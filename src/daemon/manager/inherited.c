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
static char *fd_names; /* separated by colons; NULL: there are none */

static unsigned read_count(const char *pid, const char *fds) {
        uint64_t expected, number;

        if (!pid || !fds || text_parse_u64(pid, 10, INT32_MAX, &expected) < 0 || expected != (uint64_t)getpid() ||
            text_parse_u64(fds, 10, INHERITED_MAX, &number) < 0)
                return 0;
        return (unsigned)number;
}

void inherited_open(const char *pid, const char *fds, const char *names) {
        count = read_count(pid, fds);
        if (count > 0 && names)
                fd_names = strdup(names); /* without memory the descriptors have no names */
}

unsigned inherited_count(void) {
        return count;
}

int inherited_take(unsigned i, char *ret_name, unsigned name_size) {
        const char *name = fd_names;
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
        free(fd_names);
        fd_names = NULL;
        count = 0;
}
