/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/tree/kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"

enum { PRIORITY = 3 }; /* facility 0 (kernel), level "error" */

struct kernel_log {
        struct model *model;
        int run_fd;
        int fd;
        uint64_t sequence;
};

/* Called with the model locked. If no process reads the FIFO, it becomes full and further lines are lost. */
static void on_line(void *user, const char *line) {
        struct kernel_log *log = user;
        char record[256];

        (void)text_format(record, sizeof(record), "%d,%" PRIu64 ",%" PRIu64 ",-;%s\n", PRIORITY, log->sequence++,
                          clock_monotonic_usec(), line);
        (void)!write(log->fd, record, strlen(record));
}

int kernel_log_new(struct kernel_log **ret_log, struct model *model, int run_fd) {
        CLEANUP(free_ptr) struct kernel_log *log = calloc(1, sizeof(*log));

        if (!log)
                return -ENOMEM;
        (void)unlinkat(run_fd, KERNEL_LOG_FIFO, 0); /* left by a killed simulator */
        if (mkfifoat(run_fd, KERNEL_LOG_FIFO, 0644) < 0)
                return -errno;
        /* Also open it for reading, so that writes work while no other process reads it. */
        log->fd = openat(run_fd, KERNEL_LOG_FIFO, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (log->fd < 0)
                return -errno;
        log->model = model;
        log->run_fd = run_fd;
        model_set_kernel_log(model, on_line, log);
        *ret_log = take_ptr(log);
        return 0;
}

void kernel_log_free(struct kernel_log *log) {
        if (!log)
                return;
        model_set_kernel_log(log->model, NULL, NULL);
        (void)unlinkat(log->run_fd, KERNEL_LOG_FIFO, 0);
        (void)fd_close(log->fd);
        free(log);
}
