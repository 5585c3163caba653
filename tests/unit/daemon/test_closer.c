/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Closing sockets without waiting. The linker wraps close(), which blocks as long as the test wants. */

#include "daemon/serve/closer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum { SOCKETS = 100, LIMIT_SEC = 30 };

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* close() blocks while the test has it locked */
static pthread_t loop_thread;
static bool refuses;
static struct event_base *loop;

int __real_close(int fd);
int __wrap_close(int fd);
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size);

int __wrap_close(int fd) {
        if (!pthread_equal(pthread_self(), loop_thread)) {
                (void)pthread_mutex_lock(&gate);
                (void)pthread_mutex_unlock(&gate);
        }
        return __real_close(fd);
}

/* Returns whether the socket accepts descriptors, as the test has set it. */
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size) {
        if (option == SO_ACCEPTCONN)
                return __real_getsockopt(fd, level, option, value, size);
        if (!refuses) {
                errno = ENOPROTOOPT;
                return -1;
        }
        *(int *)value = 0;
        return 0;
}

static bool is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

static void make_pairs(int ours[static SOCKETS], int theirs[static SOCKETS]) {
        for (int i = 0; i < SOCKETS; i++) {
                int ends[2];

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
                ours[i] = ends[0];
                theirs[i] = ends[1];
        }
}

static void wait_until_closed(void) {
        uint64_t deadline_usec = clock_monotonic_usec() + LIMIT_SEC * USEC_PER_SEC;

        while (closer_count() > 0) {
                assert_true(clock_monotonic_usec() < deadline_usec);
                (void)event_base_loop(loop, EVLOOP_ONCE);
        }
}

static void a_blocked_close_blocks_neither_the_caller_nor_other_closes(void **state) {
        int ours[SOCKETS], theirs[SOCKETS];
        uint64_t start_usec;
        char byte;

        refuses = false;
        make_pairs(ours, theirs);
        (void)pthread_mutex_lock(&gate);
        start_usec = clock_monotonic_usec();
        for (int i = 0; i < SOCKETS; i++)
                closer_close(ours[i]);
        assert_true(clock_monotonic_usec() - start_usec < LIMIT_SEC * USEC_PER_SEC / 2);
        assert_int_equal(closer_count(), SOCKETS);
        for (int i = 0; i < SOCKETS; i++) {
                assert_true(is_open(ours[i]));
                assert_int_equal(recv(theirs[i], &byte, 1, MSG_DONTWAIT),
                                 0); /* the client sees the end of the stream */
        }
        (void)pthread_mutex_unlock(&gate);
        wait_until_closed();
        for (int i = 0; i < SOCKETS; i++) {
                assert_false(is_open(ours[i]));
                (void)close(theirs[i]);
        }
}

static void a_socket_that_refuses_descriptors_is_closed_at_once(void **state) {
        int ours[SOCKETS], theirs[SOCKETS];

        refuses = true;
        make_pairs(ours, theirs);
        (void)pthread_mutex_lock(&gate);
        for (int i = 0; i < SOCKETS; i++) {
                closer_close(ours[i]);
                assert_false(is_open(ours[i]));
                (void)close(theirs[i]);
        }
        assert_int_equal(closer_count(), 0);
        (void)pthread_mutex_unlock(&gate);
}

static void a_closed_listening_socket_still_works_for_the_service_manager(void **state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX}; /* the kernel chooses a name */
        socklen_t size = sizeof(address);
        int listening, manager, client, accepted;

        refuses = false;
        listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(listening, 1), 0);
        assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
        manager = fcntl(listening, F_DUPFD_CLOEXEC, 0);
        closer_close(listening);
        wait_until_closed();
        client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
        accepted = accept(manager, NULL, NULL);
        assert_true(accepted >= 0);
        (void)close(accepted);
        (void)close(client);
        (void)close(manager);
}

static void closing_no_descriptor_does_nothing(void **state) {
        closer_close(-1);
        assert_int_equal(closer_count(), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_blocked_close_blocks_neither_the_caller_nor_other_closes),
                cmocka_unit_test(a_blocked_close_blocks_neither_the_caller_nor_other_closes), /* again, by threads that
                                                                                                 are idle now */
                cmocka_unit_test(a_socket_that_refuses_descriptors_is_closed_at_once),
                cmocka_unit_test(a_closed_listening_socket_still_works_for_the_service_manager),
                cmocka_unit_test(closing_no_descriptor_does_nothing),
        };
        int failed;

        loop_thread = pthread_self();
        loop = event_base_new();
        if (!loop || closer_start(loop) < 0)
                return 1;
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        closer_stop();
        event_base_free(loop);
        return failed;
}
