/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/aside.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/pids.h"
#include "base/text.h"
#include "gpu/abi.h"

enum {
        STALLS_MAX = 2,
        NO_GPU = -1,
        CLOSED = -2,
        ENTRY_SIZE = 48,                    /* room for one entry of the folder of descriptors */
        NUMBER_SIZE = sizeof("4294967295"), /* of a descriptor */
        OFFSET_OF_FIRST = 2,                /* in /proc/PID/fd, of descriptor 0 (fs/proc/fd.c, proc_readfd_common) */
};

/* A node that is not a device is recognised by file system and inode: two simulators each have a /dev/nvidia0. */
struct node_file {
        uint32_t device_major, device_minor;
        uint64_t inode;
        int minor;
};

struct holder_list {
        bool nodes_are_devices; /* recognised by their number, at any path; false: only the files in `nodes` count */
        struct node_file *nodes;
        size_t n_nodes;
        struct holder *holders;
        size_t n;
};

/* The processes to scan, and the result. */
struct survey {
        struct holder_list scan;
        pid_t *pids;
        size_t n_pids;
        bool hidden; /* some are not ours to see */
};

/*
 * A process' descriptors. A keeper is recognised by the daemon's name and by its descriptors: a signalfd, but no epoll
 * descriptor.
 */
struct folder {
        int fd;
        bool has_signalfd;
        bool has_eventpoll;
        char target[PATH_MAX]; /* of the current link. Not a local variable: the compiler would zero it for each link */
};

static void folder_done(struct folder *folder) {
        folder->fd = fd_close(folder->fd);
}

static void survey_done(struct survey *survey) {
        free(survey->scan.holders);
        free(survey->scan.nodes);
        free(survey->pids);
}

static int scan_add(struct holder_list *scan, const struct holder *holder) {
        struct holder *holders = array_grown(scan->holders, scan->n, sizeof(*holders));

        if (!holders)
                return -ENOMEM;
        scan->holders = holders;
        scan->holders[scan->n++] = *holder;
        return 0;
}

/* The N of a path that ends in "/nvidiaN"; NO_GPU for any other ("nvidiactl", "nvidia-uvm", ...). */
static int minor_of_path(const char *path) {
        const char *name = strrchr(path, '/');
        uint64_t minor;

        if (!name || !text_starts_with(name, "/nvidia") ||
            text_parse_u64(name + strlen("/nvidia"), 10, NV_MINOR_CTL - 1, &minor) < 0)
                return NO_GPU;
        return (int)minor;
}

static int minor_of_file(const struct holder_list *scan, const struct statx *status) {
        for (size_t i = 0; i < scan->n_nodes; i++)
                if (scan->nodes[i].inode == status->stx_ino && scan->nodes[i].device_major == status->stx_dev_major &&
                    scan->nodes[i].device_minor == status->stx_dev_minor)
                        return scan->nodes[i].minor;
        return NO_GPU;
}

/*
 * Whether it is a GPU's node: the minor, or NO_GPU. By number, not by path: a container's /dev is another file system.
 * With DONT_SYNC the kernel answers from its own data and does not ask the file system's server (fs/fuse/dir.c,
 * fuse_update_get_attr). Type and number of a file never change, so the kernel knows them since the open.
 */
static int minor_of_node(const struct holder_list *scan, int folder_fd, const char *name) {
        struct statx status;

        if (statx(folder_fd, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, &status) < 0)
                return NO_GPU;
        if (!scan->nodes_are_devices)
                return minor_of_file(scan, &status);
        return S_ISCHR(status.stx_mode) && status.stx_rdev_major == NV_MAJOR ? (int)status.stx_rdev_minor : NO_GPU;
}

/*
 * A simulator may mount single files over the nodes. Once the mount namespace in which a process opened such a file is
 * gone, the kernel shows the file as "/" (docs/simulator.md).
 */
static bool is_worth_a_look(const struct holder_list *scan, const char *path) {
        return minor_of_path(path) >= 0 || (!scan->nodes_are_devices && text_equal(path, "/"));
}

/* As printf("%u") does, but faster: called for each open descriptor on the machine. Returns the text, in the array. */
static const char *format_number(char (*array)[NUMBER_SIZE], unsigned number) {
        char *first = *array + NUMBER_SIZE - 1;

        *first = '\0';
        do
                *--first = (char)('0' + number % 10);
        while ((number /= 10) > 0);
        return first;
}

