/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/fronts/device.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "sim/fronts/descriptors.h"
#include "sim/fronts/workers.h"
#include "sim/rm/ioctl.h"
#include "sim/rm/user_memory.h"

enum {
        WORKERS_MAX = 512,
        RECOUNT_MSEC = 20, /* after a reply to open(), the descriptor appears in /proc within microseconds */
        FLIGHT_LOOKS = 10,
        FLIGHT_LOOK_MSEC = 10,
};

struct device_front {
        struct model *model;
        struct tree *tree;
        struct rm *rm;
        struct workers *workers;
        uint64_t inodes[SCENARIO_GPUS_MAX]; /* of GPUs' character devices, by minor; 0: none */
        pthread_mutex_t mutex;              /* guards all members below, and the files' members except `file` */
        LIST_HEAD(, device_file) files;
};

/* An open file of a device node: FUSE's fh. */
struct device_file {
        LIST_ENTRY(device_file) link;
        struct device_front *front;
        struct ioctl_file file;
        enum model_node node;
        uint64_t inode;
        bool nonblock;
        bool closed;     /* a flush has closed it in the model, before its release */
        bool flushing;   /* a close(2) of it is under way, and it may have no references left */
        unsigned n_busy; /* calls under way, except the flush itself */
        struct fuse_pollhandle *poll_handle;
};

/* A request that a worker serves. */
struct device_call {
        struct device_front *front;
        fuse_req_t request;
        struct fuse_file_info info;
        struct device_file *file;
        struct model_wait wait;
        pid_t thread;
        uid_t uid;
        struct device_node node;  /* open */
        unsigned command;         /* ioctl */
        uint64_t argument;        /* ioctl */
        size_t size;              /* ioctl: of data */
        size_t in_size, out_size; /* ioctl: sizes that FUSE has copied in and will copy out */
        _Alignas(uint64_t) unsigned char data[];
};

static void lock(struct device_front *front) {
        (void)pthread_mutex_lock(&front->mutex);
}

static void unlock(struct device_front *front) {
        (void)pthread_mutex_unlock(&front->mutex);
}

/* ---- calls ---- */

static void on_interrupt(fuse_req_t request, void *data) {
        struct device_call *call = data;

        model_interrupt(call->front->model, &call->wait);
}

/* Passes the call to a worker, or replies with an error if that fails. */
static void start_call(struct device_call *call, void (*run)(void *call)) {
        int r;

        fuse_req_interrupt_func(call->request, on_interrupt, call);
        r = workers_run(call->front->workers, run, call);
        if (r == 0)
                return;
        fuse_req_interrupt_func(call->request, NULL, NULL);
        (void)fuse_reply_err(call->request, -r);
        free(call);
}

/* Waits for an interrupt that is being delivered, since on_interrupt() uses the call. Call this before the reply, which
 * frees the request. */
static void end_interrupts(struct device_call *call) {
        fuse_req_interrupt_func(call->request, NULL, NULL);
}

static struct device_call *new_call(struct device_front *front, fuse_req_t request, struct fuse_file_info *info,
                                    size_t data_size) {
        const struct fuse_ctx *context = fuse_req_ctx(request);
        struct device_call *call = calloc(1, sizeof(*call) + data_size);

        if (!call)
                return NULL;
        call->front = front;
        call->request = request;
        call->info = *info;
        call->file = (struct device_file *)(uintptr_t)info->fh;
        call->thread = context->pid;
        call->uid = context->uid;
        return call;
}

static struct model_caller caller_of(const struct device_call *call) {
        return (struct model_caller){.pid = descriptors_process_of(call->thread), .uid = call->uid};
}

/* ---- open ---- */

static void wake_poller(struct rm_file *rm_file) {
        struct device_file *file = container_of(rm_file, struct device_file, file.rm);
        struct fuse_pollhandle *poll_handle;

        lock(file->front);
        poll_handle = take_ptr(file->poll_handle);
        unlock(file->front);
        if (!poll_handle)
                return;
        (void)fuse_lowlevel_notify_poll(poll_handle);
        fuse_pollhandle_destroy(poll_handle);
}

static void add_file(struct device_file *file) {
        lock(file->front);
        LIST_INSERT_HEAD(&file->front->files, file, link);
        unlock(file->front);
        tree_add_open_files(file->front->tree, 1);
}

static void remove_file(struct device_file *file) {
        lock(file->front);
        LIST_REMOVE(file, link);
        unlock(file->front);
        tree_add_open_files(file->front->tree, -1);
}

