#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Detects unbinds in the kernel log, for drivers before 575.51.02, which post no notices. When the driver begins to
 * wait for the users of a GPU (kernel-open/nvidia/nv-pci.c), it logs
 *
 *      NVRM: Attempting to remove device 0000:17:00.0 with non-zero usage count!
 *
 * Each read of /dev/kmsg returns one record: "priority,sequence,microseconds,flags;text". The priority is the level
 * plus 8 times the facility. Only the kernel's own records have facility 0, so they cannot be forged. Only opening the
 * log needs a privilege (CAP_SYSLOG with kernel.dmesg_restrict): the daemon opens it before it drops its privileges, or
 * the service manager passes a descriptor that it has opened as root.
 */

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>

#include "base/locations.h"
#include "gpu/pci.h"

/* The name of the descriptor that the service manager passes. */
#define KERNEL_MESSAGES_NAME "kernel-log"

struct kernel_messages;

struct kernel_messages_callbacks {
        /* The driver waits for the users of the GPU at that address. Called for any GPU, held or not. */
        void (*on_unbind)(const struct pci_address *address, void *userdata);
        void *userdata;
};

/*
 * Opens the log. Returns a descriptor, or negative errno: -EPERM or -EACCES without the privilege, -ENOTTY if the file
 * is not the kernel log.
 */
int kernel_messages_open(const struct locations *locations);

/* Whether a descriptor that was passed to us refers to the kernel log. */
bool kernel_messages_is_log(int fd);

/*
 * Takes ownership of the descriptor, also on failure. Returns 0 or -ENOMEM. Reads nothing before
 * kernel_messages_want().
 */
int kernel_messages_new(struct kernel_messages **ret_messages, struct event_base *loop, int fd,
                        const struct kernel_messages_callbacks *callbacks);
/* NULL is allowed. */
void kernel_messages_free(struct kernel_messages *messages);

/* Starts or stops listening. Records from before the start are not reported. */
void kernel_messages_want(struct kernel_messages *messages, bool wanted);

/* Whether a record of the log, with or without the newline, says that the driver waits; *ret_address is the GPU. */
bool kernel_messages_parse(const char *record, size_t length, struct pci_address *ret_address);