/* The minor behind a descriptor, NO_GPU, or CLOSED. The link's text comes first, because reading it never waits. */
static int minor_of_descriptor(const struct holder_list *scan, struct folder *folder, unsigned number) {
        char array[NUMBER_SIZE], *target = folder->target;
        const char *name = format_number(&array, number);
        ssize_t length = readlinkat(folder->fd, name, target, sizeof(folder->target) - 1);

        if (length < 0)
                return CLOSED;
        target[length] = '\0';
        if (target[0] == '/')
                return is_worth_a_look(scan, target) ? minor_of_node(scan, folder->fd, name) : NO_GPU;
        folder->has_signalfd |= text_equal(target, "anon_inode:[signalfd]");
        folder->has_eventpoll |= text_equal(target, "anon_inode:[eventpoll]");
        return NO_GPU;
}

/* Counts one more descriptor of this process, whose holders begin at `first`. */
static int count_descriptor(struct holder_list *scan, size_t first, pid_t pid, int minor) {
        struct holder holder = {.minor = minor, .pid = pid, .n_descriptors = 1};

        for (size_t i = first; i < scan->n; i++)
                if (scan->holders[i].minor == minor) {
                        scan->holders[i].n_descriptors++;
                        return 0;
                }
        (void)pids_read_name(pid, holder.name, sizeof(holder.name));
        return scan_add(scan, &holder);
}

static void mark_keeper(struct holder_list *scan, size_t first, const struct folder *folder) {
        for (size_t i = first; i < scan->n; i++)
                scan->holders[i].is_keeper = folder->has_signalfd && !folder->has_eventpoll &&
                                             text_equal(scan->holders[i].name, HOLDER_DAEMON_NAME);
}

/*
 * Finds the first open descriptor from `first` on, in the folder's list. The list is sorted by number, and the offset
 * of an entry is its descriptor's number plus OFFSET_OF_FIRST. Returns 1, 0 when there is none, or negative errno.
 */
static int find_open(int folder_fd, unsigned first, unsigned *ret_number) {
        _Alignas(struct dirent64) char room[ENTRY_SIZE];
        const struct dirent64 *entry = (const struct dirent64 *)room;
        uint64_t number;
        ssize_t size;

        if (lseek(folder_fd, (off_t)first + OFFSET_OF_FIRST, SEEK_SET) < 0)
                return -errno;
        size = getdents64(folder_fd, room, sizeof(room));
        if (size <= 0)
                return size == 0 || errno == ENOENT ? 0 : -errno; /* no more, or the process has gone */
        if (text_parse_u64(entry->d_name, 10, INT32_MAX, &number) < 0 || number < first)
                return -EBADMSG;
        *ret_number = (unsigned)number;
        return 1;
}

/*
 * Returns 0 or negative errno (-EACCES, -EPERM: the process is not ours to see).
 *
 * It tries one number after the other, because most numbers below the largest are in use. The folder's list is read
 * only to find the next number in use after a free one. Reading the whole list as well would make the scan more than
 * 50 % slower, and a busy node has hundreds of thousands of descriptors.
 */
static int scan_process(struct holder_list *scan, pid_t pid) {
        CLEANUP(folder_done) struct folder folder = {.fd = -1};
        char path[64];
        size_t first = scan->n;
        unsigned number = 0;
        int r = 1;

        text_set(path, "/proc/%d/fd", (int)pid);
        folder.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder.fd < 0)
                return errno == ENOENT || errno == ESRCH ? 0 : -errno; /* it has gone */
        while (r > 0) {
                int minor = minor_of_descriptor(scan, &folder, number);

                if (minor >= 0 && count_descriptor(scan, first, pid, minor) < 0)
                        return -ENOMEM;
                if (minor == CLOSED)
                        r = find_open(folder.fd, number + 1, &number);
                else
                        number++;
        }
        mark_keeper(scan, first, &folder);
        return r;
}

/* ---- all processes ------------------------------------------------------------ */

/* In a child: reports the result and the holders. */
static int look_at_process(void *userdata, size_t item, struct aside_answer *answer) {
        struct survey *survey = userdata;
        struct holder_list *scan = &survey->scan;
        int result;

        scan->n = 0;
        result = scan_process(scan, survey->pids[item]);
        if (result == 0 && scan->n == 0)
                return 0;
        if (result < 0 && result != -EACCES && result != -EPERM)
                return result;
        if (aside_tell(answer, &result, sizeof(result)) < 0)
                return -ENOMEM;
        return scan->n > 0 ? aside_tell(answer, scan->holders, scan->n * sizeof(scan->holders[0])) : 0;
}

