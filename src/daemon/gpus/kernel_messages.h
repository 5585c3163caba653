#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Unbinds as the kernel log tells of them: how drivers before 575.51.02, which post no notice, can be let go of in
 * time. Each time that the driver begins to wait for a GPU's users (kernel-open/nvidia/nv-pci.c) it says
 *
 *      NVRM: Attempting to remove device 0000:17:00.0 with non-zero usage count!
 *
 * Read from /dev/kmsg, one record a read: "priority,sequence,microseconds,flags;text". The priority has the facility
 * from its fourth bit on; the kernel gives its own, 0, to nobody else's records, so that they cannot be forged. Only an
 * open of the log needs a privilege (CAP_SYSLOG with kernel.dmesg_restrict): root opens it before it drops its
 * privileges, or the service manager passes a descriptor that root has opened.
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
        /* The driver waits for the users of the GPU at that address. Any GPU's, held or not. */
        void (*on_unbind)(const struct pci_address *address, void *userdata);
        void *userdata;
};

/* Opens the log. Returns a descriptor, or negative errno: -EPERM, -EACCES without the privilege. */
int kernel_messages_open(const struct locations *locations);

/* Whether a descriptor that somebody passed is one of the log. */
bool kernel_messages_is_log(int fd);

/* Owns the descriptor, also on failure. Returns 0 or negative errno. Nothing is read before it is wanted. */
int kernel_messages_new(struct kernel_messages **ret_messages, struct event_base *loop, int fd,
                        const struct kernel_messages_callbacks *callbacks);
/* NULL is nothing. */
void kernel_messages_free(struct kernel_messages *messages);

/* Whether to listen. What was said before that is not told. */
void kernel_messages_want(struct kernel_messages *messages, bool wanted);

/* Whether a record of the log, with or without its line's end, is the driver's word that it waits; for which GPU. */
bool kernel_messages_parse(const char *record, size_t length, struct pci_address *ret_address);
