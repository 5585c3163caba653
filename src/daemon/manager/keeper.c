/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/leftover.h"
#include "base/log.h"
#include "base/text.h"
#include "base/thread.h"
#include "daemon/manager/keeper_message.h"
#include "daemon/sandbox/sandbox.h"

enum {
        KEPT_MAX = 512,        /* 64 GPUs need 128 */
        CLOSINGS_MAX = 1024,   /* at the same time */
        VISITORS_MAX = 4,      /* connections that have sent neither TAKE nor RESET yet */
        VISIT_SEC = 10,        /* how long such a connection may last */
        FIRST_VISIT_SEC = 30,  /* how long an idle keeper waits for its first daemon */
        DEFAULT_WAIT_SEC = 60, /* until a daemon sends WAIT */
        END_LIMIT_MSEC = 4500, /* after a signal: then the process ends, even if threads are still in the driver */
        RETRY_MSEC = 200,      /* for a close that has no thread yet */
        STACK_SIZE = 64 * 1024,
        LOG_LIMIT_MSEC = 500,
};

struct kept {
        char name[KEEPER_NAME_SIZE];
        int fd;
};

/* A descriptor that is being closed: a thread runs its close(2), or none could be started yet. */
struct closing {
        struct keeper *keeper; /* NULL: unused */
        LIST_ENTRY(closing) link;
        char name[KEEPER_NAME_SIZE];
        int fd;
        bool started;       /* the thread has it */
        unsigned answer_to; /* the number of the daemon that sent DROP; 0: none */
        uint32_t token;     /* of that DROP */
};

struct visitor {
        int fd;
        uint64_t until_usec;
};

struct keeper {
        struct keeper_config config;
        int signal_fd;
        int closed_read_fd, closed_write_fd; /* a pipe: a thread writes its `struct closing *` when it is done */
        int daemon_fd;                       /* -1: no daemon is connected */
        unsigned n_daemons;                  /* so far; also the number of the current one */
        struct visitor visitors[VISITORS_MAX];
        struct kept kept[KEPT_MAX];
        unsigned n_kept;
        LIST_HEAD(, closing) closings;
        struct closing places[CLOSINGS_MAX]; /* for these; static, so that closing needs no memory */
        bool owes_threads;                   /* some closings have no thread yet */
        uint64_t wait_usec;                  /* how long to wait for the next daemon */
        uint64_t deadline_usec;              /* end of that wait, or of the wait for closings while ending */
        bool ending;
};

/* ---- the socket ---- */

int keeper_listen(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int fd = -1;
        int r;

        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return log_errno(LOG_ERR, -ENAMETOOLONG, "cannot create the keeper's socket %s", path);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return log_errno(LOG_ERR, -errno, "cannot create the keeper's socket");
        if (unlink(path) < 0 && errno != ENOENT)
                return log_errno(LOG_ERR, -errno, "cannot replace the keeper's socket %s", path);
        r = fd_bind(fd, &address, 0177); /* only for our user, without fchmod(), which the daemon's filter refuses */
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot listen at the keeper's socket %s", path);
        return take_fd(&fd);
}

/* ---- closing ---- */

static void *close_main(void *argument) {
        struct closing *closing = argument;

        (void)close(closing->fd); /* this may never return */
        (void)!write(closing->keeper->closed_write_fd, &closing, sizeof(closing));
        return NULL;
}

static bool start_closing(struct closing *closing) {
        static const struct thread_options options = {.stack_size = STACK_SIZE, .detached = true};
        pthread_t thread;

        return thread_start(&thread, &options, close_main, closing) == 0;
}

static void start_all(struct keeper *keeper) {
        struct closing *closing;

        keeper->owes_threads = false;
        LIST_FOREACH(closing, &keeper->closings, link) {
                if (!closing->started)
                        closing->started = start_closing(closing);
                keeper->owes_threads |= !closing->started;
        }
}

static struct closing *find_place(struct keeper *keeper) {
        for (unsigned i = 0; i < CLOSINGS_MAX; i++)
                if (!keeper->places[i].keeper)
                        return &keeper->places[i];
        return NULL;
}

