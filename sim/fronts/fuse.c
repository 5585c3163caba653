/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "sim/fronts/bus.h"
#include "sim/fronts/descriptors.h"
#include "sim/fronts/device.h"
#include "sim/fronts/loop.h"
#include "sim/tree/tree.h"

enum {
        BACKGROUND_MAX = 512, /* RELEASEs under way; with the kernel's default of 12, a busy process's closes queue */
        BUS_WORKERS_MAX = 2 * SCENARIO_GPUS_MAX,
        GENERATION = 1,
        LASTING_SEC = 3600,
};

struct fuse_front {
        struct model *model;
        struct workers *workers; /* for writes to sysfs that sleep */
        struct tree *tree;
        struct device_front *devices;
        struct fuse_session *session;
        struct front_loop *loop;
        LIST_HEAD(, text_file) texts; /* open ones: at the end, the kernel does not close open files */
};

/* An open file of /proc or /sys, with its text at the time of the open, as from seq_file. */
struct text_file {
        LIST_ENTRY(text_file) link; /* of the front's */
        size_t length;
        char *text;
};

static bool is_device(fuse_ino_t node) {
        enum model_node device;
        unsigned minor;

        return tree_is_device(node, &device, &minor);
}

static struct fuse_front *front_of(fuse_req_t request) {
        return fuse_req_userdata(request);
}

/* ---- names ---- */

static void on_init(void *data, struct fuse_conn_info *connection) {
        connection->max_background = BACKGROUND_MAX;
        connection->congestion_threshold = BACKGROUND_MAX;
}

/*
 * How long the kernel may cache a node's attributes: not at all, since GPUs can be added and removed, except for
 * folders that are not about a GPU. The root is never cached, because mount.c uses it to recognise a mount whose server
 * was killed.
 */
static double seconds_valid(fuse_ino_t node) {
        return node != TREE_ROOT && tree_is_lasting(node) ? LASTING_SEC : 0;
}

static void on_lookup(fuse_req_t request, fuse_ino_t folder, const char *name) {
        struct fuse_entry_param entry = {.generation = GENERATION};
        struct fuse_front *front = front_of(request);
        uint64_t node;
        int r = tree_lookup(front->tree, folder, name, &node);

        if (r == 0)
                r = tree_stat(front->tree, node, &entry.attr);
        if (r < 0) {
                (void)fuse_reply_err(request, -r);
                return;
        }
        entry.ino = node;
        entry.entry_timeout = entry.attr_timeout = seconds_valid(node);
        (void)fuse_reply_entry(request, &entry);
}

static void on_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        struct stat status;
        int r = tree_stat(front_of(request)->tree, node, &status);

        if (r < 0)
                (void)fuse_reply_err(request, -r);
        else
                (void)fuse_reply_attr(request, &status, seconds_valid(node));
}

/* An open with O_TRUNC truncates device nodes and sysfs files: accepted, without effect. Other changes are errors. */
static void on_setattr(fuse_req_t request, fuse_ino_t node, struct stat *wanted, int which,
                       struct fuse_file_info *info) {
        if ((is_device(node) || tree_is_writable(node)) &&
            (which & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0)
                on_getattr(request, node, info);
        else
                (void)fuse_reply_err(request, EPERM);
}

static void on_readlink(fuse_req_t request, fuse_ino_t node) {
        CLEANUP(free_ptr) char *target = NULL;
        size_t length;
        int r = tree_text(front_of(request)->tree, node, &target, &length);

        if (r < 0)
                (void)fuse_reply_err(request, -r);
        else
                (void)fuse_reply_readlink(request, target);
}

struct listing {
        fuse_req_t request;
        char *buffer;
        size_t size, length;
        off_t offset, position;
};

static bool list_entry(void *user, uint64_t node, const char *name, mode_t mode) {
        struct listing *listing = user;
        struct stat status = {.st_ino = node, .st_mode = mode};
        size_t room = listing->size - listing->length, needed;

        if (listing->position++ < listing->offset)
                return true;
        needed = fuse_add_direntry(listing->request, listing->buffer + listing->length, room, name, &status,
                                   listing->position);
        if (needed > room)
                return false;
        listing->length += needed;
        return true;
}

static void on_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *info) {
        CLEANUP(free_ptr) char *buffer = malloc(size);
        struct listing listing = {.request = request, .buffer = buffer, .size = size, .offset = offset};
        int r;

        if (!buffer) {
                (void)fuse_reply_err(request, ENOMEM);
                return;
        }
        if (list_entry(&listing, node, ".", S_IFDIR) && list_entry(&listing, TREE_ROOT, "..", S_IFDIR)) {
                r = tree_list(front_of(request)->tree, node, list_entry, &listing);
                if (r < 0) {
                        (void)fuse_reply_err(request, -r);
                        return;
                }
        }
        (void)fuse_reply_buf(request, buffer, listing.length);
}

