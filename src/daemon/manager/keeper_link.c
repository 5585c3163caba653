/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/keeper_link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/gpus/worker.h"
#include "daemon/manager/keeper.h"
#include "daemon/manager/keeper_message.h"

enum {
        COPIES_MAX = 512,          /* the limit of a keeper */
        ANSWER_LIMIT_MSEC = 2000,  /* for an answer of the keeper */
        DROP_ALL_LIMIT_MSEC = 300, /* the same when the daemon ends, for which it has 5 s */
        APPEAR_LIMIT_MSEC = 5000,  /* with KEEPER_SOCKET, for a keeper that is started at the same time as we are */
        APPEAR_PERIOD_MSEC = 20,
        FIRST_RETRY_MSEC = 10,
        RETRY_MSEC = 500,
        GREETING_LIMIT_SEC = 5,
};

enum state {
        STATE_DOWN,
        STATE_GREETING,
        STATE_UP,
};

enum copy_state {
        COPY_KEPT,     /* the keeper has it, or gets it when the link is up */
        COPY_DROPPING, /* a worker thread or keeper_link_drop_all() waits for DROPPED */
        COPY_DROPPED,
};

struct copy {
        char name[KEEPER_NAME_SIZE];
        int fd; /* our descriptor, which the hold owns; the copy is dropped before it is closed */
        enum copy_state state;
        uint32_t token; /* of its DROP */
};

struct keeper_link {
        struct gpu_keeper keeper;
        struct keeper_link_config config;
        struct event *readable;
        struct event *retry;
        char *paths[2]; /* of the service manager's keeper, and of a forked one */
        bool warned;    /* it was logged that there is no keeper */
        bool forks;     /* the keeper's socket may be at paths[1] */

        pthread_mutex_t lock; /* for all that follows */
        pthread_cond_t changed;
        enum state state;
        int fd;
        struct copy copies[COPIES_MAX];
        unsigned n_copies;
        uint32_t last_token;
        bool drops_all; /* send no copies any more: the process ends */
};

static void lock(struct keeper_link *link) {
        (void)pthread_mutex_lock(&link->lock);
}

static void unlock(struct keeper_link *link) {
        (void)pthread_mutex_unlock(&link->lock);
}

/* ---- copies; the caller has the lock ---- */

static struct copy *find(struct keeper_link *link, const char *name) {
        for (unsigned i = 0; i < link->n_copies; i++)
                if (text_equal(link->copies[i].name, name))
                        return &link->copies[i];
        return NULL;
}

static struct copy *add(struct keeper_link *link, const char *name, int fd) {
        struct copy *copy = find(link, name);

        if (!copy && link->n_copies < COPIES_MAX)
                copy = &link->copies[link->n_copies++];
        if (!copy)
                return NULL;
        *copy = (struct copy){.fd = fd, .state = COPY_KEPT};
        (void)text_copy(copy->name, sizeof(copy->name), name);
        return copy;
}

static void take_away(struct keeper_link *link, struct copy *copy) {
        *copy = link->copies[--link->n_copies];
}

/* Ends the connection. The loop notices, and sends all copies over the next one. */
static void start_anew(struct keeper_link *link) {
        (void)shutdown(link->fd, SHUT_RDWR);
}

/* Does not wait for a keeper that does not read. */
static void send_copy(struct keeper_link *link, const struct copy *copy) {
        int r = keeper_send(link->fd, KEEPER_KEEP, 0, copy->name, copy->fd);

        if (r == 0)
                return;
        (void)log_errno(LOG_WARNING, r, "cannot store %s with the keeper yet", copy->name);
        start_anew(link);
}

/* ---- for the backend, on worker threads ---- */

static void keep(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind, int fd) {
        struct keeper_link *link = container_of(keeper, struct keeper_link, keeper);
        const struct copy *copy;
        char name[KEEPER_NAME_SIZE];

        keeper_name_format(name, sizeof(name), kind, address);
        lock(link);
        if (link->drops_all) {
                unlock(link);
                return;
        }
        copy = add(link, name, fd);
        if (!copy)
                log_write(LOG_WARNING, "cannot store %s with the keeper: it is full; a restart may tear the GPU down",
                          name);
        else if (link->state == STATE_UP)
                send_copy(link, copy);
        unlock(link);
}