/*
 * Closes the descriptor on a thread. Returns NULL if there are too many: it then stays open, because holding a GPU for
 * too long is better than blocking this thread in the driver.
 */
static struct closing *let_go(struct keeper *keeper, const char *name, int fd) {
        struct closing *closing = find_place(keeper);

        if (!closing) {
                log_write(LOG_ERR,
                          "cannot close %s, which stays open: the driver is still closing %u other descriptors", name,
                          (unsigned)CLOSINGS_MAX);
                return NULL;
        }
        *closing = (struct closing){.keeper = keeper, .fd = fd};
        (void)text_copy(closing->name, sizeof(closing->name), name);
        LIST_INSERT_HEAD(&keeper->closings, closing, link);
        start_all(keeper);
        return closing;
}

static void let_all_go(struct keeper *keeper) {
        while (keeper->n_kept > 0) {
                struct kept *kept = &keeper->kept[--keeper->n_kept];

                (void)let_go(keeper, kept->name, kept->fd);
        }
}

/* ---- the daemon ---- */

static void lose_daemon(struct keeper *keeper) {
        keeper->daemon_fd = fd_close(keeper->daemon_fd);
        if (!keeper->ending)
                keeper->deadline_usec = clock_monotonic_usec() + keeper->wait_usec;
}

static void tell(struct keeper *keeper, enum keeper_kind kind, uint32_t value, const char *name, int fd) {
        if (keeper->daemon_fd >= 0) /* if it is gone, hear_daemon() notices after reading what it sent */
                (void)keeper_send(keeper->daemon_fd, kind, value, name, fd);
}

static void on_closed(struct keeper *keeper) {
        struct closing *closing;

        while (read(keeper->closed_read_fd, &closing, sizeof(closing)) == sizeof(closing)) {
                if (closing->answer_to == keeper->n_daemons)
                        tell(keeper, KEEPER_DROPPED, closing->token, closing->name, -1);
                LIST_REMOVE(closing, link);
                closing->keeper = NULL;
        }
}

static struct kept *find(struct keeper *keeper, const char *name) {
        for (unsigned i = 0; i < keeper->n_kept; i++)
                if (text_equal(keeper->kept[i].name, name))
                        return &keeper->kept[i];
        return NULL;
}

static struct closing *find_closing(struct keeper *keeper, const char *name) {
        struct closing *closing = LIST_FIRST(&keeper->closings);

        while (closing && !text_equal(closing->name, name))
                closing = LIST_NEXT(closing, link);
        return closing;
}

/* Begins to close what is kept under the name, or finds its closing. NULL: there is neither, or let_go() failed. */
static struct closing *close_kept(struct keeper *keeper, const char *name) {
        struct kept *kept = find(keeper, name);
        struct closing *closing;

        if (!kept)
                return find_closing(keeper, name);
        closing = let_go(keeper, name, kept->fd);
        if (closing)
                *kept = keeper->kept[--keeper->n_kept];
        return closing;
}

static void drop(struct keeper *keeper, const char *name, uint32_t token) {
        struct closing *closing = close_kept(keeper, name);

        if (closing) {
                closing->answer_to = keeper->n_daemons;
                closing->token = token;
        } else if (!find(keeper, name)) {
                tell(keeper, KEEPER_DROPPED, token, name, -1);
        }
}

static void keep(struct keeper *keeper, const char *name, int fd) {
        struct kept *kept = find(keeper, name);

        if (fd < 0)
                return;
        if (kept) {
                (void)let_go(keeper, name, kept->fd);
                kept->fd = fd;
        } else if (keeper->n_kept == KEPT_MAX || keeper->ending) {
                (void)let_go(keeper, name, fd);
        } else {
                kept = &keeper->kept[keeper->n_kept++];
                kept->fd = fd;
                (void)text_copy(kept->name, sizeof(kept->name), name);
        }
}

