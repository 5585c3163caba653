/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/control/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/thread.h"
#include "sim/control/endpoint.h"

enum {
        LISTENERS_MAX = 2,
        CONNECTIONS_MAX = 512,
        LINE_MAX_BYTES = 64 * 1024,
        ERROR_SIZE = 512,
        STACK_BYTES = 512 * 1024,
};

struct listener {
        struct control_server *server;
        pthread_t thread;
        int fd;
        char *path;
};

struct control_connection {
        struct control_connection *next;
        struct control_server *server;
        struct model_caller caller;
        struct model_file *gpu; /* what `open` opened */
        int fd;
        char line[LINE_MAX_BYTES];
        size_t length;
        bool skipping; /* the rest of a line that was too long */
};

struct control_server {
        struct model *model;
        pthread_mutex_t mutex;
        pthread_cond_t ended; /* a connection ended */
        struct control_connection *connections;
        unsigned n_connections;
        bool ending;
        struct listener listeners[LISTENERS_MAX];
        unsigned n_listeners;
};

/* ---- verbs ---- */

static json_t *fail(char error[static ERROR_SIZE], const char *text) {
        (void)text_copy(error, ERROR_SIZE, text);
        return NULL;
}

static json_t *verb_list(struct control_connection *connection, json_t *arguments, char error[static ERROR_SIZE]) {
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views = model_list(connection->server->model, views);
        json_t *list = json_array();

        for (size_t i = 0; i < n_views; i++) {
                const struct pci_address *address = &views[i].spec.address;

                if (views[i].bound && !views[i].spec.excluded)
                        (void)json_array_append_new(
                                list, json_pack("{s:I,s:i,s:i,s:i}", "domain", (json_int_t)address->domain, "bus",
                                                address->bus, "slot", address->slot, "function", address->function));
        }
        return list;
}

static json_t *verb_open(struct control_connection *connection, json_t *arguments, char error[static ERROR_SIZE]) {
        struct pci_address address = {0};
        json_int_t domain;
        int bus, slot, function, r;

        if (connection->gpu)
                return fail(error, "this connection already has a GPU open; use one connection for each GPU");
        if (json_unpack(arguments, "{s:I,s:i,s:i,s:i}", "domain", &domain, "bus", &bus, "slot", &slot, "function",
                        &function) < 0)
                return fail(error, "open needs domain, bus, slot and function, all numbers");
        if (domain < 0 || domain > UINT32_MAX || bus < 0 || bus > 255 || slot < 0 || slot > 31 || function < 0 ||
            function > 7)
                return fail(error, "these numbers are not a PCI address");
        address = (struct pci_address){
                .domain = (uint32_t)domain,
                .bus = (uint8_t)bus,
                .slot = (uint8_t)slot,
                .function = (uint8_t)function,
        };
        r = model_open_address(connection->server->model, &address, &connection->caller, NULL, &connection->gpu);
        if (r == 0)
                return json_true();
        connection->gpu = NULL;
        return fail(error, strerror(-r));
}

static json_t *verb_close(struct control_connection *connection, json_t *arguments, char error[static ERROR_SIZE]) {
        if (!connection->gpu)
                return fail(error, "this connection has no GPU open");
        model_close(take_ptr(connection->gpu));
        return json_true();
}

static json_t *verb_uvm(struct control_connection *connection, json_t *arguments, char error[static ERROR_SIZE]) {
        int enable;

        if (!connection->gpu)
                return fail(error, "this connection has no GPU open");
        if (json_unpack(arguments, "{s:b}", "enable", &enable) < 0)
                return fail(error, "uvm needs enable, true or false");
        return json_integer(model_uvm_persistence(connection->gpu, enable));
}

static const struct {
        const char *name;
        json_t *(*run)(struct control_connection *connection, json_t *arguments, char error[static ERROR_SIZE]);
} shim_verbs[] = {
        {"close", verb_close},
        {"list", verb_list},
        {"open", verb_open},
        {"uvm", verb_uvm},
};

/* Returns the result, a new reference, or NULL with a sentence in error. */
static json_t *run_verb(struct control_connection *connection, const char *verb, json_t *arguments,
                        char error[static ERROR_SIZE]) {
        for (size_t i = 0; i < ARRAY_SIZE(shim_verbs); i++)
                if (text_equal(shim_verbs[i].name, verb))
                        return shim_verbs[i].run(connection, arguments, error);
        return model_run_verb(connection->server->model, verb, arguments, &connection->caller, NULL, error, ERROR_SIZE);
}

/* ---- lines ---- */

/* Takes over the reference to result. */
static int send_answer(struct control_connection *connection, json_t *result, const char *error) {
        CLEANUP(json_decrefp)
        json_t *answer = result ? json_pack("{s:b,s:o}", "ok", 1, "result", result)
                                : json_pack("{s:b,s:s}", "ok", 0, "error", error);
        CLEANUP(free_ptr) char *text = json_dumps(answer, JSON_COMPACT);

        return text ? endpoint_send(connection->fd, text) : -ENOMEM;
}

static int answer_line(struct control_connection *connection, const char *line, size_t length) {
        json_error_t syntax;
        CLEANUP(json_decrefp) json_t *request = json_loadb(line, length, 0, &syntax);
        char error[ERROR_SIZE] = "out of memory";
        const char *verb;
        json_t *result;

        if (!request) {
                (void)text_format(error, sizeof(error), "each line must be one JSON object: %s", syntax.text);
                return send_answer(connection, NULL, error);
        }
        verb = json_string_value(json_object_get(request, "verb"));
        if (!verb)
                return send_answer(connection, NULL, "a request is an object with a \"verb\", a string");
        result = run_verb(connection, verb, request, error);
        return send_answer(connection, result, error);
}

