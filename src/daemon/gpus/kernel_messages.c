/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/gpus/kernel_messages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/text.h"

enum {
        MEM_MAJOR = 1, /* Documentation/admin-guide/devices.txt */
        KMSG_MINOR = 11,

        RECORD_SIZE_MAX = 8192,     /* bytes; the kernel's limit, prefix included */
        LAST_KERNEL_PRIORITY = '7', /* 0 to 7 are facility 0; the others are 8 or have more digits */

        /* If the log is flooded, one turn of the loop reads so many records; the rest is read after a pause. */
        RECORDS_PER_TURN = 64,
        PAUSE_MSEC = 20,
};

struct kernel_messages {
        struct kernel_messages_callbacks callbacks;
        int fd;
        struct event *readable;
        struct event *pause;
        bool wanted;
};

/* ---- one record ---- */

/* Returns what follows "<priority>,<sequence>,...;", or NULL if the facility is not 0. */
static const char *skip_head(const char *record) {
        const char *text = strchr(record, ';');

        return text && record[0] >= '0' && record[0] <= LAST_KERNEL_PRIORITY && record[1] == ',' ? text + 1 : NULL;
}

/* Accepts only exactly what the driver prints ("%04x:%02x:%02x.%x"), and no other message that mentions a GPU. */
static bool parse_text(const char *text, struct pci_address *ret_address) {
        static const char before[] = "NVRM: Attempting to remove device ", after[] = " with non-zero usage count!";
        char name[PCI_ADDRESS_SIZE], again[PCI_ADDRESS_SIZE];
        struct pci_address address;
        size_t length;

        if (!text_starts_with(text, before))
                return false;
        text += strlen(before);
        length = strcspn(text, " ");
        if (length >= sizeof(name) || !text_equal(text + length, after))
                return false;
        memcpy(name, text, length);
        name[length] = '\0';
        if (pci_address_parse(name, &address) < 0 || !text_equal(pci_address_format(&address, again), name))
                return false;
        *ret_address = address;
        return true;
}

bool kernel_messages_parse(const char *record, size_t length, struct pci_address *ret_address) {
        char line[192];
        const char *text;

        if (length > 0 && record[length - 1] == '\n')
                length--;
        if (length >= sizeof(line) || memchr(record, '\0', length))
                return false;
        memcpy(line, record, length);
        line[length] = '\0';
        text = skip_head(line);
        return text && parse_text(text, ret_address);
}

/* ---- the log ---- */

int kernel_messages_open(const struct locations *locations) {
        char path[PATH_MAX];
        int fd, r;

        r = locations_path(path, locations, "/dev/kmsg");
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* In a container this path may be anything. The log of a simulated driver is a FIFO. */
        if (locations->nodes_are_devices && !kernel_messages_is_log(fd)) {
                (void)fd_close(fd);
                return -ENOTTY;
        }
        return fd;
}

bool kernel_messages_is_log(int fd) {
        struct stat status;

        return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(MEM_MAJOR, KMSG_MINOR);
}

static void take_record(struct kernel_messages *messages, const char *record, size_t length) {
        struct pci_address address;

        if (kernel_messages_parse(record, length, &address))
                messages->callbacks.on_unbind(&address, messages->callbacks.userdata);
}

/*
 * A read of the kernel log returns one record, perhaps with lines of properties, which begin with a blank. A read of a
 * FIFO returns several records.
 */
static void take_records(struct kernel_messages *messages, const char *bytes, size_t length) {
        while (length > 0 && messages->wanted) {
                const char *end = memchr(bytes, '\n', length);
                size_t size = end ? (size_t)(end - bytes) + 1 : length;

                take_record(messages, bytes, size);
                bytes += size;
                length -= size;
        }
}

/*
 * Returns 1 if it read something, 0 if there is nothing more now, or negative errno: -ENODATA at the end of the log.
 * The kernel log has no end. That of a simulator has one when the simulator ends, and would stay readable for ever.
 */
static int read_record(struct kernel_messages *messages, bool skip) {
        char bytes[RECORD_SIZE_MAX];
        ssize_t length = read(messages->fd, bytes, sizeof(bytes));

        if (length < 0 && (errno == EPIPE || errno == EINTR)) /* EPIPE: records were overwritten */
                return 1;
        if (length < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (length == 0)
                return -ENODATA;
        if (!skip)
                take_records(messages, bytes, (size_t)length);
        return 1;
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        static const struct timeval pause = {.tv_usec = PAUSE_MSEC * 1000};
        struct kernel_messages *messages = userdata;
        int r = 1;

        for (unsigned i = 0; i < RECORDS_PER_TURN && r > 0 && messages->wanted; i++)
                r = read_record(messages, false);
        if (r == 0 || !messages->wanted)
                return;
        (void)event_del(messages->readable);
        if (r > 0)
                (void)event_add(messages->pause, &pause);
}

static void on_pause(evutil_socket_t fd, short what, void *userdata) {
        struct kernel_messages *messages = userdata;

        (void)event_add(messages->readable, NULL);
}

/* lseek() fails on a FIFO, so its old records are read instead. */
static void skip_old(struct kernel_messages *messages) {
        if (lseek(messages->fd, 0, SEEK_END) >= 0)
                return;
        for (unsigned i = 0; i < RECORDS_PER_TURN && read_record(messages, true) > 0; i++)
                ;
}

void kernel_messages_want(struct kernel_messages *messages, bool wanted) {
        if (wanted == messages->wanted)
                return;
        messages->wanted = wanted;
        (void)event_del(messages->pause);
        (void)event_del(messages->readable);
        if (!wanted)
                return;
        skip_old(messages);
        (void)event_add(messages->readable, NULL);
}

/* ---- life ---- */

int kernel_messages_new(struct kernel_messages **ret_messages, struct event_base *loop, int fd,
                        const struct kernel_messages_callbacks *callbacks) {
        struct kernel_messages *messages = calloc(1, sizeof(*messages));

        if (!messages) {
                (void)fd_close(fd);
                return -ENOMEM;
        }
        messages->callbacks = *callbacks;
        messages->fd = fd;
        messages->readable = event_new(loop, fd, EV_READ | EV_PERSIST, on_readable, messages);
        messages->pause = event_new(loop, -1, 0, on_pause, messages);
        if (!messages->readable || !messages->pause) {
                kernel_messages_free(messages);
                return -ENOMEM;
        }
        *ret_messages = messages;
        return 0;
}

void kernel_messages_free(struct kernel_messages *messages) {
        if (!messages)
                return;
        if (messages->readable)
                event_free(messages->readable);
        if (messages->pause)
                event_free(messages->pause);
        (void)fd_close(messages->fd);
        free(messages);
}
