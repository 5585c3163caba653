/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/text.h"
#include "daemon/serve/accounts.h"
#include "daemon/serve/closer.h"

enum {
        SESSIONS_MAX = 512,
        /* A client waits behind at most this many others. Further clients block in connect(), which costs nobody
         * anything. */
        BACKLOG = 16,
        ACCEPTS_PER_TURN = 4,   /* then the sessions have their turn */
        OUTPUT_MAX = 8 << 20,   /* bytes of replies that the sockets have not accepted yet, of all sessions */
        FIRST_CALL_MSEC = 1000, /* how long a new session is protected while its first call is missing */
};

struct server {
        int listen_fd;
        struct event_base *loop;
        struct event *acceptable;
        struct event *resume; /* ends the pause after a failed accept */
        bool waiting;         /* server_start() was not called yet */
        struct server_limits limits;
        struct seat {
                struct session *session;
                struct account *account;
        } seats[SESSIONS_MAX];
        unsigned n_sessions;
        struct accounts accounts;
        struct server_counts counts; /* except sessions and sessions_max */
        void (*on_record)(struct session *session, const uint8_t *record, size_t length, void *userdata);
        void *userdata;
};

struct server_limits server_limits_for(unsigned max_fds) {
        unsigned sessions = max_fds / 2 < SESSIONS_MAX ? max_fds / 2 : SESSIONS_MAX;

        if (sessions < 4)
                sessions = 4;
        return (struct server_limits){
                .sessions = sessions,
                .sessions_per_user = sessions / 4,
        };
}

/* ---- sessions ---- */

static bool is_root(const struct server *server, const struct account *account) {
        return account == &server->accounts.root;
}

static struct seat *find_seat(struct server *server, const struct session *session) {
        for (unsigned i = 0; i < server->n_sessions; i++)
                if (server->seats[i].session == session)
                        return &server->seats[i];
        return NULL;
}

static void on_session_ended(struct session *session, enum session_end_reason reason, void *userdata) {
        struct server *server = userdata;
        struct seat *seat = find_seat(server, session);

        server->counts.expired += reason == SESSION_EXPIRED;
        server->counts.malformed += reason == SESSION_MALFORMED;
        if (!seat)
                return;
        seat->account->n_sessions--;
        *seat = server->seats[--server->n_sessions];
}

static void on_session_record(struct session *session, const uint8_t *record, size_t length, void *userdata) {
        struct server *server = userdata;

        server->on_record(session, record, length, server->userdata);
}

/* ---- who has to go ---- */

/* How strongly a session resists eviction. One with a lease or a Set in progress is never evicted. */
enum claim {
        CLAIM_NONE,  /* it is idle, or does not read its reply */
        CLAIM_WATCH, /* it has a Watch in progress */
        CLAIM_FIRST, /* it is new, and its first call may be on its way */
        CLAIM_KEPT,
};

static enum claim claim_of(const struct session *session, uint64_t now_usec) {
        if (session_is_kept(session))
                return CLAIM_KEPT;
        if (!session_was_served(session) && now_usec < session_active_usec(session) + FIRST_CALL_MSEC * USEC_PER_MSEC)
                return CLAIM_FIRST;
        return session_is_busy(session) ? CLAIM_WATCH : CLAIM_NONE;
}

/* The session of that account with the weakest claim; among equals, the one that has been idle longest. */
static struct session *find_victim(const struct server *server, const struct account *account) {
        uint64_t now_usec = clock_monotonic_usec();
        struct session *victim = NULL;
        enum claim least = CLAIM_KEPT;

        for (unsigned i = 0; i < server->n_sessions; i++) {
                struct session *session = server->seats[i].session;
                enum claim claim;

                if (server->seats[i].account != account)
                        continue;
                claim = claim_of(session, now_usec);
                if (claim < least ||
                    (claim == least && victim && session_active_usec(session) < session_active_usec(victim))) {
                        victim = session;
                        least = claim;
                }
        }
        return victim;
}

