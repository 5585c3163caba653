/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/pids.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

int pids_list(pid_t **ret_pids, size_t *ret_n) {
        CLEANUP(dir_done) DIR *dir = opendir("/proc");
        CLEANUP(free_ptr) pid_t *pids = NULL;
        size_t n = 0;
        struct dirent *entry;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir))) {
                pid_t *more;
                uint64_t pid;

                if (text_parse_u64(entry->d_name, 10, INT32_MAX, &pid) < 0)
                        continue;
                more = array_grown(pids, n, sizeof(*pids));
                if (!more)
                        return -ENOMEM;
                pids = more;
                pids[n++] = (pid_t)pid;
        }
        *ret_pids = take_ptr(pids);
        *ret_n = n;
        return 0;
}

ssize_t pids_read(pid_t pid, const char *name, char *buffer, size_t size) {
        char path[64];
        int r = text_format(path, sizeof(path), "/proc/%d/%s", (int)pid, name);

        return r < 0 ? r : file_read(path, buffer, size);
}

const char *pids_read_name(pid_t pid, char *buffer, size_t size) {
        char text[64]; /* kernel threads have longer names than programs */

        if (pids_read(pid, "comm", text, sizeof(text)) < 0)
                text[0] = '\0';
        (void)text_copy(buffer, size, text_printable(text_trim(text)));
        return buffer;
}
