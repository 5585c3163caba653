/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/text.h"

enum { RECORD_SIZE_MAX = 16384 }; /* the kernel's own limit is 8192; less than a record is EINVAL */

/* A line with one of these has the reason of a problem. */
static const char *const signs[] = {
        "RmInitAdapter",
        "Xid",
        "fallen off the bus",
};

static bool is_reason(const char *text, const char *address) {
        if (!strstr(text, "NVRM") || !strstr(text, address))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
                if (strstr(text, signs[i]))
                        return true;
        return false;
}

/* The log's clock starts with the system, as CLOCK_MONOTONIC does. */
static uint64_t to_realtime(uint64_t log_usec) {
        uint64_t now_usec = clock_monotonic_usec();

        return clock_realtime_usec() - (now_usec > log_usec ? now_usec - log_usec : 0);
}

static bool take_record(char *record, const char *address, struct kernel_log_line *line) {
        uint64_t log_usec;
        char *text;

        if (sscanf(record, "%*u,%*u,%" SCNu64, &log_usec) != 1)
                return false; /* begins with a blank: properties of the record before */
        text = strchr(record, ';');
        if (!text || !is_reason(text + 1, address))
                return false;
        text_set(line->text, "%s", text_printable(text_trim(text + 1)));
        line->realtime_usec = to_realtime(log_usec);
        return true;
}

static bool take_records(char *records, const char *address, struct kernel_log_line *line) {
        char *record, *rest = NULL;
        bool found = false;

        for (record = strtok_r(records, "\n", &rest); record; record = strtok_r(NULL, "\n", &rest))
                found |= take_record(record, address, line);
        return found;
}

int kernel_log_find(const struct locations *locations, const struct pci_address *address,
                    struct kernel_log_line *ret_line) {
        CLEANUP(fd_done) int fd = -1;
        char path[PATH_MAX], records[RECORD_SIZE_MAX], name[PCI_ADDRESS_SIZE];
        bool found = false;
        int r;

        r = locations_path(path, locations, "/dev/kmsg");
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* The driver prints "0000:17:00.0" in some lines, and in those with an Xid "0000:17:00". */
        name[strcspn(pci_address_format(address, name), ".")] = '\0';
        for (;;) {
                ssize_t count = read(fd, records, sizeof(records) - 1);

                if (count < 0 && (errno == EPIPE || errno == EINTR))
                        continue; /* overwritten meanwhile: go on with the oldest record */
                if (count < 0 && errno != EAGAIN)
                        return -errno;
                if (count <= 0)
                        break;
                records[count] = '\0';
                found |= take_records(records, name, ret_line);
        }
        return found ? 0 : -ENOENT;
}