/*
 * Ends a session of that account, if one may be ended. A victim that was never served is served first, in case its
 * first call has arrived. This may end other sessions, and may save the victim.
 */
static bool evict_from(struct server *server, const struct account *account) {
        unsigned before = server->n_sessions;
        struct session *victim;

        while (server->n_sessions >= before && (victim = find_victim(server, account))) {
                if (!session_was_served(victim))
                        session_serve(victim);
                if (!find_seat(server, victim) || session_is_kept(victim))
                        continue;
                server->counts.evicted++;
                session_close(victim);
        }
        return server->n_sessions < before;
}

/*
 * Ends a session of the account with the most sessions (not of root of this host) or, if none of those may be ended,
 * one of the given account.
 */
static bool evict_stranger(struct server *server, const struct account *account) {
        return evict_from(server, accounts_greediest(&server->accounts)) || evict_from(server, account);
}

/* The number of slots reserved for root of this host. */
static unsigned reserve(const struct server *server) {
        return (server->limits.sessions + 7) / 8;
}

static bool make_room_for_root(struct server *server, const struct account *root) {
        bool greedy = root->n_sessions >= server->limits.sessions / 2;

        if (server->n_sessions < server->limits.sessions)
                return true;
        return greedy ? evict_from(server, root) || evict_stranger(server, root) : evict_stranger(server, root);
}

static bool make_room(struct server *server, const struct account *account) {
        unsigned n_strangers = server->n_sessions - server->accounts.root.n_sessions;

        if (is_root(server, account))
                return make_room_for_root(server, account);
        if (account->n_sessions >= server->limits.sessions_per_user)
                return evict_from(server, account);
        if (n_strangers + reserve(server) >= server->limits.sessions || server->n_sessions >= server->limits.sessions)
                return evict_stranger(server, account);
        return true;
}

/* ---- what they do not fetch ---- */

static size_t output_of(const struct server *server, const struct account *account) {
        size_t bytes = 0;

        for (unsigned i = 0; i < server->n_sessions; i++)
                if (!account || server->seats[i].account == account)
                        bytes += session_output_bytes(server->seats[i].session);
        return bytes;
}

/* The account with the most unread output. It is root of this host only if nobody else has any. */
static const struct account *worst_reader(const struct server *server) {
        const struct account *worst = &server->accounts.root;
        size_t most = 0;

        for (unsigned i = 0; i < server->n_sessions; i++) {
                const struct account *account = server->seats[i].account;
                size_t bytes = is_root(server, account) ? 0 : output_of(server, account);

                if (bytes > most) {
                        most = bytes;
                        worst = account;
                }
        }
        return worst;
}

static struct session *slowest_reader(const struct server *server, const struct account *account) {
        struct session *slowest = NULL;

        for (unsigned i = 0; i < server->n_sessions; i++) {
                struct session *session = server->seats[i].session;

                if (server->seats[i].account == account && session_output_bytes(session) > 0 &&
                    (!slowest || session_active_usec(session) < session_active_usec(slowest)))
                        slowest = session;
        }
        return slowest;
}

static void on_session_output(struct session *session, void *userdata) {
        struct server *server = userdata;

        while (output_of(server, NULL) > OUTPUT_MAX) {
                struct session *slowest = slowest_reader(server, worst_reader(server));

                server->counts.evicted++;
                session_abandon(slowest); /* this frees its output */
        }
}

/* ---- newcomers ---- */

static bool has_hung_up(int fd) {
        struct pollfd pollfd = {.fd = fd};

        return poll(&pollfd, 1, 0) != 0;
}

/* A Set is carried out even if its client has hung up. If the client may only ask, there is nothing left to do. */
static bool matters(const struct server *server, const struct peer *peer) {
        return peer->uid == 0 || server->limits.members_matter;
}