static int open_file(struct device_call *call, struct device_file **ret_file) {
        CLEANUP(free_ptr) struct device_file *file = calloc(1, sizeof(*file));
        struct model_caller caller = caller_of(call);
        int r;

        if (!file)
                return -ENOMEM;
        file->front = call->front;
        file->node = call->node.node;
        file->inode = call->node.inode;
        file->nonblock = call->info.flags & O_NONBLOCK;
        r = model_open(call->front->model, call->node.node, call->node.minor, file->nonblock, &caller, &call->wait,
                       &file->file.model_file);
        if (r < 0)
                return r;
        rm_file_init(&file->file.rm, call->front->rm, wake_poller);
        *ret_file = take_ptr(file);
        return 0;
}

/* Ends a file, also in the model unless a flush has done so. */
static void free_file(struct device_file *file) {
        remove_file(file);
        rm_file_done(&file->file.rm);
        if (!file->closed)
                model_close(file->file.model_file);
        if (file->poll_handle)
                fuse_pollhandle_destroy(file->poll_handle);
        free(file);
}

static void run_open(void *argument) {
        CLEANUP(free_ptr) struct device_call *call = argument;
        struct device_file *file;
        int r = open_file(call, &file);

        end_interrupts(call);
        if (r < 0) {
                (void)fuse_reply_err(call->request, -r);
                return;
        }
        add_file(file);
        call->info.fh = (uintptr_t)file;
        call->info.direct_io = 1;
        call->info.nonseekable = 1;
        if (fuse_reply_open(call->request, &call->info) < 0) /* interrupted meanwhile: no process got the descriptor */
                free_file(file);
}

void device_open(struct device_front *front, fuse_req_t request, const struct device_node *node,
                 struct fuse_file_info *info) {
        struct device_call *call = new_call(front, request, info, 0);

        if (!call) {
                (void)fuse_reply_err(request, ENOMEM);
                return;
        }
        call->file = NULL;
        call->node = *node;
        start_call(call, run_open);
}

/* ---- ioctl ---- */

/* Prevents a flush from closing the file. Returns whether the call may continue. */
static bool enter_file(struct device_file *file) {
        bool open;

        lock(file->front);
        open = !file->closed;
        file->n_busy += open;
        unlock(file->front);
        return open;
}

static void leave_file(struct device_file *file) {
        lock(file->front);
        file->n_busy--;
        unlock(file->front);
}

static void report_fault(struct device_call *call) {
        struct model_caller caller = caller_of(call);

        model_note(
                call->front->model, &caller,
                "SIMULATOR FAULT: ioctl 0x%x on a file that the simulator had closed by mistake (sim/fronts/device.h)",
                call->command);
        fprintf(stderr,
                "holdfast-sim: fault: ioctl 0x%x by process %d on a file that the simulator had closed by mistake\n",
                call->command, caller.pid);
}

static int run_in_file(struct device_call *call, const struct model_caller *caller) {
        struct ioctl_call ioctl_call = {
                .file = &call->file->file,
                .caller = *caller,
                .wait = &call->wait,
                .command = call->command,
                .argument = call->argument,
                .data = call->data,
                .size_bytes = call->size,
        };
        int r;

        if (!enter_file(call->file)) {
                report_fault(call);
                return -EBADF;
        }
        r = ioctl_run(&ioctl_call);
        leave_file(call->file);
        return r;
}

/*
 * The driver uses only a command's number and size. FUSE also uses the direction, and copies nothing in or out for a
 * command without the direction bit. This function copies such bytes itself.
 */
static int call_ioctl(struct device_call *call) {
        struct model_caller caller = caller_of(call);
        int r;

        if (call->in_size < call->size && user_memory_read(caller.pid, call->argument, call->data, call->size) < 0)
                return -EFAULT;
        r = run_in_file(call, &caller);
        if (call->out_size < call->size && user_memory_write(caller.pid, call->argument, call->data, call->size) < 0)
                return -EFAULT;
        return r;
}

static void run_ioctl(void *argument) {
        CLEANUP(free_ptr) struct device_call *call = argument;
        int r = call_ioctl(call);

        end_interrupts(call);
        /* Not fuse_reply_err(): the driver also copies data out if a call fails (CHECK_VERSION_STR). */
        (void)fuse_reply_ioctl(call->request, r, call->data, call->out_size);
}

