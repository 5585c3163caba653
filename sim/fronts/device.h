#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The device files: open, ioctl, poll, close as FUSE requests, each that may sleep on a worker, interruptible.
 *
 * Closing. The real driver tears a GPU down inside the last close(2), and its clients rely on that: when "persistence
 * off" has been answered, a reset may follow. FUSE tells the last close by RELEASE, which nobody waits for; it sends
 * FLUSH at every close(2), and that is waited for. So at a FLUSH by a living process we look whether this was the last
 * reference to the open file, and if so close it there and then; the RELEASE that follows only frees.
 *
 * "Last" is decided by counting: the references to the inode that all processes have (descriptors.h) against the files
 * that are open on it by our books. Fewer references than files means that some file has none left, and the one being
 * closed is it, unless
 *   - another call on the same file is under way (it holds a reference that no descriptor shows);
 *   - other files of the inode are being closed at the same time: each of those might be the one without;
 *   - descriptors are travelling in some socket (SCM_RIGHTS), where they show in no process;
 *   - the process exits: it may have sent its descriptors to a supervisor just before; or it is inside execve(), where
 *     looking at it would wait for the very close that waits for us (descriptors.h). A process that exits is kept
 *     waiting all the same while a deferred open of the file is not done, as the driver does it.
 * In doubt the file is left to its RELEASE: late is right, early would tear a held GPU down. Files just being opened
 * by others are in the books a moment before they show in /proc; therefore, where the inode has other files, both
 * counts are taken twice with a pause between. If all this errs nevertheless, and a call comes for a file that was
 * closed, the journal and standard error say so: it is a fault of the simulator's, not of the client's.
 *
 * Character devices (cuse.h) know no FLUSH, and their RELEASE is waited for: there all of this is the kernel's doing.
 */

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include "sim/model/model.h"
#include "sim/tree/tree.h"

struct device_front;

/* A node, and the inode that descriptors of it refer to: of the mount's file, or of a character device in /dev. */
struct device_node {
        enum model_node node;
        unsigned minor;
        uint64_t inode;
};

int device_front_new(struct device_front **ret_front, struct model *model, struct tree *tree);
/* When no request comes any more. Waits for those in work, which model_stop() has ended. */
void device_front_free(struct device_front *front);

/* Tells of a GPU's node besides the tree's, so that who has it open is known to have the GPU. Before it is opened. */
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