static void add_session(struct server *server, int fd) {
        const struct session_callbacks callbacks = {
                .on_record = on_session_record,
                .on_output = on_session_output,
                .on_ended = on_session_ended,
                .userdata = server,
        };
        struct account *account;
        struct session *session;
        struct peer peer;

        if (peer_read(fd, &peer) < 0 || (!matters(server, &peer) && has_hung_up(fd))) {
                closer_close(fd);
                return;
        }
        peer_find_origin(&peer);
        account = accounts_find(&server->accounts, &peer);
        if (!make_room(server, account)) {
                server->counts.evicted++;
                closer_close(fd);
                return;
        }
        if (session_new(&session, server->loop, fd, &peer, &callbacks) < 0)
                return;
        account = accounts_find(&server->accounts, &peer); /* make_room() may have ended its last session */
        server->seats[server->n_sessions++] = (struct seat){.session = session, .account = account};
        account->n_sessions++;
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

/* Out of descriptors or memory. Pauses, since the event would fire again at once and keep the loop busy. */
static void fail_accept(struct server *server, int error) {
        static struct ratelimit limit = RATELIMIT(3, 60);

        if (ratelimit_pass(&limit))
                (void)log_errno(LOG_WARNING, error, "cannot accept a connection; trying again every 0.1 s");
        (void)evict_stranger(server, &server->accounts.root);
        pause_listening(server);
}

/*
 * True while too many sockets wait to be closed, because the kernel blocks all threads of the closer. New clients would
 * only add to them, so they wait in the kernel's queue; existing sessions are still served.
 */
static bool is_clogged(const struct server *server) {
        static struct ratelimit limit = RATELIMIT(3, 60);
        unsigned waiting = closer_count();

        if (waiting <= server->limits.sessions / 2)
                return false;
        if (ratelimit_pass(&limit))
                log_write(
                        LOG_WARNING,
                        "%u ended connections are not closed yet, probably because of descriptors that clients passed; "
                        "accepting no new clients until some are closed",
                        waiting);
        return true;
}

/* Gives the sessions their turn before more clients are accepted. */
static void take_turns(struct server *server) {
        static const struct timeval at_once = {0};

        (void)event_del(server->acceptable);
        (void)event_add(server->resume, &at_once);
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *userdata) {
        struct server *server = userdata;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int fd;

                if (is_clogged(server)) {
                        pause_listening(server);
                        return;
                }
                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0)
                        add_session(server, fd);
                else if (errno == EAGAIN)
                        return;
                else if (errno != ECONNABORTED && errno != EINTR) {
                        fail_accept(server, -errno);
                        return;
                }
        }
        take_turns(server);
}

/* If the kernel is short of memory, even this may fail; then it is tried again. */
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
 * A foreign socket unit may request credentials in each message (PassCredentials=). Sessions inherit this, and could
 * not tell credentials from passed descriptors.
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
        if (listen(listen_fd, BACKLOG) < 0) /* shortens the queue of a socket from a service manager */
                return -errno;
        closer_refuse_rights(listen_fd);
        clear_control_data(listen_fd);
        (void)event_priority_set(server->acceptable, SERVER_FIRST);
        *ret_server = take_ptr(server);
        return 0;
}

void server_free(struct server *server) {
        if (!server)
                return;
        while (server->n_sessions > 0)
                session_close(server->seats[0].session);
        if (server->acceptable)
                event_free(server->acceptable);
        if (server->resume)
                event_free(server->resume);
        closer_close(server->listen_fd); /* and the clients in its queue */
        closer_stop();
        free(server);
}

/* ---- binding ---- */

static bool somebody_listens(const struct sockaddr_un *address) {
        CLEANUP(fd_done) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        /* EAGAIN: somebody listens, but the queue is full. */
        return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN);
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
                return log_errno(LOG_ERR, -errno, "cannot create a socket");
        r = fd_bind(fd, &address, 0); /* everybody may connect; credentials decide who may change anything */
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot bind the socket %s", path);
        closer_refuse_rights(fd); /* before anybody can connect */
        if (listen(fd, BACKLOG) < 0) {
                r = log_errno(LOG_ERR, -errno, "cannot listen at %s", path);
                (void)unlink(path);
                return r;
        }
        return take_fd(&fd);
}