void device_ioctl(struct device_front *front, fuse_req_t request, unsigned command, uint64_t argument,
                  struct fuse_file_info *info, const void *data, size_t in_size, size_t out_size) {
        const struct device_file *file = (struct device_file *)(uintptr_t)info->fh;
        size_t size = file->node == MODEL_NODE_UVM ? 0 : _IOC_SIZE(command); /* UVM's numbers encode nothing */
        struct device_call *call = new_call(front, request, info, size);

        if (!call) {
                (void)fuse_reply_err(request, ENOMEM);
                return;
        }
        call->command = command;
        call->argument = argument;
        call->size = size;
        call->in_size = in_size < size ? in_size : size;
        call->out_size = out_size < size ? out_size : size;
        if (call->in_size > 0)
                memcpy(call->data, data, call->in_size);
        start_call(call, run_ioctl);
}

/* ---- poll ---- */

/* Keeps the handle for the wake-up. A file opened with O_NONBLOCK is never woken: nvidia_poll() registers a waiter only
 * where the flag is clear (nv.c). */
static void keep_poll_handle(struct device_file *file, struct fuse_pollhandle *poll_handle) {
        struct fuse_pollhandle *other = poll_handle;

        lock(file->front);
        if (!file->nonblock) {
                other = file->poll_handle;
                file->poll_handle = poll_handle;
        }
        unlock(file->front);
        if (other)
                fuse_pollhandle_destroy(other);
}

static unsigned poll_events(struct device_file *file) {
        unsigned events = 0;

        if (file->node == MODEL_NODE_UVM)
                return POLLIN | POLLOUT; /* no poll operation: the kernel's default */
        if (file->node == MODEL_NODE_GPU)
                events = (unsigned short)model_file_poll(file->file.model_file);
        if (events == 0 && rm_file_poll(&file->file.rm))
                events = POLLIN | POLLPRI;
        return events;
}

void device_poll(struct device_front *front, fuse_req_t request, struct fuse_file_info *info,
                 struct fuse_pollhandle *poll_handle) {
        struct device_file *file = (struct device_file *)(uintptr_t)info->fh;
        unsigned events = POLLERR;

        if (poll_handle)
                keep_poll_handle(file, poll_handle); /* before asking, so no event is lost in between */
        if (enter_file(file)) {
                events = poll_events(file);
                leave_file(file);
        }
        (void)fuse_reply_poll(request, events);
}

/* ---- flush and release ---- */

/* Counts the open files of the inode, and the other files among them that are being flushed: these may have no
 * reference left. Call with the mutex held. */
static void count_files(const struct device_file *file, size_t *ret_open, size_t *ret_flushing) {
        const struct device_file *other;

        *ret_open = 0;
        *ret_flushing = 0;
        LIST_FOREACH(other, &file->front->files, link) {
                if (other->inode != file->inode || other->closed)
                        continue;
                ++*ret_open;
                *ret_flushing += other != file && other->flushing;
        }
}

/* Counts once: whether the file has no reference left. *ret_alone: it is the inode's only file, so the result is
 * certain. */
static bool has_no_reference(struct device_file *file, bool *ret_alone) {
        size_t n_open, n_flushing, n_references;
        bool busy;

        lock(file->front);
        count_files(file, &n_open, &n_flushing);
        busy = file->n_busy > 0;
        unlock(file->front);
        *ret_alone = n_open == 1;
        if (busy || descriptors_count(file->inode, &n_references) < 0)
                return false;
        return n_references + n_flushing < n_open;
}

/* Whether no descriptor is in a socket's queue. If there are some, waits until they are received, but at most 0.1 s:
 * other programs' descriptors may stay in a queue. */
static bool wait_none_in_flight(void) {
        for (int i = 0; i < FLIGHT_LOOKS; i++) {
                if (!descriptors_in_flight())
                        return true;
                clock_sleep(FLIGHT_LOOK_MSEC * USEC_PER_MSEC);
        }
        return false;
}

static bool is_last_close(struct device_file *file) {
        bool alone;

        if (!has_no_reference(file, &alone))
                return false;
        if (!alone) {
                clock_sleep(RECOUNT_MSEC * USEC_PER_MSEC);
                if (!has_no_reference(file, &alone))
                        return false;
        }
        /* Check this last, and count again: descriptors that were in a queue during the first count may have arrived
         * since. */
        return wait_none_in_flight() && has_no_reference(file, &alone);
}

/* Whether the file of a program that ends has no reference left. Counts once and does not wait. In doubt returns false:
 * the program must not wait for the deferred open of a file that another process shares. */
static bool has_gone_with_program(struct device_file *file) {
        bool alone;

        return has_no_reference(file, &alone) && !descriptors_in_flight();
}

/* Marks the file as closed, unless a call for it has started meanwhile. */
static bool claim_close(struct device_file *file) {
        bool claimed;

        lock(file->front);
        claimed = !file->closed && file->n_busy == 0;
        if (claimed)
                file->closed = true;
        unlock(file->front);
        return claimed;
}