/* ---- files ---- */

static void text_free(struct text_file *file) {
        if (file)
                free(file->text);
        free(file);
}

static void remove_text(struct text_file *file) {
        LIST_REMOVE(file, link);
        text_free(file);
}

static void open_text(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        struct fuse_front *front = front_of(request);
        struct text_file *file = calloc(1, sizeof(*file));
        int r = file ? tree_text(front->tree, node, &file->text, &file->length) : -ENOMEM;

        if (r == 0 && (info->flags & O_ACCMODE) != O_RDONLY && !tree_is_writable(node))
                r = -EACCES;
        if (r == 0) {
                info->fh = (uintptr_t)file;
                info->direct_io = 1; /* stat(2) reports a size of 0 or a page, as in the real /proc and /sys */
                if (fuse_reply_open(request, info) == 0) {
                        LIST_INSERT_HEAD(&front->texts, file, link);
                        return;
                }
        } else {
                (void)fuse_reply_err(request, -r);
        }
        text_free(file);
}

static void open_device(struct fuse_front *front, fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        struct device_node device = {.inode = tree_device_inode(front->tree, node)};

        (void)tree_is_device(node, &device.node, &device.minor);
        device_open(front->devices, request, &device, info);
}

static void on_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        if (is_device(node))
                open_device(front_of(request), request, node, info);
        else
                open_text(request, node, info);
}

static void on_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *info) {
        const struct text_file *file = (struct text_file *)(uintptr_t)info->fh;
        size_t rest;

        if (is_device(node)) {
                (void)fuse_reply_err(request, EINVAL); /* the driver does not support read */
                return;
        }
        rest = (size_t)offset < file->length ? file->length - (size_t)offset : 0;
        (void)fuse_reply_buf(request, rest > 0 ? file->text + offset : NULL, size < rest ? size : rest);
}

static void write_bus(fuse_req_t request, fuse_ino_t node, const char *text, size_t size) {
        struct fuse_front *front = front_of(request);
        struct tree_bus_write write;
        int r = tree_bus_write(front->tree, node, text, &write);

        if (r < 0)
                (void)fuse_reply_err(request, -r);
        else
                bus_write(front->workers, front->model, request, &write, size);
}

/* As in sysfs, each write is one command. */
static void on_write(fuse_req_t request, fuse_ino_t node, const char *bytes, size_t size, off_t offset,
                     struct fuse_file_info *info) {
        char text[64];
        int r = -EINVAL;

        if (!is_device(node) && size < sizeof(text)) {
                memcpy(text, bytes, size);
                text[size] = '\0';
                if (tree_is_bus_file(node)) {
                        write_bus(request, node, text_trim(text), size);
                        return;
                }
                r = tree_write(front_of(request)->tree, node, text_trim(text));
        }
        if (r < 0)
                (void)fuse_reply_err(request, -r);
        else
                (void)fuse_reply_write(request, size);
}

static void on_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        struct text_file *file = (struct text_file *)(uintptr_t)info->fh;

        if (is_device(node)) {
                device_release(front_of(request)->devices, request, info);
                return;
        }
        remove_text(file);
        (void)fuse_reply_err(request, 0);
}