static void hand_over(struct keeper *keeper) {
        for (unsigned i = 0; i < keeper->n_kept; i++)
                tell(keeper, KEEPER_HAVE, 0, keeper->kept[i].name, keeper->kept[i].fd);
        tell(keeper, KEEPER_END, 0, NULL, -1);
}

static void obey(struct keeper *keeper, const struct keeper_message *message, int fd) {
        switch (message->kind) {
        case KEEPER_TAKE:
                hand_over(keeper);
                break;
        case KEEPER_RESET:
                let_all_go(keeper);
                break;
        case KEEPER_WAIT:
                keeper->wait_usec = message->value * USEC_PER_SEC;
                break;
        case KEEPER_KEEP:
                keep(keeper, message->name, fd);
                return;
        case KEEPER_DROP:
                drop(keeper, message->name, message->value);
                break;
        default:
                break;
        }
        if (fd >= 0) /* the message should have none */
                (void)let_go(keeper, message->name, fd);
}

/* Handles one message. Returns false if there is none or the connection is over. */
static bool hear_daemon(struct keeper *keeper) {
        struct keeper_message message;
        int fd = -1;
        int r = keeper_receive(keeper->daemon_fd, &message, &fd);

        if (r == -EAGAIN)
                return false;
        if (r == 0) {
                obey(keeper, &message, fd);
                return true;
        }
        if (fd >= 0)
                (void)let_go(keeper, "a descriptor without a message", fd);
        if (r != -EBADMSG)
                lose_daemon(keeper);
        return r == -EBADMSG;
}

/* Reads the remaining messages first: closing the connection would close their descriptors on this thread. */
static void dismiss_daemon(struct keeper *keeper) {
        while (keeper->daemon_fd >= 0 && hear_daemon(keeper))
                ;
        keeper->daemon_fd = fd_close(keeper->daemon_fd);
}

/* ---- visitors ---- */

/*
 * The newest daemon replaces the one before. That may be dead except for a thread in the driver, which keeps its
 * connection open until it returns.
 */
static void welcome(struct keeper *keeper, struct visitor *visitor, const struct keeper_message *message) {
        dismiss_daemon(keeper);
        keeper->daemon_fd = take_fd(&visitor->fd);
        keeper->n_daemons++;
        obey(keeper, message, -1);
}

static void on_visitor(struct keeper *keeper, struct visitor *visitor) {
        struct keeper_message message;
        int fd = -1;
        int r = keeper_receive(visitor->fd, &message, &fd);

        if (r == -EAGAIN)
                return;
        if (fd >= 0)
                (void)let_go(keeper, "a descriptor from a new connection", fd);
        if (r == 0 && (message.kind == KEEPER_TAKE || message.kind == KEEPER_RESET))
                welcome(keeper, visitor, &message);
        else
                visitor->fd = fd_close(visitor->fd);
}

static void receive_visitor(struct keeper *keeper, int connection_fd) {
        CLEANUP(fd_done) int fd = connection_fd;

        if (keeper_send(fd, KEEPER_HELLO, KEEPER_VERSION, NULL, -1) < 0)
                return;
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                if (keeper->visitors[i].fd < 0) {
                        keeper->visitors[i] = (struct visitor){
                                .fd = take_fd(&fd),
                                .until_usec = clock_monotonic_usec() + VISIT_SEC * USEC_PER_SEC,
                        };
                        return;
                }
}

static void on_call(struct keeper *keeper) {
        struct keeper_message message;
        int fd = -1;
        int r = keeper_receive(keeper->config.listen_fd, &message, &fd);

        if (fd < 0)
                return;
        if (r == 0 && message.kind == KEEPER_CALL && keeper_trusts(fd))
                receive_visitor(keeper, fd);
        else
                (void)let_go(keeper, "a descriptor without a request", fd);
}

static void dismiss_visitors(struct keeper *keeper, uint64_t now_usec) {
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                if (keeper->visitors[i].fd >= 0 && now_usec >= keeper->visitors[i].until_usec)
                        keeper->visitors[i].fd = fd_close(keeper->visitors[i].fd);
}

