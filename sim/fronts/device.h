#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The device files: open, ioctl, poll and close as FUSE requests. Requests that may sleep run on workers and can be
 * interrupted.
 *
 * Closing. The real driver tears a GPU down inside the last close(2), and its clients rely on that: when "persistence
 * off" has been answered, a reset may follow. FUSE reports the last close by RELEASE, for which close(2) does not wait;
 * but close(2) waits for FLUSH, which FUSE sends at every close. So a FLUSH by a living process checks whether this was
 * the last reference to the open file, and if so closes the file at once; the RELEASE that follows only frees memory.
 *
 * To find the last reference, the code compares two numbers: the references to the inode in all processes
 * (descriptors.h), and the open files of the inode that this module knows. Fewer references than files means that some
 * file has no reference left. This is the file being closed, unless
 *   - another call on the same file is under way (it holds a reference that no descriptor shows);
 *   - other files of the inode are being closed at the same time, and each of them might be the one without a
 * reference;
 *   - descriptors are in a socket's queue (SCM_RIGHTS), where they do not appear in any process;
 *   - the process exits: it may just have sent its descriptors to a supervisor; or it is inside execve(), where
 * examining it would be a deadlock (descriptors.h). As in the driver, a process that exits still waits while a deferred
 * open of the file is not done. In doubt, RELEASE closes the file: late is correct, early would tear a held GPU down. A
 * file that another process is opening is known here a moment before it appears in /proc. So if the inode has other
 * files, the code counts twice with a pause between. If it is wrong nevertheless, and a call comes for a closed file,
 * the journal and standard error report it: this is an error of the simulator, not of the client.
 *
 * Character devices (cuse.h) have no FLUSH, and close(2) waits for their RELEASE, so the kernel does all of this.
 */

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include "sim/model/model.h"
#include "sim/tree/tree.h"

struct device_front;

/* A node, and the inode to which its descriptors refer: of the mount's file, or of a character device in /dev. */
struct device_node {
        enum model_node node;
        unsigned minor;
        uint64_t inode;
};

int device_front_new(struct device_front **ret_front, struct model *model, struct tree *tree);
/* Call this when no more requests come. Waits for requests under way, whose waits model_stop() has ended. */
void device_front_free(struct device_front *front);

/* Registers a GPU's character device, before it is opened, so that processes which have it open count as users. */
void device_front_add_node(struct device_front *front, const struct device_node *node);

/* FUSE operations on device nodes; each replies. */
void device_open(struct device_front *front, fuse_req_t request, const struct device_node *node,
                 struct fuse_file_info *info);
void device_ioctl(struct device_front *front, fuse_req_t request, unsigned command, uint64_t argument,
                  struct fuse_file_info *info, const void *data, size_t in_size, size_t out_size);
void device_poll(struct device_front *front, fuse_req_t request, struct fuse_file_info *info,
                 struct fuse_pollhandle *poll_handle);
void device_flush(struct device_front *front, fuse_req_t request, struct fuse_file_info *info);
void device_release(struct device_front *front, fuse_req_t request, struct fuse_file_info *info);