static int take_process(void *userdata, size_t item, const char *bytes, size_t size) {
        struct survey *survey = userdata;
        struct holder holder;
        int result;

        memcpy(&result, bytes, sizeof(result));
        survey->hidden |= result < 0;
        for (size_t at = sizeof(result); at < size; at += sizeof(holder)) {
                memcpy(&holder, bytes + at, sizeof(holder));
                if (scan_add(&survey->scan, &holder) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int look_at_all(struct survey *survey, struct aside_gap *ret_gap) {
        const struct aside aside = {
                .n = survey->n_pids,
                .stalls_max = STALLS_MAX,
                .in_any_order = true, /* they are sorted afterwards */
                .look = look_at_process,
                .take = take_process,
                .userdata = survey,
        };

        return aside_run(&aside, ret_gap);
}

static int add_node(struct holder_list *scan, int folder_fd, const char *name) {
        char path[NAME_MAX + 2];
        struct node_file *nodes;
        struct statx status;
        int minor;

        minor = text_format(path, sizeof(path), "/%s", name) < 0 ? -1 : minor_of_path(path);
        if (minor < 0 || statx(folder_fd, name, AT_NO_AUTOMOUNT, STATX_INO, &status) < 0)
                return 0;
        nodes = array_grown(scan->nodes, scan->n_nodes, sizeof(*nodes));
        if (!nodes)
                return -ENOMEM;
        scan->nodes = nodes;
        scan->nodes[scan->n_nodes++] = (struct node_file){
                .device_major = status.stx_dev_major,
                .device_minor = status.stx_dev_minor,
                .inode = status.stx_ino,
                .minor = minor,
        };
        return 0;
}

/* Finds the nodes of a simulated driver, which are not devices. */
static int find_nodes(struct holder_list *scan, const struct locations *locations) {
        CLEANUP(dir_done) DIR *dir = NULL;
        const struct dirent *entry;
        char path[PATH_MAX];
        int r;

        scan->nodes_are_devices = locations->nodes_are_devices;
        if (scan->nodes_are_devices)
                return 0;
        r = locations_path(path, locations, "/dev");
        if (r < 0)
                return r;
        dir = opendir(path);
        if (!dir)
                return -errno;
        while (r == 0 && (entry = readdir(dir)))
                r = add_node(scan, dirfd(dir), entry->d_name);
        return r;
}

static int compare_holders(const void *a, const void *b) {
        const struct holder *first = a, *second = b;

        if (first->minor != second->minor)
                return first->minor < second->minor ? -1 : 1;
        return (first->pid > second->pid) - (first->pid < second->pid);
}

static void scan_sort(struct holder_list *scan) {
        if (scan->n > 0)
                qsort(scan->holders, scan->n, sizeof(scan->holders[0]), compare_holders);
}

int holders_scan(const struct locations *locations, struct holder **ret_holders, size_t *ret_n,
                 struct holders_sight *ret_sight) {
        CLEANUP(survey_done) struct survey survey = {0};
        struct aside_gap gap;
        int r;

        r = find_nodes(&survey.scan, locations);
        if (r == -ENOENT) { /* no nodes, so no process has one open */
                *ret_holders = NULL;
                *ret_n = 0;
                *ret_sight = (struct holders_sight){.complete = true};
                return 0;
        }
        if (r == 0)
                r = pids_list(&survey.pids, &survey.n_pids);
        if (r == 0)
                r = look_at_all(&survey, &gap);
        if (r < 0)
                return r;
        /* With the mount option hidepid others' processes are not even listed: then process 1 is not there either. */
        if (access("/proc/1", F_OK) < 0)
                survey.hidden = true;
        scan_sort(&survey.scan);
        *ret_sight = (struct holders_sight){
                .complete = !survey.hidden && gap.n_left == 0,
                .n_hanging = gap.n_left,
                .hanging_pid = gap.n_left > 0 ? survey.pids[gap.first_left] : 0,
        };
        *ret_n = survey.scan.n;
        *ret_holders = take_ptr(survey.scan.holders);
        return 0;
}

int holders_scan_process(const struct locations *locations, pid_t pid, struct holder **ret_holders, size_t *ret_n) {
        CLEANUP(survey_done) struct survey survey = {.n_pids = 1, .pids = malloc(sizeof(pid))};
        struct aside_gap gap = {0};
        int r;

        if (!survey.pids)
                return -ENOMEM;
        survey.pids[0] = pid;
        r = find_nodes(&survey.scan, locations);
        if (r == 0)
                r = look_at_all(&survey, &gap);
        if (r < 0 && r != -ENOENT)
                return r;
        if (gap.n_left > 0)
                return -ETIMEDOUT;
        if (survey.hidden)
                return -EACCES;
        scan_sort(&survey.scan);
        *ret_n = survey.scan.n;
        *ret_holders = take_ptr(survey.scan.holders);
        return 0;
}

bool holders_has_modeset(const struct locations *locations) {
        char path[PATH_MAX], text[16];

        return locations_path(path, locations, "/sys/module/nvidia_drm/parameters/modeset") == 0 &&
               file_read(path, text, sizeof(text)) > 0 && (text[0] == 'Y' || text[0] == '1');
}
