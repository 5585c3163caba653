/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/closer.h"
#include "daemon/ratelimit.h"

enum {
        SESSIONS_MAX = 512,
        ACCEPTS_PER_TURN = 32, /* then the sessions get their turn */
};

/* Who has sessions, and how many. */
struct user {
        uid_t uid;
        unsigned n_sessions;
};

struct server {
        int listen_fd;
        struct event_base *loop;
        struct event *acceptable;
        struct event *resume; /* ends the pause after a failed accept */
        bool waiting;         /* for server_start() */
        struct server_limits limits;
        struct session *sessions[SESSIONS_MAX];
        unsigned n_sessions;
        struct user users[SESSIONS_MAX]; /* of whom there are sessions, in no order */
        unsigned n_users;
        struct server_counts counts; /* of what has happened */
        void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata);
        void *userdata;
};

struct server_limits server_limits_for(unsigned max_fds) {
        unsigned sessions = max_fds / 2 < SESSIONS_MAX ? max_fds / 2 : SESSIONS_MAX;

        if (sessions < 4)
                sessions = 4;
        return (struct server_limits){
                .sessions = sessions,
                .sessions_per_uid = sessions / 4,
        };
}

/* ---- users ---- */

/* The users with sessions are few, so a list of them it is; a crowd must not make each accept a walk over all pairs. */
static struct user *find_user(struct server *server, uid_t uid) {
        for (unsigned i = 0; i < server->n_users; i++)
                if (server->users[i].uid == uid)
                        return &server->users[i];
        return NULL;
}

static void user_add_session(struct server *server, uid_t uid) {
        struct user *user = find_user(server, uid);

        if (!user) {
                user = &server->users[server->n_users++];
                *user = (struct user){.uid = uid};
        }
        user->n_sessions++;
}

static void user_drop_session(struct server *server, uid_t uid) {
        struct user *user = find_user(server, uid);

        user->n_sessions--;
        if (user->n_sessions == 0)
                *user = server->users[--server->n_users];
}

static unsigned count_of_uid(struct server *server, uid_t uid) {
        const struct user *user = find_user(server, uid);

        return user ? user->n_sessions : 0;
}

static uid_t greediest_uid(const struct server *server) {
        const struct user *greediest = &server->users[0];

        for (unsigned i = 1; i < server->n_users; i++)
                if (server->users[i].n_sessions > greediest->n_sessions)
                        greediest = &server->users[i];
        return greediest->uid;
}

/* ---- sessions ---- */

static void on_session_closed(struct session *session, enum session_end end, void *userdata) {
        struct server *server = userdata;

        server->counts.expired += end == SESSION_EXPIRED;
        server->counts.malformed += end == SESSION_MALFORMED;
        for (unsigned i = 0; i < server->n_sessions; i++)
                if (server->sessions[i] == session) {
                        user_drop_session(server, session_peer(session)->uid);
                        server->sessions[i] = server->sessions[--server->n_sessions];
                        return;
                }
}

static void on_session_record(struct session *session, const uint8_t *record, size_t length, void *userdata) {
        struct server *server = userdata;

        server->on_record(session, record, length, server->userdata);
}

/* A call in work, somebody who waits for news, or a lease: ended only when there is nobody else. */
static bool is_in_use(const struct session *session) {
        return session_is_busy(session) || session_has_resources(session);
}

static bool goes_before(const struct session *session, const struct session *other) {
        if (is_in_use(session) != is_in_use(other))
                return !is_in_use(session);
        return session_active_usec(session) < session_active_usec(other);
}

/* Ends the session of that uid that has been idle longest. */
static void evict(struct server *server, uid_t uid) {
        struct session *victim = NULL;

        for (unsigned i = 0; i < server->n_sessions; i++) {
                struct session *session = server->sessions[i];

                if (session_peer(session)->uid == uid && (!victim || goes_before(session, victim)))
                        victim = session;
        }
        if (!victim)
                return;
        server->counts.evicted++;
        session_close(victim);
}

static void make_room(struct server *server, uid_t uid) {
        if (uid != 0 && count_of_uid(server, uid) >= server->limits.sessions_per_uid)
                evict(server, uid);
        else if (server->n_sessions >= server->limits.sessions)
                evict(server, greediest_uid(server));
}

static void add_session(struct server *server, int fd) {
        const struct session_callbacks callbacks = {
                .on_record = on_session_record,
                .on_closed = on_session_closed,
                .userdata = server,
        };
        struct session *session;
        struct peer peer;

        if (peer_read(fd, &peer) < 0) {
                closer_close(fd);
                return;
        }
        make_room(server, peer.uid);
        if (session_new(&session, server->loop, fd, &peer, &callbacks) < 0)
                return;
        server->sessions[server->n_sessions++] = session;
        user_add_session(server, peer.uid);
        server->counts.accepted++;
}

struct server_counts server_count(const struct server *server) {
        struct server_counts counts = server->counts;

        counts.sessions = server->n_sessions;
        counts.sessions_max = server->limits.sessions;
        return counts;
}

/* ---- the listener ---- */

static void pause_listening(struct server *server) {
        static const struct timeval pause = {.tv_usec = 100 * USEC_PER_MSEC};

        (void)event_del(server->acceptable);
        (void)event_add(server->resume, &pause);
}

