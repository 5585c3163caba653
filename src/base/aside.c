/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
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
        DEATH_POLLS = 20, /* of 5 ms each; a killed process that still exists then is in a wait that no signal ends */
        LEFT_BEHIND_MAX = 8,
        READ_SIZE = 65536,
        CHILDREN_MAX = 4,
        ITEMS_PER_CHILD = 100, /* starting a child costs as much as scanning 100 processes (4 ms) */
};

/* Of one child. */
struct aside_progress {
        _Atomic size_t item; /* the item that the child reads; n: none */
        _Atomic int result;  /* 0: no items were left; negative errno if it ended early */
};

/* In memory that all these processes share. */
struct board {
        _Atomic size_t next; /* the next item that no child reads yet */
        struct aside_progress progress[CHILDREN_MAX];
};

struct header {
        size_t item;
        size_t size;
};

/* A child, or the one that has replaced it after it was abandoned. */
struct looker {
        struct aside_progress *progress;
        pid_t child;
        int fd;                      /* for answers; -1: there is no child */
        struct aside_answer arrived; /* received, but not passed to take() yet */
        size_t item;                 /* what the child was reading at the last look */
        uint64_t since_usec;         /* since when it reads that item */
};

struct run {
        const struct aside *aside;
        struct board *board;
        struct looker lookers[CHILDREN_MAX];
        size_t n_lookers;
        uint64_t deadline_usec;
        size_t n_stalls; /* so far */
        struct aside_gap *gap;
};

/* Children that even SIGKILL has not ended yet. While all places are used, no further child is started. */
static pid_t left_behind[LEFT_BEHIND_MAX];

/* ---- answers --------------------------------------------------------------------------------------------------- */

int aside_tell(struct aside_answer *answer, const void *bytes, size_t size) {
        if (size == 0)
                return 0; /* there may be no buffer yet, and memcpy() does not allow NULL even for 0 bytes */
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

/* A child that is left behind must not keep a lease or a GPU, or block the reader of our output. */
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
        fd_close_from(STDERR_FILENO + 2);
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

/* Returns an item that no other child reads, or n. Records it first, so that no item is lost if the child is killed. */
static size_t claim_item(struct board *board, struct aside_progress *progress, size_t n) {
        size_t item = atomic_load(&board->next);

        do
                atomic_store(&progress->item, item);
        while (item < n && !atomic_compare_exchange_weak(&board->next, &item, item + 1));
        return item;
}

static void run_child(const struct run *run, struct aside_progress *progress, int fd) {
        const struct aside *aside = run->aside;
        struct aside_answer answer = {0};
        size_t item;
        int r = 0;

        close_all_but(&fd);
        while (r == 0 && (item = claim_item(run->board, progress, aside->n)) < aside->n)
                r = look_at(aside, item, &answer, fd);
        atomic_store(&progress->result, r);
        _exit(0);
}

static int start_child(const struct run *run, struct looker *looker) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        looker->item = run->aside->n;
        looker->since_usec = clock_monotonic_usec();
        atomic_store(&looker->progress->item, looker->item);
        atomic_store(&looker->progress->result, -EIO);
        looker->child = fork();
        if (looker->child == 0)
                run_child(run, looker->progress, fds[1]);
        (void)close(fds[1]);
        looker->fd = fds[0];
        if (looker->child < 0) {
                int error = -errno;

                looker->fd = fd_close(looker->fd);
                return error;
        }
        return 0;
}

/* ---- its end --------------------------------------------------------------------------------------------------- */

static bool is_gone(pid_t child) {
        return waitpid(child, NULL, WNOHANG) != 0;
}

/* Reaps children that have ended. Returns the number of free places. */
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

/* The child has closed the pipe, so it does not hang. */
static int end_child(struct looker *looker) {
        looker->fd = fd_close(looker->fd);
        while (waitpid(looker->child, NULL, 0) < 0 && errno == EINTR)
                ;
        return atomic_load(&looker->progress->result);
}

/* ---- this process ---------------------------------------------------------------------------------------------- */

static int take_arrived(const struct aside *aside, struct looker *looker) {
        struct aside_answer *arrived = &looker->arrived;
        struct header header;
        size_t at = 0;
        int r = 0;

        while (r == 0 && arrived->size - at >= sizeof(header)) {
                memcpy(&header, arrived->bytes + at, sizeof(header));
                if (arrived->size - at - sizeof(header) < header.size)
                        break;
                at += sizeof(header) + header.size;
                r = aside->take(aside->userdata, header.item, arrived->bytes + at - header.size, header.size);
        }
        if (at > 0)
                memmove(arrived->bytes, arrived->bytes + at, arrived->size - at);
        arrived->size -= at;
        return r;
}

/* Returns 1 if there may be more, 0 at the end, or negative errno. */
static int read_some(const struct aside *aside, struct looker *looker) {
        char bytes[READ_SIZE];
        ssize_t count = read(looker->fd, bytes, sizeof(bytes));
        int r;

        if (count < 0)
                return errno == EINTR ? 1 : -errno;
        if (count == 0)
                return 0;
        r = aside_tell(&looker->arrived, bytes, (size_t)count);
        if (r == 0)
                r = take_arrived(aside, looker);
        return r < 0 ? r : 1;
}