/* The caller has the lock. Waits until the keeper has dropped the copy or is gone, which drops the copy as well. */
static int wait_dropped(struct keeper_link *link, const char *name) {
        const struct timespec deadline = clock_timespec(clock_monotonic_usec() + ANSWER_LIMIT_MSEC * USEC_PER_MSEC);
        struct copy *copy;

        while ((copy = find(link, name)) && copy->state == COPY_DROPPING && link->state == STATE_UP)
                if (pthread_cond_timedwait(&link->changed, &link->lock, &deadline) == ETIMEDOUT)
                        return -ETIMEDOUT;
        return 0;
}

static int forget(struct gpu_keeper *keeper, const struct pci_address *address, const char *kind) {
        struct keeper_link *link = container_of(keeper, struct keeper_link, keeper);
        char name[KEEPER_NAME_SIZE];
        struct copy *copy;
        int r = 0;

        keeper_name_format(name, sizeof(name), kind, address);
        lock(link);
        copy = find(link, name);
        if (copy && link->state == STATE_UP) {
                copy->state = COPY_DROPPING;
                copy->token = ++link->last_token;
                r = keeper_send(link->fd, KEEPER_DROP, copy->token, name, -1);
                if (r == -EAGAIN)
                        start_anew(link);
                r = r == -EAGAIN ? -ETIMEDOUT : wait_dropped(link, name);
        }
        copy = find(link, name); /* it may have moved in the table */
        if (copy) /* also after a timeout: if the caller leaves the descriptor open, it calls keep() again */
                take_away(link, copy);
        unlock(link);
        return r;
}

/* ---- the loop's side ---- */

/* The first retry comes at once, since the keeper may only have been restarted. */
static void go_down(struct keeper_link *link) {
        static const struct timeval pause = {.tv_usec = FIRST_RETRY_MSEC * 1000};

        if (link->readable)
                event_free(link->readable);
        link->readable = NULL;
        lock(link);
        link->state = STATE_DOWN;
        link->fd = fd_close(link->fd);
        for (unsigned i = 0; i < link->n_copies; i++)
                if (link->copies[i].state == COPY_DROPPING)
                        link->copies[i].state = COPY_DROPPED;
        (void)pthread_cond_broadcast(&link->changed);
        unlock(link);
        if (link->retry)
                (void)event_add(link->retry, &pause);
}

static void send_all(struct keeper_link *link) {
        lock(link);
        (void)keeper_send(link->fd, KEEPER_WAIT, link->config.wait_sec, NULL, -1);
        for (unsigned i = 0; i < link->n_copies; i++)
                if (link->copies[i].state == COPY_KEPT)
                        send_copy(link, &link->copies[i]);
        link->state = STATE_UP;
        unlock(link);
        if (take_bool(&link->warned))
                log_always(LOG_NOTICE, "The keeper has the GPUs' descriptors again");
}

/*
 * This keeper may have descriptors of a previous daemon, if it ran at our start but did not answer. RESET closes them.
 */
static void greet_again(struct keeper_link *link) {
        (void)event_remove_timer(link->readable);
        if (keeper_send(link->fd, KEEPER_RESET, 0, NULL, -1) == 0)
                send_all(link);
}

static void note_dropped(struct keeper_link *link, const char *name, uint32_t token) {
        struct copy *copy;

        lock(link);
        copy = find(link, name);
        if (copy && copy->state == COPY_DROPPING && copy->token == token)
                copy->state = COPY_DROPPED;
        else if (copy && copy->state == COPY_KEPT) /* we gave up waiting and kept it again */
                send_copy(link, copy);
        (void)pthread_cond_broadcast(&link->changed);
        unlock(link);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        struct keeper_link *link = userdata;
        struct keeper_message message;
        int received_fd = -1, r;

        if (what & EV_TIMEOUT) { /* no HELLO: perhaps another keeper answers */
                go_down(link);
                return;
        }
        while ((r = keeper_receive(link->fd, &message, &received_fd)) == 0) {
                received_fd = fd_close(received_fd); /* of a late HAVE; the keeper still has it */
                if (message.kind == KEEPER_HELLO && link->state == STATE_GREETING)
                        greet_again(link);
                else if (message.kind == KEEPER_DROPPED)
                        note_dropped(link, message.name, message.value);
        }
        received_fd = fd_close(received_fd);
        if (r == -EAGAIN || r == -EBADMSG)
                return;
        log_always(LOG_WARNING,
                   "the keeper has ended; until there is a new one, GPUs are torn down when this process ends");
        link->warned = true;
        go_down(link);
}