static void on_flush(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info) {
        if (is_device(node))
                device_flush(front_of(request)->devices, request, info);
        else
                (void)fuse_reply_err(request, 0);
}

static void on_ioctl(fuse_req_t request, fuse_ino_t node, unsigned command, void *argument, struct fuse_file_info *info,
                     unsigned flags, const void *data, size_t in_size, size_t out_size) {
        if (!is_device(node))
                (void)fuse_reply_err(request, ENOTTY);
        else if (flags & FUSE_IOCTL_COMPAT)
                (void)fuse_reply_err(request, ENOSYS); /* a 32-bit caller; only the 64-bit layouts are implemented */
        else
                device_ioctl(front_of(request)->devices, request, command, (uintptr_t)argument, info, data, in_size,
                             out_size);
}

static void on_poll(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info,
                    struct fuse_pollhandle *poll_handle) {
        if (is_device(node)) {
                device_poll(front_of(request)->devices, request, info, poll_handle);
                return;
        }
        if (poll_handle)
                fuse_pollhandle_destroy(poll_handle);
        (void)fuse_reply_poll(request, POLLIN);
}

static const struct fuse_lowlevel_ops operations = {
        .init = on_init,
        .lookup = on_lookup,
        .getattr = on_getattr,
        .setattr = on_setattr,
        .readlink = on_readlink,
        .readdir = on_readdir,
        .open = on_open,
        .read = on_read,
        .write = on_write,
        .flush = on_flush,
        .release = on_release,
        .ioctl = on_ioctl,
        .poll = on_poll,
};

/* ---- life ---- */

static int start_session(struct fuse_front *front, const char *root) {
        char *arguments[] = {(char *)"holdfast-sim", (char *)"-o",
                             (char *)"allow_other,default_permissions,fsname=holdfast-sim,subtype=holdfast-sim", NULL};
        struct fuse_args args = FUSE_ARGS_INIT(ARRAY_SIZE(arguments) - 1, arguments);

        front->session = fuse_session_new(&args, &operations, sizeof(operations), front);
        fuse_opt_free_args(&args);
        if (!front->session)
                return -ENOMEM;
        if (fuse_session_mount(front->session, root) < 0)
                return -EPERM; /* libfuse has said why */
        return loop_prepare(front->session);
}

static void front_free(struct fuse_front *front) {
        /* Workers reply through the session, so they end first. Unmounting then closes the session's descriptor, upon
         * which the kernel aborts what is still waiting, and detaches lazily. */
        workers_free(front->workers);
        device_front_free(front->devices);
        if (front->session) {
                fuse_session_unmount(front->session);
                fuse_session_destroy(front->session);
        }
        while (!LIST_EMPTY(&front->texts))
                remove_text(LIST_FIRST(&front->texts));
        tree_free(front->tree);
        free(front);
}

static int front_start(struct fuse_front *front, struct model *model, const char *root) {
        int r;

        descriptors_remember_flights();
        front->model = model;
        r = tree_new(&front->tree, model);
        if (r == 0)
                r = workers_new(&front->workers, BUS_WORKERS_MAX);
        if (r == 0)
                r = device_front_new(&front->devices, model, front->tree);
        if (r == 0)
                r = start_session(front, root);
        return r < 0 ? r : loop_start(&front->loop, &front->session, 1);
}

int fuse_front_start(struct fuse_front **ret_front, struct model *model, const char *root) {
        struct fuse_front *front = calloc(1, sizeof(*front));
        int r;

        if (!front)
                return -ENOMEM;
        r = front_start(front, model, root);
        if (r < 0) {
                front_free(front);
                return r;
        }
        *ret_front = front;
        return 0;
}

void fuse_front_stop(struct fuse_front *front) {
        if (!front)
                return;
        loop_stop(front->loop);
        front_free(front);
}

struct device_front *fuse_front_devices(const struct fuse_front *front) {
        return front->devices;
}