/* The last close(2) waits for a deferred open, as nvidia_close() does, unless the process has a signal pending: FUSE
 * then sends an interrupt. So a process that exits waits, and one that is killed does not. */
static void wait_deferred_open(struct device_call *call) {
        if (call->file->node == MODEL_NODE_GPU)
                model_wait_deferred(call->file->file.model_file, &call->wait);
}

static void close_in_flush(struct device_call *call) {
        rm_file_done(&call->file->file.rm);
        wait_deferred_open(call);
        model_close(call->file->file.model_file);
}

static bool is_opening(struct device_file *file) {
        bool opening;

        lock(file->front);
        opening = file->node == MODEL_NODE_GPU && !file->closed && model_file_is_opening(file->file.model_file);
        unlock(file->front);
        return opening;
}

static void set_flushing(struct device_file *file, bool flushing) {
        lock(file->front);
        file->flushing = flushing;
        unlock(file->front);
}

static void run_flush(void *argument) {
        CLEANUP(free_ptr) struct device_call *call = argument;

        if (!descriptors_end_with_program(call->thread)) {
                if (is_last_close(call->file) && claim_close(call->file))
                        close_in_flush(call);
                else
                        set_flushing(call->file, false);
        } else if (descriptors_process_exits(call->thread) && is_opening(call->file) &&
                   has_gone_with_program(call->file)) {
                wait_deferred_open(call); /* RELEASE closes the file, so a wrong check would only delay the exit */
        }
        end_interrupts(call);
        (void)fuse_reply_err(call->request, 0);
}

void device_flush(struct device_front *front, fuse_req_t request, struct fuse_file_info *info) {
        struct device_call *call = new_call(front, request, info, 0);

        if (!call) {
                (void)fuse_reply_err(request, 0); /* its release will close it */
                return;
        }
        set_flushing(call->file, true);
        start_call(call, run_flush);
}

static bool is_character_device(const struct device_file *file) {
        for (size_t i = 0; i < ARRAY_SIZE(file->front->inodes); i++)
                if (file->front->inodes[i] != 0 && file->front->inodes[i] == file->inode)
                        return true;
        return false;
}

static void run_release(void *argument) {
        CLEANUP(free_ptr) struct device_call *call = argument;

        if (is_character_device(call->file)) /* the kernel waits for its release, in the last close(2) */
                wait_deferred_open(call);
        end_interrupts(call);
        free_file(call->file);
        (void)fuse_reply_err(call->request, 0);
}

void device_release(struct device_front *front, fuse_req_t request, struct fuse_file_info *info) {
        struct device_call *call = new_call(front, request, info, 0);

        if (!call) {
                (void)fuse_reply_err(request, ENOMEM); /* the file stays open until the simulator ends */
                return;
        }
        start_call(call, run_release);
}

/* ---- life ---- */

/* The driver looks this up in the caller's descriptor table (nv_is_gpu_accessible, nv.c). */
static bool process_has_gpu(void *user, pid_t process, unsigned minor) {
        struct device_front *front = user;

        return descriptors_process_has(process, tree_gpu_inode(front->tree, minor)) ||
               (minor < ARRAY_SIZE(front->inodes) && front->inodes[minor] != 0 &&
                descriptors_process_has(process, front->inodes[minor]));
}

void device_front_add_node(struct device_front *front, const struct device_node *node) {
        if (node->node == MODEL_NODE_GPU && node->minor < ARRAY_SIZE(front->inodes))
                front->inodes[node->minor] = node->inode;
}

int device_front_new(struct device_front **ret_front, struct model *model, struct tree *tree) {
        struct device_front *front = calloc(1, sizeof(*front));
        int r;

        if (!front)
                return -ENOMEM;
        front->model = model;
        front->tree = tree;
        (void)pthread_mutex_init(&front->mutex, NULL);
        r = rm_new(&front->rm, model);
        if (r == 0)
                r = workers_new(&front->workers, WORKERS_MAX);
        if (r < 0) {
                device_front_free(front);
                return r;
        }
        model_set_process_check(model, process_has_gpu, front);
        *ret_front = front;
        return 0;
}

void device_front_free(struct device_front *front) {
        if (!front)
                return;
        workers_free(front->workers);
        while (!LIST_EMPTY(&front->files))
                free_file(LIST_FIRST(&front->files));
        rm_free(front->rm);
        (void)pthread_mutex_destroy(&front->mutex);
        free(front);
}