/* Out of descriptors or memory: the event would come again at once, so listening pauses instead of spinning. */
static void fail_accept(struct server *server, int error) {
        static struct ratelimit limit = RATELIMIT(3, 60);

        if (ratelimit_pass(&limit))
                (void)log_errno(LOG_WARNING, error, "cannot accept a connection; trying again every 0.1 s");
        if (server->n_sessions > 0)
                evict(server, greediest_uid(server));
        pause_listening(server);
}

/*
 * The closer's threads are all kept waiting by the kernel, and sockets pile up behind them. A new client could only be
 * added to the pile: those that are here are served on, others wait in the kernel's queue.
 */
static bool is_clogged(const struct server *server) {
        static struct ratelimit limit = RATELIMIT(3, 60);
        unsigned waiting = closer_count();

        if (waiting <= server->limits.sessions / 2)
                return false;
        if (ratelimit_pass(&limit))
                log_write(LOG_WARNING,
                          "%u sockets of clients that passed descriptors are not closed yet: the kernel "
                          "keeps us waiting; no new clients until it has closed some",
                          waiting);
        return true;
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *userdata) {
        struct server *server = userdata;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                if (is_clogged(server)) {
                        pause_listening(server);
                        return;
                }
                int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd >= 0)
                        add_session(server, fd);
                else if (errno == EAGAIN)
                        return;
                else if (errno != ECONNABORTED && errno != EINTR) {
                        fail_accept(server, -errno);
                        return;
                }
        }
}

/* A kernel that is short of memory may not even let us listen: it is asked again until it does. */
static void on_resume(evutil_socket_t fd, short what, void *userdata) {
        struct server *server = userdata;

        if (event_add(server->acceptable, NULL) < 0)
                fail_accept(server, -ENOMEM);
}

void server_start(struct server *server) {
        if (take_bool(&server->waiting))
                on_resume(-1, 0, server);
}

void server_set_limits(struct server *server, const struct server_limits *limits) {
        server->limits = *limits;
}

/*
 * A unit of others may ask for credentials in each message (PassCredentials=). Sessions inherit that, and could not
 * tell them from descriptors.
 */
static void clear_control_data(int listen_fd) {
        static const int options[] = {SO_PASSCRED, SO_PASSSEC};
        const int no = 0;

        for (size_t i = 0; i < ARRAY_SIZE(options); i++)
                (void)setsockopt(listen_fd, SOL_SOCKET, options[i], &no, sizeof(no));
}

static void server_done(struct server **server) {
        server_free(*server);
}

int server_new(struct server **ret_server, struct event_base *loop, int listen_fd, const struct server_limits *limits,
               void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata),
               void *userdata) {
        CLEANUP(server_done) struct server *server = calloc(1, sizeof(*server));

        if (!server) {
                (void)fd_close(listen_fd);
                return -ENOMEM;
        }
        server->listen_fd = listen_fd;
        server->loop = loop;
        server->waiting = true;
        server->limits = *limits;
        server->on_record = on_record;
        server->userdata = userdata;
        server->acceptable = event_new(loop, listen_fd, EV_READ | EV_PERSIST, on_acceptable, server);
        server->resume = event_new(loop, -1, 0, on_resume, server);
        if (!server->acceptable || !server->resume || closer_start(loop) < 0)
                return -ENOMEM;
        closer_refuse_rights(listen_fd);
        clear_control_data(listen_fd);
        *ret_server = take_ptr(server);
        return 0;
}

void server_free(struct server *server) {
        if (!server)
                return;
        while (server->n_sessions > 0)
                session_close(server->sessions[0]);
        if (server->acceptable)
                event_free(server->acceptable);
        if (server->resume)
                event_free(server->resume);
        closer_close(server->listen_fd); /* with those that wait in its queue */
        closer_stop();
        free(server);
}

/* ---- binding ---- */

static bool somebody_listens(const struct sockaddr_un *address) {
        CLEANUP(fd_done) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        /* EAGAIN: alive, and its queue is full. */
        return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN);
}

/* Everybody may ask; who may change is decided by credentials. */
static int open_to_all(int fd, const char *path) {
        if (chmod(path, 0777) < 0)
                return log_errno(LOG_ERR, -errno, "cannot set the mode of %s", path);
        if (listen(fd, SOMAXCONN) < 0)
                return log_errno(LOG_ERR, -errno, "cannot listen at %s", path);
        return 0;
}

int server_listen(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int fd = -1;
        int r;

        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return log_errno(LOG_ERR, -ENAMETOOLONG, "cannot listen at %s", path);
        if (somebody_listens(&address)) {
                log_write(LOG_ERR, "another persistence daemon answers at %s; stop it first", path);
                return -EADDRINUSE;
        }
        if (unlink(path) < 0 && errno != ENOENT)
                return log_errno(LOG_ERR, -errno, "cannot remove the old socket %s", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return log_errno(LOG_ERR, -errno, "cannot make a socket");
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return log_errno(LOG_ERR, -errno, "cannot bind the socket %s", path);
        r = open_to_all(fd, path);
        if (r < 0) {
                (void)unlink(path);
                return r;
        }
        return take_fd(&fd);
}
