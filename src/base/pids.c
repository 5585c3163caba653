/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/pids.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/text.h"

enum { ROOM_FIRST = 256 };

static void dir_done(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

int pids_list(pid_t **ret_pids, size_t *ret_n) {
        CLEANUP(dir_done) DIR *dir = opendir("/proc");
        CLEANUP(free_ptr) pid_t *pids = NULL;
        size_t n = 0, room = 0;
        struct dirent *entry;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir))) {
                uint64_t pid;

                if (text_parse_u64(entry->d_name, 10, INT32_MAX, &pid) < 0)
                        continue;
                if (n == room) {
                        pid_t *more;

                        room = room ? 2 * room : ROOM_FIRST;
                        more = reallocarray(pids, room, sizeof(*pids));
                        if (!more)
                                return -ENOMEM;
                        pids = more;
                }
                pids[n++] = (pid_t)pid;
        }
        *ret_pids = take_ptr(pids);
        *ret_n = n;
        return 0;
}
