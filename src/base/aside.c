/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"

enum {
        POLL_MSEC = 100,
        DEATH_POLLS = 20, /* of 5 ms: a process that was killed is gone by then, or in a wait that no signal ends */
        LEFT_BEHIND_MAX = 8,
        READ_SIZE = 65536,
        STALLED = 1,
};

/* In memory that both processes see. */
struct aside_progress {
        _Atomic size_t item; /* that the child looks at; n: it has looked at all */
        _Atomic int error;   /* negative errno: why it ended before */
};

struct header {
        size_t item;
        size_t size;
};

struct run {
        const struct aside *aside;
        struct aside_progress *progress;
        uint64_t deadline_usec;
        pid_t child;
        int fd;                      /* answers come from here */
        struct aside_answer arrived; /* of which take() has not been told yet */
};

/* Children that even SIGKILL has not ended so far. While these are all there, nothing is looked at aside. */
static pid_t left_behind[LEFT_BEHIND_MAX];

/* ---- answers --------------------------------------------------------------------------------------------------- */

int aside_tell(struct aside_answer *answer, const void *bytes, size_t size) {
        if (size == 0)
                return 0; /* there may be no buffer yet, and memcpy() must not be given NULL even for nothing */
        if (answer->room - answer->size < size) {
                size_t room = 2 * answer->room + size;
                char *grown = realloc(answer->bytes, room);

                if (!grown)
                        return -ENOMEM;
                answer->bytes = grown;
                answer->room = room;
        }
        memcpy(answer->bytes + answer->size, bytes, size);
        answer->size += size;
        return 0;
}

static int write_all(int fd, const void *bytes, size_t size) {
        const char *next = bytes;

        while (size > 0) {
                ssize_t count = write(fd, next, size);

                if (count < 0 && errno != EINTR)
                        return -errno;
                if (count > 0) {
                        next += count;
                        size -= (size_t)count;
                }
        }
        return 0;
}

/* ---- the child ------------------------------------------------------------------------------------------------- */

/* Left behind, it must not keep a lease, a GPU or the reader of our output waiting. */
static void close_all_but(int *fd) {
        int null;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        *fd = fcntl(*fd, F_DUPFD, STDERR_FILENO + 1);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int standard = 0; standard <= STDERR_FILENO; standard++)
                if (null < 0 || dup2(null, standard) < 0)
                        (void)close(standard);
        if (*fd != STDERR_FILENO + 1) {
                (void)dup2(*fd, STDERR_FILENO + 1);
                *fd = STDERR_FILENO + 1;
        }
        if (close_range(STDERR_FILENO + 2, ~0U, 0) < 0) /* before Linux 5.9 */
                for (int other = STDERR_FILENO + 2; other < (int)sysconf(_SC_OPEN_MAX); other++)
                        (void)close(other);
}

static int look_at(const struct aside *aside, size_t item, struct aside_answer *answer, int fd) {
        struct header header = {.item = item};
        int r;

        answer->size = 0;
        r = aside->look(aside->userdata, item, answer);
        if (r < 0 || answer->size == 0)
                return r;
        header.size = answer->size;
        r = write_all(fd, &header, sizeof(header));
        return r < 0 ? r : write_all(fd, answer->bytes, answer->size);
}

static void run_child(const struct aside *aside, struct aside_progress *progress, int fd) {
        struct aside_answer answer = {0};
        size_t item = atomic_load(&progress->item);
        int r = 0;

        close_all_but(&fd);
        while (item < aside->n && r == 0) {
                r = look_at(aside, item, &answer, fd);
                if (r == 0)
                        atomic_store(&progress->item, ++item);
        }
        atomic_store(&progress->error, r);
        _exit(0);
}

static int start_child(struct run *run, size_t first) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        atomic_store(&run->progress->item, first);
        atomic_store(&run->progress->error, 0);
        run->child = fork();
        if (run->child == 0)
                run_child(run->aside, run->progress, fds[1]);
        (void)close(fds[1]);
        run->fd = fds[0];
        if (run->child < 0) {
                int error = -errno;

                run->fd = fd_close(run->fd);
                return error;
        }
        return 0;
}

/* ---- its end --------------------------------------------------------------------------------------------------- */

static bool is_gone(pid_t child) {
        return waitpid(child, NULL, WNOHANG) != 0;
}

/* Returns the number of places that are free. */
static size_t bury_left_behind(void) {
        size_t n_free = 0;

        for (size_t i = 0; i < LEFT_BEHIND_MAX; i++) {
                if (left_behind[i] > 0 && is_gone(left_behind[i]))
                        left_behind[i] = 0;
                n_free += left_behind[i] == 0;
        }
        return n_free;
}

static void give_up_child(pid_t child) {
        (void)kill(child, SIGKILL);
        for (int i = 0; i < DEATH_POLLS; i++) {
                if (is_gone(child))
                        return;
                clock_sleep(5 * USEC_PER_MSEC);
        }
        for (size_t i = 0; i < LEFT_BEHIND_MAX; i++)
                if (left_behind[i] == 0) {
                        left_behind[i] = child;
                        return;
                }
}

/* It has closed the pipe, so it hangs nowhere. */
static int end_child(struct run *run) {
        int error = atomic_load(&run->progress->error);

        while (waitpid(run->child, NULL, 0) < 0 && errno == EINTR)
                ;
        if (error < 0)
                return error;
        return atomic_load(&run->progress->item) == run->aside->n ? 0 : -EIO;
}