static void drop(struct control_connection *connection, size_t length) {
        connection->length -= length;
        memmove(connection->line, connection->line + length, connection->length);
}

/* Answers every complete line in the buffer. */
static int answer_lines(struct control_connection *connection) {
        char *end;
        int r = 0;

        while (r == 0 && (end = memchr(connection->line, '\n', connection->length))) {
                size_t length = (size_t)(end - connection->line);

                if (!connection->skipping)
                        r = answer_line(connection, connection->line, length);
                connection->skipping = false;
                drop(connection, length + 1);
        }
        if (r == 0 && connection->length == sizeof(connection->line)) {
                if (!connection->skipping)
                        r = send_answer(connection, NULL, "the line is longer than 64 KiB");
                connection->skipping = true;
                drop(connection, connection->length);
        }
        return r;
}

static int read_more(struct control_connection *connection) {
        ssize_t count;

        do
                count = read(connection->fd, connection->line + connection->length,
                             sizeof(connection->line) - connection->length);
        while (count < 0 && errno == EINTR);
        if (count <= 0)
                return count < 0 ? -errno : -ENODATA;
        connection->length += (size_t)count;
        return 0;
}

/* ---- connections ---- */

static void connection_free(struct control_connection *connection) {
        struct control_server *server = connection->server;
        struct control_connection **link = &server->connections;

        if (connection->gpu)
                model_close(connection->gpu);
        (void)pthread_mutex_lock(&server->mutex);
        while (*link != connection)
                link = &(*link)->next;
        *link = connection->next;
        (void)close(connection->fd); /* under the mutex: server_free() shuts the descriptor down by its number */
        server->n_connections--;
        (void)pthread_cond_signal(&server->ended);
        (void)pthread_mutex_unlock(&server->mutex);
        free(connection);
}

static void *connection_main(void *argument) {
        struct control_connection *connection = argument;

        while (read_more(connection) == 0 && answer_lines(connection) == 0)
                ;
        connection_free(connection);
        return NULL;
}

static bool add_connection(struct control_server *server, struct control_connection *connection) {
        bool added;

        (void)pthread_mutex_lock(&server->mutex);
        added = !server->ending && server->n_connections < CONNECTIONS_MAX;
        if (added) {
                connection->next = server->connections;
                server->connections = connection;
                server->n_connections++;
        }
        (void)pthread_mutex_unlock(&server->mutex);
        return added;
}

static void start_connection(struct control_server *server, int fd) {
        static const struct thread_options options = {.stack_size = STACK_BYTES, .detached = true};
        struct control_connection *connection = calloc(1, sizeof(*connection));
        struct ucred peer = {0};
        socklen_t size = sizeof(peer);
        pthread_t thread;

        if (!connection || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
                free(connection);
                (void)fd_close(fd);
                return;
        }
        connection->server = server;
        connection->caller = (struct model_caller){.pid = peer.pid, .uid = peer.uid};
        connection->fd = fd;
        if (!add_connection(server, connection)) {
                (void)send_answer(connection, NULL, "too many connections to the simulator");
                (void)fd_close(fd);
                free(connection);
                return;
        }
        if (thread_start(&thread, &options, connection_main, connection) < 0)
                connection_free(connection);
}

static void *listener_main(void *argument) {
        struct listener *listener = argument;
        int fd;

        for (;;) {
                fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
                if (fd >= 0)
                        start_connection(listener->server, fd);
                else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                        (void)poll(NULL, 0, 50); /* no event to wait for: accept() would fail again at once */
                else if (errno != EINTR && errno != ECONNABORTED)
                        return NULL; /* server_free() has shut the socket down */
        }
}

/* ---- life ---- */

int server_new(struct control_server **ret_server, struct model *model) {
        struct control_server *server = calloc(1, sizeof(*server));

        if (!server)
                return -ENOMEM;
        server->model = model;
        (void)pthread_mutex_init(&server->mutex, NULL);
        (void)pthread_cond_init(&server->ended, NULL);
        *ret_server = server;
        return 0;
}

int server_listen(struct control_server *server, const char *path) {
        struct listener *listener = &server->listeners[server->n_listeners];
        int fd, r;

        if (server->n_listeners == LISTENERS_MAX)
                return -ENOSPC;
        fd = endpoint_listen(path);
        if (fd < 0)
                return fd;
        *listener = (struct listener){.server = server, .fd = fd, .path = strdup(path)};
        r = thread_start(&listener->thread, &(struct thread_options){0}, listener_main, listener);
        if (r < 0) {
                (void)fd_close(fd);
                free(listener->path);
                return r;
        }
        server->n_listeners++;
        return 0;
}

static void stop_listener(struct listener *listener) {
        (void)shutdown(listener->fd, SHUT_RDWR); /* ends accept() */
        (void)pthread_join(listener->thread, NULL);
        (void)fd_close(listener->fd);
        if (listener->path)
                (void)unlink(listener->path);
        free(listener->path);
}

void server_free(struct control_server *server) {
        if (!server)
                return;
        (void)pthread_mutex_lock(&server->mutex);
        server->ending = true;
        for (struct control_connection *connection = server->connections; connection; connection = connection->next)
                (void)shutdown(connection->fd, SHUT_RDWR);
        (void)pthread_mutex_unlock(&server->mutex);
        for (unsigned i = 0; i < server->n_listeners; i++)
                stop_listener(&server->listeners[i]);
        (void)pthread_mutex_lock(&server->mutex);
        while (server->connections)
                (void)pthread_cond_wait(&server->ended, &server->mutex);
        (void)pthread_mutex_unlock(&server->mutex);
        (void)pthread_cond_destroy(&server->ended);
        (void)pthread_mutex_destroy(&server->mutex);
        free(server);
}