static void watch(struct keeper_link *link) {
        static const struct timeval limit = {.tv_sec = GREETING_LIMIT_SEC};

        link->readable = event_new(link->config.loop, link->fd, EV_READ | EV_PERSIST, on_readable, link);
        if (!link->readable || event_add(link->readable, link->state == STATE_UP ? NULL : &limit) < 0)
                go_down(link);
}

/* ---- finding a keeper ---- */

/*
 * Runs in the child. Closes all descriptors except 0-2 and the listening one, since they may be copies of GPU
 * descriptors.
 */
static void become_keeper(struct keeper_link *link, int listen_fd, int ready_fd) {
        struct keeper_config config = {
                .listen_fd = 3,
                .directory = link->config.keep_socket ? NULL : link->config.directory,
                .ends_idle = true,
                .sandbox = link->config.sandbox,
        };
        int null_fd;

        log_forked(); /* this closes the log's descriptor, which may be 3 or 4 */
        if (listen_fd != 3 && dup3(listen_fd, 3, O_CLOEXEC) < 0)
                _exit(EXIT_FAILURE);
        if (ready_fd != 4 && dup3(ready_fd, 4, O_CLOEXEC) < 0)
                _exit(EXIT_FAILURE);
        if (link->config.title_size > 0) { /* shown by ps */
                memset(link->config.title, 0, link->config.title_size);
                (void)text_copy(link->config.title, link->config.title_size, "--keeper");
        }
        fd_close_from(5);
        (void)!write(4, "", 1);
        (void)close(4);
        (void)setsid(); /* signals of a terminal are for the daemon only */
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = STDIN_FILENO; null_fd >= 0 && fd <= STDERR_FILENO; fd++)
                (void)dup2(null_fd, fd);
        (void)fd_close(null_fd);
        log_open("nvidia-persistenced", LOG_TO_SYSLOG, log_is_verbose());
        _exit(keeper_run(&config));
}

/* Waits until the child has closed its copies of our descriptors. */
static int wait_for_child(int ready_fd) {
        struct pollfd ready = {.fd = ready_fd, .events = POLLIN};
        char byte;

        return poll(&ready, 1, ANSWER_LIMIT_MSEC) == 1 && read(ready_fd, &byte, 1) == 1 ? 0 : -ECHILD;
}

/*
 * Forks a keeper, only while no job runs. The fork copies our descriptors: if a job closed a GPU's descriptor before
 * the child has closed its copy, the last close would be the child's.
 */
static int fork_keeper(struct keeper_link *link) {
        CLEANUP(fd_done) int listen_fd = -1, read_end = -1, write_end = -1;
        sigset_t all, saved;
        int ends[2], r = 0;
        pid_t child;

        /* If the log's thread is in localtime_r(3), it has a lock of libc that the child would wait for. */
        if (!worker_is_idle(link->config.worker) || !log_is_written())
                return -EBUSY;
        listen_fd = keeper_listen(link->paths[1]);
        if (listen_fd < 0)
                return listen_fd;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        read_end = ends[0];
        write_end = ends[1];
        (void)signal(SIGCHLD, SIG_IGN); /* the kernel reaps the child */
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &saved); /* our handlers must not run in the child */
        child = fork();
        if (child == 0)
                become_keeper(link, listen_fd, write_end);
        if (child < 0)
                r = log_errno(LOG_WARNING, -errno, "cannot fork a keeper");
        (void)sigprocmask(SIG_SETMASK, &saved, NULL);
        write_end = fd_close(write_end);
        return r < 0 ? r : wait_for_child(read_end);
}

/* Returns a connection, or the negative errno of the last attempt. */
static int find_keeper(struct keeper_link *link) {
        bool forks = link->config.choice == KEEPER_AUTO;
        int r = keeper_call(link->paths[0]);

        if (r >= 0 || !forks)
                return r;
        link->forks = true;
        r = keeper_call(link->paths[1]);
        if (r >= 0 || r == -EAGAIN)
                return r;
        r = fork_keeper(link);
        return r < 0 ? r : keeper_call(link->paths[1]);
}

static int connect_link(struct keeper_link *link) {
        int fd = find_keeper(link);

        if (fd < 0)
                return fd;
        lock(link);
        link->fd = fd;
        link->state = STATE_GREETING;
        unlock(link);
        return 0;
}