/* ---- this process ---------------------------------------------------------------------------------------------- */

static int take_arrived(struct run *run) {
        struct aside_answer *arrived = &run->arrived;
        struct header header;
        size_t at = 0;
        int r = 0;

        while (r == 0 && arrived->size - at >= sizeof(header)) {
                memcpy(&header, arrived->bytes + at, sizeof(header));
                if (arrived->size - at - sizeof(header) < header.size)
                        break;
                at += sizeof(header) + header.size;
                r = run->aside->take(run->aside->userdata, header.item, arrived->bytes + at - header.size, header.size);
        }
        if (at > 0)
                memmove(arrived->bytes, arrived->bytes + at, arrived->size - at);
        arrived->size -= at;
        return r;
}

/* Returns 1 when there may be more, 0 at the end, or negative errno. */
static int read_some(struct run *run) {
        char bytes[READ_SIZE];
        ssize_t count = read(run->fd, bytes, sizeof(bytes));
        int r;

        if (count < 0)
                return errno == EINTR ? 1 : -errno;
        if (count == 0)
                return 0;
        r = aside_tell(&run->arrived, bytes, (size_t)count);
        if (r == 0)
                r = take_arrived(run);
        return r < 0 ? r : 1;
}

/* Returns 0, STALLED, or negative errno; the child is still there unless it is 0. */
static int follow(struct run *run) {
        struct pollfd event = {.fd = run->fd, .events = POLLIN};
        size_t before = atomic_load(&run->progress->item);
        uint64_t since_usec = clock_monotonic_usec();
        int r = 1;

        while (r > 0) {
                int n = poll(&event, 1, POLL_MSEC);
                uint64_t now_usec = clock_monotonic_usec();
                size_t item = atomic_load(&run->progress->item);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (item != before)
                        since_usec = now_usec;
                before = item;
                if (n > 0)
                        r = read_some(run);
                else if (now_usec >= since_usec + ASIDE_STALL_MSEC * USEC_PER_MSEC || now_usec >= run->deadline_usec)
                        return STALLED;
        }
        return r;
}

/* What it wrote before it was killed. */
static int drain(struct run *run) {
        int r;

        if (fcntl(run->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        do
                r = read_some(run);
        while (r > 0);
        run->arrived.size = 0;
        return r == -EAGAIN ? 0 : r;
}

static int run_from(struct run *run, size_t first) {
        int r = start_child(run, first);

        if (r < 0)
                return r;
        r = follow(run);
        if (r != 0)
                give_up_child(run->child);
        if (r == STALLED) {
                int drained = drain(run);

                r = drained < 0 ? drained : STALLED;
        }
        run->fd = fd_close(run->fd);
        return r == 0 ? end_child(run) : r;
}

static void leave_out(struct aside_gap *gap, size_t item, size_t n) {
        if (gap->n_left == 0)
                gap->first_left = item;
        gap->n_left += n;
}

static int run_all(struct run *run, struct aside_gap *gap) {
        const struct aside *aside = run->aside;
        size_t first = 0, n_stalls = 0;
        int r = STALLED;

        while (r == STALLED && first < aside->n) {
                size_t item;

                if (n_stalls > aside->stalls_max || bury_left_behind() == 0 ||
                    clock_monotonic_usec() >= run->deadline_usec) {
                        leave_out(gap, first, aside->n - first);
                        return 0;
                }
                r = run_from(run, first);
                if (r != STALLED)
                        return r;
                item = atomic_load(&run->progress->item);
                leave_out(gap, item, item < aside->n);
                first = item + 1;
                n_stalls++;
        }
        return 0;
}

int aside_run(const struct aside *aside, struct aside_gap *ret_gap) {
        struct run run = {
                .aside = aside,
                .deadline_usec = clock_monotonic_usec() + ASIDE_TOTAL_MSEC * USEC_PER_MSEC,
                .fd = -1,
        };
        int r;

        *ret_gap = (struct aside_gap){0};
        run.progress = mmap(NULL, sizeof(*run.progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (run.progress == MAP_FAILED)
                return -errno;
        r = run_all(&run, ret_gap);
        free(run.arrived.bytes);
        (void)munmap(run.progress, sizeof(*run.progress));
        return r;
}

/* ---- one file -------------------------------------------------------------------------------------------------- */

struct file_request {
        const char *path;
        char *buffer;
        size_t size;
        ssize_t length;
};

static int look_at_file(void *userdata, size_t item, struct aside_answer *answer) {
        struct file_request *request = userdata;
        int r;

        request->length = file_read(request->path, request->buffer, request->size);
        r = aside_tell(answer, &request->length, sizeof(request->length));
        if (r < 0 || request->length < 0)
                return r;
        return aside_tell(answer, request->buffer, (size_t)request->length + 1);
}

static int take_file(void *userdata, size_t item, const char *bytes, size_t size) {
        struct file_request *request = userdata;

        memcpy(&request->length, bytes, sizeof(request->length));
        memcpy(request->buffer, bytes + sizeof(request->length), size - sizeof(request->length));
        return 0;
}

ssize_t aside_read_file(const char *path, char *buffer, size_t size) {
        struct file_request request = {.path = path, .buffer = buffer, .size = size, .length = -ETIMEDOUT};
        const struct aside aside = {.n = 1, .look = look_at_file, .take = take_file, .userdata = &request};
        struct aside_gap gap;
        int r = aside_run(&aside, &gap);

        return r < 0 ? r : request.length;
}