static bool has_visitors(const struct keeper *keeper) {
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                if (keeper->visitors[i].fd >= 0)
                        return true;
        return false;
}

/* ---- files of a killed daemon ---- */

static bool path_in_directory(const struct keeper *keeper, const char *name, char path[static PATH_MAX]) {
        return keeper->config.directory && text_format(path, PATH_MAX, "%s/%s", keeper->config.directory, name) == 0;
}

static void remove_in_directory(const struct keeper *keeper, const char *name) {
        char path[PATH_MAX];

        if (!path_in_directory(keeper, name, path))
                return;
        if (unlink(path) == 0)
                log_write(LOG_INFO, "Removed %s, left behind by a killed daemon", path);
        else if (errno != ENOENT)
                (void)log_errno(LOG_WARNING, -errno, "cannot remove %s, left behind by a killed daemon", path);
}

/*
 * Whether anybody has the daemon's socket open; a service manager may. The keeper's sandbox forbids connect(2), so this
 * sends a datagram: an open socket refuses it with EPROTOTYPE, one that nobody has open with ECONNREFUSED.
 */
static bool somebody_listens(const struct keeper *keeper) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char path[PATH_MAX];

        if (!path_in_directory(keeper, SOCKET_NAME, path) ||
            !text_copy(address.sun_path, sizeof(address.sun_path), path))
                return true;
        return sendto(keeper->config.listen_fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address,
                      sizeof(address)) == 0 ||
               (errno != ECONNREFUSED && errno != ENOENT);
}

/*
 * Removes files only while it has the lock on the pid file, since a living daemon would hold that lock. The pid file
 * itself stays until the keeper ends, because this function then needs it again.
 */
static void tidy_up(const struct keeper *keeper, bool at_our_end) {
        CLEANUP(fd_done) int fd = -1;
        char pid_file[PATH_MAX];

        if (!path_in_directory(keeper, PID_FILE_NAME, pid_file))
                return;
        fd = leftover_lock(pid_file);
        if (fd < 0 || somebody_listens(keeper))
                return;
        remove_in_directory(keeper, SOCKET_NAME);
        if (!at_our_end)
                return;
        remove_in_directory(keeper, KEEPER_FORKED_NAME);
        remove_in_directory(keeper, PID_FILE_NAME);
}

/* ---- the loop ---- */

static void on_signal(struct keeper *keeper) {
        struct signalfd_siginfo info;

        if (read(keeper->signal_fd, &info, sizeof(info)) != sizeof(info) || keeper->ending)
                return;
        log_write(LOG_INFO, "Received signal %u: releasing all %u kept descriptors", info.ssi_signo, keeper->n_kept);
        keeper->ending = true;
        keeper->deadline_usec = clock_monotonic_usec() + END_LIMIT_MSEC * USEC_PER_MSEC;
        let_all_go(keeper);
}

/* No daemon has connected in time. */
static void on_deadline(struct keeper *keeper) {
        if (keeper->n_kept > 0)
                log_always(LOG_NOTICE, "no daemon has connected for %u s: releasing all %u kept descriptors",
                           (unsigned)(keeper->wait_usec / USEC_PER_SEC), keeper->n_kept);
        let_all_go(keeper);
        tidy_up(keeper, false); /* now, because a GPU that hangs may delay our end */
}

/* Does what is due by time. Returns whether to continue. */
static bool turn(struct keeper *keeper) {
        uint64_t now_usec = clock_monotonic_usec();
        bool late = now_usec >= keeper->deadline_usec;

        if (keeper->owes_threads)
                start_all(keeper);
        dismiss_visitors(keeper, now_usec);
        if (keeper->ending)
                return !LIST_EMPTY(&keeper->closings) && !late;
        if (keeper->daemon_fd >= 0)
                return true;
        if (late)
                on_deadline(keeper);
        if (!keeper->config.ends_idle || keeper->n_kept > 0 || !LIST_EMPTY(&keeper->closings) || has_visitors(keeper))
                return true;
        return keeper->n_daemons == 0 && !late;
}