static void on_retry(evutil_socket_t fd, short what, void *userdata) {
        static const struct timeval pause = {.tv_usec = RETRY_MSEC * 1000};
        struct keeper_link *link = userdata;
        int r = connect_link(link);

        if (r == 0) {
                watch(link);
                return;
        }
        if (!link->warned)
                (void)log_errno(LOG_WARNING, r, "there is no keeper; GPUs are torn down when this process ends");
        link->warned = true;
        (void)event_add(link->retry, &pause);
}

/* ---- the start ---- */

/* Waits for a message. Returns 0, -ETIMEDOUT, or another negative errno of keeper_receive(). */
static int await(struct keeper_link *link, struct keeper_message *ret_message, int *ret_fd) {
        struct pollfd readable = {.fd = link->fd, .events = POLLIN};
        int r;

        *ret_fd = -1;
        do {
                *ret_fd = fd_close(*ret_fd); /* from an invalid message */
                if (poll(&readable, 1, ANSWER_LIMIT_MSEC) <= 0)
                        return -ETIMEDOUT;
                r = keeper_receive(link->fd, ret_message, ret_fd);
        } while (r == -EAGAIN || r == -EBADMSG);
        return r;
}

static int await_hello(struct keeper_link *link) {
        struct keeper_message message;
        int fd = -1, r;

        do {
                r = await(link, &message, &fd);
                fd = fd_close(fd);
        } while (r == 0 && message.kind != KEEPER_HELLO);
        return r;
}

/* If we cannot use the descriptor, the keeper drops it. */
static void take_over_one(struct keeper_link *link, const char *name, int fd) {
        if (!link->config.on_have(name, fd, link->config.userdata)) {
                (void)fd_close(fd); /* not the last close: the keeper's is */
                (void)keeper_send(link->fd, KEEPER_DROP, 0, name, -1);
                return;
        }
        lock(link);
        (void)add(link, name, fd);
        unlock(link);
}

static int take_over(struct keeper_link *link) {
        struct keeper_message message = {0};
        int fd = -1;
        int r = keeper_send(link->fd, KEEPER_TAKE, 0, NULL, -1);

        while (r == 0 && message.kind != KEEPER_END) {
                r = await(link, &message, &fd);
                if (r < 0 || message.kind != KEEPER_HAVE || fd < 0) {
                        fd = fd_close(fd);
                        continue;
                }
                take_over_one(link, message.name, fd);
        }
        return r;
}

/* The keeper may be a unit or a container that starts at the same time as we do. */
static int connect_patiently(struct keeper_link *link) {
        uint64_t until_usec = clock_monotonic_usec() + APPEAR_LIMIT_MSEC * USEC_PER_MSEC;
        int r;

        while ((r = connect_link(link)) < 0 && link->config.choice == KEEPER_SOCKET &&
               clock_monotonic_usec() < until_usec)
                (void)poll(NULL, 0, APPEAR_PERIOD_MSEC);
        return r;
}

static int make_paths(struct keeper_link *link) {
        char path[PATH_MAX];

        if (locations_path(path, link->config.locations, KEEPER_PATH) < 0)
                return -ENAMETOOLONG;
        link->paths[0] = strdup(path);
        if (text_format(path, sizeof(path), "%s/" KEEPER_FORKED_NAME, link->config.directory) < 0)
                return -ENAMETOOLONG;
        link->paths[1] = strdup(path);
        return link->paths[0] && link->paths[1] ? 0 : -ENOMEM;
}

static int start(struct keeper_link *link) {
        int r = make_paths(link);

        if (r < 0)
                return r;
        link->retry = event_new(link->config.loop, -1, 0, on_retry, link);
        if (!link->retry)
                return -ENOMEM;
        r = connect_patiently(link);
        return r < 0 ? r : await_hello(link);
}

void keeper_link_start(struct keeper_link *link, const struct keeper_link_config *config) {
        bool greeted;
        int r;

        link->config = *config;
        if (config->choice == KEEPER_NONE)
                return;
        r = start(link);
        greeted = r == 0;
        if (r == 0) {
                r = take_over(link);
                if (r == 0)
                        send_all(link);
        }
        link->config.sandbox = false; /* keepers forked later inherit our filter, which permits no other */
        if (r < 0) {
                (void)log_errno(LOG_WARNING, r, "there is no keeper yet; GPUs are torn down when this process ends");
                link->warned = true;
        }
        if (r == 0 || (r == -ETIMEDOUT && !greeted)) /* the keeper hangs, and may say HELLO later */
                watch(link);
        else
                go_down(link);
}