/* Reads what the child wrote before it was killed. */
static int drain(const struct aside *aside, struct looker *looker) {
        int r;

        if (fcntl(looker->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        do
                r = read_some(aside, looker);
        while (r > 0);
        looker->arrived.size = 0;
        return r == -EAGAIN ? 0 : r;
}

static void leave_out(struct aside_gap *gap, size_t item, size_t n) {
        if (n > 0 && (gap->n_left == 0 || item < gap->first_left))
                gap->first_left = item;
        gap->n_left += n;
}

/* Starts a child, unless no items are left, too many items have hung, or the time is over. */
static int start_another(struct run *run, struct looker *looker) {
        if (atomic_load(&run->board->next) >= run->aside->n || run->n_stalls > run->aside->stalls_max ||
            bury_left_behind() == 0 || clock_monotonic_usec() >= run->deadline_usec)
                return 0;
        return start_child(run, looker);
}

/* The child hangs: skips the item that it reads. */
static int on_stall(struct run *run, struct looker *looker) {
        size_t item;
        int r;

        give_up_child(looker->child);
        r = drain(run->aside, looker);
        looker->fd = fd_close(looker->fd);
        if (r < 0)
                return r;
        item = atomic_load(&looker->progress->item);
        leave_out(run->gap, item, item < run->aside->n);
        run->n_stalls++;
        return start_another(run, looker);
}

static int on_turn(struct run *run, struct looker *looker, bool readable) {
        uint64_t now_usec = clock_monotonic_usec();
        size_t item = atomic_load(&looker->progress->item);

        if (item != looker->item)
                looker->since_usec = now_usec;
        looker->item = item;
        if (readable) {
                int r = read_some(run->aside, looker);

                return r == 0 ? end_child(looker) : r < 0 ? r : 0;
        }
        if (now_usec < looker->since_usec + ASIDE_STALL_MSEC * USEC_PER_MSEC && now_usec < run->deadline_usec)
                return 0;
        return on_stall(run, looker);
}

/* Receives answers until there is no child any more. */
static int follow(struct run *run) {
        struct pollfd events[CHILDREN_MAX];
        int r = 0;

        for (;;) {
                size_t n_open = 0;

                for (size_t i = 0; i < run->n_lookers; i++) {
                        events[i] = (struct pollfd){.fd = run->lookers[i].fd, .events = POLLIN};
                        n_open += run->lookers[i].fd >= 0;
                }
                if (n_open == 0 || r < 0)
                        return r;
                if (poll(events, run->n_lookers, POLL_MSEC) < 0 && errno != EINTR)
                        return -errno;
                for (size_t i = 0; i < run->n_lookers && r == 0; i++)
                        if (run->lookers[i].fd >= 0)
                                r = on_turn(run, &run->lookers[i], events[i].revents != 0);
        }
}

/* How many children read at the same time. */
static size_t count_lookers(const struct aside *aside) {
        size_t n = aside->in_any_order ? aside->n / ITEMS_PER_CHILD : 1;
        cpu_set_t processors;

        if (sched_getaffinity(0, sizeof(processors), &processors) == 0 && n > (size_t)CPU_COUNT(&processors))
                n = (size_t)CPU_COUNT(&processors);
        return n < 1 ? 1 : n < CHILDREN_MAX ? n : CHILDREN_MAX;
}

static int run_lookers(struct run *run) {
        int r = 0;

        for (size_t i = 0; i < run->n_lookers; i++)
                run->lookers[i] = (struct looker){.progress = &run->board->progress[i], .fd = -1};
        for (size_t i = 0; i < run->n_lookers && r == 0; i++)
                r = start_another(run, &run->lookers[i]);
        if (r == 0)
                r = follow(run);
        for (size_t i = 0; i < run->n_lookers; i++) {
                if (run->lookers[i].fd >= 0) { /* after an error, end the other children, too */
                        give_up_child(run->lookers[i].child);
                        run->lookers[i].fd = fd_close(run->lookers[i].fd);
                }
                free(run->lookers[i].arrived.bytes);
        }
        return r;
}

int aside_run(const struct aside *aside, struct aside_gap *ret_gap) {
        struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct run run = {
                .aside = aside,
                .board = board,
                .n_lookers = count_lookers(aside),
                .deadline_usec = clock_monotonic_usec() + ASIDE_TOTAL_MSEC * USEC_PER_MSEC,
                .gap = ret_gap,
        };
        size_t next;
        int r;

        *ret_gap = (struct aside_gap){0};
        if (board == MAP_FAILED)
                return -errno;
        r = run_lookers(&run);
        next = atomic_load(&board->next);
        leave_out(ret_gap, next, aside->n - next);
        (void)munmap(board, sizeof(*board));
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