static int timeout_msec(const struct keeper *keeper) {
        uint64_t now_usec = clock_monotonic_usec(), until_usec = UINT64_MAX;
        bool timed = keeper->ending || (keeper->daemon_fd < 0 && (keeper->n_kept > 0 || keeper->config.ends_idle));

        if (timed && keeper->deadline_usec > now_usec)
                until_usec = keeper->deadline_usec;
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                if (keeper->visitors[i].fd >= 0 && keeper->visitors[i].until_usec < until_usec)
                        until_usec = keeper->visitors[i].until_usec;
        if (keeper->owes_threads)
                return RETRY_MSEC;
        if (until_usec == UINT64_MAX)
                return -1;
        return until_usec <= now_usec ? 0 : (int)((until_usec - now_usec) / USEC_PER_MSEC) + 1;
}

static void wait_and_serve(struct keeper *keeper) {
        struct pollfd fds[4 + VISITORS_MAX] = {
                {.fd = keeper->signal_fd, .events = POLLIN},
                {.fd = keeper->closed_read_fd, .events = POLLIN},
                {.fd = keeper->config.listen_fd, .events = POLLIN},
                {.fd = keeper->daemon_fd, .events = POLLIN},
        };

        for (unsigned i = 0; i < VISITORS_MAX; i++)
                fds[4 + i] = (struct pollfd){.fd = keeper->visitors[i].fd, .events = POLLIN};
        if (poll(fds, ARRAY_SIZE(fds), timeout_msec(keeper)) <= 0)
                return;
        if (fds[0].revents)
                on_signal(keeper);
        if (fds[1].revents)
                on_closed(keeper);
        if (fds[3].revents && keeper->daemon_fd == fds[3].fd)
                (void)hear_daemon(keeper);
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                if (fds[4 + i].revents && keeper->visitors[i].fd >= 0)
                        on_visitor(keeper, &keeper->visitors[i]);
        if (fds[2].revents)
                on_call(keeper);
}

static int make_signals(struct keeper *keeper) {
        sigset_t signals;

        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigaddset(&signals, SIGUSR1);
        (void)sigaddset(&signals, SIGHUP); /* ignored: it is from a terminal, or meant for the daemon */
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        (void)sigdelset(&signals, SIGHUP);
        keeper->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        return keeper->signal_fd < 0 ? -errno : 0;
}

static int make_pipe(struct keeper *keeper) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        keeper->closed_read_fd = ends[0];
        keeper->closed_write_fd = ends[1];
        /* Reading must not block. Threads may block in write(), so that no message is lost. */
        return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int keeper_run(const struct keeper_config *config) {
        static struct keeper keeper;
        int r;

        /* Not assigned as a whole: it has about 100 kB, and pages that are never written use no memory. */
        keeper.config = *config;
        keeper.daemon_fd = -1;
        keeper.wait_usec = DEFAULT_WAIT_SEC * USEC_PER_SEC;
        keeper.deadline_usec = clock_monotonic_usec() + FIRST_VISIT_SEC * USEC_PER_SEC;
        for (unsigned i = 0; i < VISITORS_MAX; i++)
                keeper.visitors[i].fd = -1;
        r = make_signals(&keeper);
        if (r >= 0)
                r = make_pipe(&keeper);
        if (r < 0) {
                (void)log_errno(LOG_ERR, r, "cannot start the keeper");
                return EXIT_FAILURE;
        }
        if (config->sandbox && sandbox_enter_keeper(config->directory) < 0)
                return EXIT_FAILURE;
        (void)log_start(); /* if this fails, a full log blocks the keeper, but not the daemon */
        while (turn(&keeper))
                wait_and_serve(&keeper);
        /* A thread in the driver would keep these sockets open, and the daemon would believe that the keeper lives. */
        dismiss_daemon(&keeper);
        tidy_up(&keeper, true);
        (void)fd_close(config->listen_fd);
        log_flush(LOG_LIMIT_MSEC);
        return EXIT_SUCCESS;
}