void keeper_link_reset_others(const struct keeper_link_config *config) {
        struct keeper_link link = {.config = *config, .fd = -1};

        if (make_paths(&link) == 0)
                for (size_t i = 0; i < ARRAY_SIZE(link.paths); i++) {
                        link.fd = keeper_call(link.paths[i]);
                        if (link.fd >= 0 && await_hello(&link) == 0)
                                (void)keeper_send(link.fd, KEEPER_RESET, 0, NULL, -1);
                        link.fd = fd_close(link.fd);
                }
        free(link.paths[0]);
        free(link.paths[1]);
}

/* ---- life ---- */

static int make_condition(pthread_cond_t *condition) {
        pthread_condattr_t attributes;
        int r = pthread_condattr_init(&attributes);

        if (r != 0)
                return -r;
        (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        r = pthread_cond_init(condition, &attributes);
        (void)pthread_condattr_destroy(&attributes);
        return -r;
}

int keeper_link_new(struct keeper_link **ret_link) {
        struct keeper_link *link = calloc(1, sizeof(*link));
        int r;

        if (!link)
                return -ENOMEM;
        link->keeper = (struct gpu_keeper){.keep = keep, .forget = forget};
        link->fd = -1;
        (void)pthread_mutex_init(&link->lock, NULL);
        r = make_condition(&link->changed);
        if (r < 0) {
                free(link);
                return r;
        }
        *ret_link = link;
        return 0;
}

void keeper_link_free(struct keeper_link *link) {
        if (!link)
                return;
        if (link->readable)
                event_free(link->readable);
        if (link->retry)
                event_free(link->retry);
        link->fd = fd_close(link->fd);
        free(link->paths[0]);
        free(link->paths[1]);
        (void)pthread_cond_destroy(&link->changed);
        (void)pthread_mutex_destroy(&link->lock);
        free(link);
}

struct gpu_keeper *keeper_link_keeper(struct keeper_link *link) {
        return &link->keeper;
}

bool keeper_link_is_up(struct keeper_link *link) {
        bool up;

        lock(link);
        up = link->state == STATE_UP;
        unlock(link);
        return up;
}

void keeper_link_set_wait(struct keeper_link *link, unsigned wait_sec) {
        lock(link);
        link->config.wait_sec = wait_sec;
        if (link->state == STATE_UP)
                (void)keeper_send(link->fd, KEEPER_WAIT, wait_sec, NULL, -1);
        unlock(link);
}

void keeper_link_end(struct keeper_link *link) {
        lock(link);
        if (link->fd >= 0)
                (void)shutdown(link->fd, SHUT_RDWR);
        unlock(link);
}

void keeper_link_remove_socket(struct keeper_link *link) {
        if (link->forks && unlink(link->paths[1]) < 0 && errno != ENOENT)
                (void)log_errno(LOG_WARNING, -errno, "cannot remove the keeper's socket %s", link->paths[1]);
}

/* The caller has the lock. If a thread waits for this copy, it is being dropped already. */
static void begin_drop(struct keeper_link *link, struct copy *copy) {
        if (copy->state != COPY_KEPT)
                return;
        copy->state = COPY_DROPPING;
        copy->token = ++link->last_token;
        (void)keeper_send(link->fd, KEEPER_DROP, copy->token, copy->name, -1);
}

static bool is_dropping(struct keeper_link *link) {
        bool dropping = false;

        lock(link);
        for (unsigned i = 0; i < link->n_copies; i++)
                dropping |= link->copies[i].state == COPY_DROPPING;
        unlock(link);
        return dropping;
}

void keeper_link_drop_all(struct keeper_link *link) {
        uint64_t deadline_usec = clock_deadline_usec(DROP_ALL_LIMIT_MSEC * USEC_PER_MSEC);
        uint64_t left_usec;

        lock(link);
        link->drops_all = true;
        for (unsigned i = 0; i < link->n_copies && link->state == STATE_UP; i++)
                begin_drop(link, &link->copies[i]);
        unlock(link);
        while (keeper_link_is_up(link) && is_dropping(link) && (left_usec = clock_left_usec(deadline_usec)) > 0) {
                struct pollfd answer = {.fd = link->fd, .events = POLLIN};

                if (poll(&answer, 1, (int)(left_usec / USEC_PER_MSEC) + 1) > 0)
                        on_readable(link->fd, EV_READ, link);
        }
}
