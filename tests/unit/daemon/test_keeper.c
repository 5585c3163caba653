/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The keeper runs as a child process, and this test is its daemon. The descriptors are write ends of pipes: the read
 * end becomes readable when the last copy of the write end is closed.
 */

#include "daemon/manager/keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "daemon/manager/keeper_link.h"
#include "daemon/manager/keeper_message.h"
#include "gpu/backend.h"
#include "tests/unit/hostile.h"

enum { LIMIT_MSEC = 10000 };

static const struct pci_address address = {.domain = 0x10000, .bus = 0xaf, .slot = 3};
static const char name[] = "gpu-10000.af.03.0";

/* ---- names ---- */

static void a_name_is_read_back_as_written(void **state) {
        struct pci_address again;
        char buffer[64];

        keeper_name_format(buffer, sizeof(buffer), GPU_KIND_DEVICE, &address);
        assert_string_equal(buffer, name);
        assert_null(strchr(buffer, ':')); /* ':' separates names in LISTEN_FDNAMES */
        assert_true(keeper_name_parse(buffer, GPU_KIND_DEVICE, &again));
        assert_int_equal(pci_address_compare(&again, &address), 0);
        assert_false(keeper_name_parse(buffer, GPU_KIND_UVM, &again));
}

static void other_names_are_refused(void **state) {
        static const char *const names[] = {
                "",
                "gpu",
                "gpu-",
                "gpu-0000",
                "gpu-0000.17",
                "gpu-0000.17.00",
                "gpu-0000.17.00.",
                "gpu-0000.17.00.8",
                "gpu-0000.17.20.0",
                "gpu-0000.17.00.0x",
                "gpu 0000.17.00.0",
                "gpux-0000.17.00.0",
                "GPU-0000.17.00.0",
                "gpu-0000.17.00.0.0",
                "gpu-....",
                "gpu-zzzz.17.00.0",
                "stored",
                "gpu-00000000000000000000.17.00.0",
        };
        struct pci_address parsed;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_false(keeper_name_parse(names[i], GPU_KIND_DEVICE, &parsed));
}

/* A damaged name is refused, or is read as the name of some GPU; the name of that GPU is then read as the same GPU. */
static void judge(const uint8_t *bytes, size_t size) {
        struct pci_address parsed, again;
        char text[sizeof(name)], formatted[64];

        memcpy(text, bytes, size);
        text[size] = '\0';
        if (!keeper_name_parse(text, GPU_KIND_DEVICE, &parsed))
                return;
        keeper_name_format(formatted, sizeof(formatted), GPU_KIND_DEVICE, &parsed);
        assert_true(keeper_name_parse(formatted, GPU_KIND_DEVICE, &again));
        assert_int_equal(pci_address_compare(&again, &parsed), 0);
}

static void a_damaged_name_is_refused_or_names_another_gpu(void **state) {
        hostile_truncate((const uint8_t *)name, strlen(name), judge);
        hostile_flip((const uint8_t *)name, strlen(name), judge);
}

/* ---- the process ---- */

static char folder[] = "/tmp/holdfast-keeper-XXXXXX";
static char path[sizeof(folder) + 8];
static pid_t keeper;

static void start_keeper(bool ends_idle) {
        struct keeper_config config = {.listen_fd = keeper_listen(path), .ends_idle = ends_idle};

        assert_true(config.listen_fd >= 0);
        keeper = fork();
        if (keeper == 0)
                _exit(keeper_run(&config));
        (void)close(config.listen_fd);
}

static int start(void **state) {
        start_keeper(true);
        return 0;
}

/* Waits for the keeper's end; returns its wait status. */
static int wait_for_end(void) {
        int status = 0;

        assert_int_equal(waitpid(keeper, &status, 0), keeper);
        keeper = 0;
        return status;
}

static int end(void **state) {
        if (keeper > 0) {
                (void)kill(keeper, SIGKILL);
                (void)wait_for_end();
        }
        return 0;
}

static int make_folder(void **state) {
        if (!mkdtemp(folder))
                return -1;
        (void)text_format(path, sizeof(path), "%s/keeper", folder);
        return 0;
}

static int remove_folder(void **state) {
        (void)unlink(path);
        return rmdir(folder);
}

static int connect_only(void) {
        int fd = keeper_call(path);

        assert_true(fd >= 0);
        return fd;
}

static bool is_readable(int fd, int timeout_msec) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};

        return poll(&readable, 1, timeout_msec) == 1;
}

/* Receives a message, which must be of this kind. Returns its descriptor, or -1. */
static int expect(int fd, enum keeper_kind kind, struct keeper_message *ret_message) {
        int received = -1;

        assert_true(is_readable(fd, LIMIT_MSEC));
        assert_int_equal(keeper_receive(fd, ret_message, &received), 0);
        assert_int_equal(ret_message->kind, kind);
        return received;
}

/* Connects and receives the greeting. */
static int visit(void) {
        struct keeper_message message;
        int fd = connect_only();

        assert_int_equal(expect(fd, KEEPER_HELLO, &message), -1);
        assert_int_equal(message.value, KEEPER_VERSION);
        return fd;
}

/* Connects as a daemon that starts; the keeper has no descriptors for it. */
static int begin(void) {
        struct keeper_message message;
        int fd = visit();

        assert_int_equal(keeper_send(fd, KEEPER_TAKE, 0, NULL, -1), 0);
        assert_int_equal(expect(fd, KEEPER_END, &message), -1);
        return fd;
}

/* Gives the keeper the write end of a pipe under this name; returns the read end. */
static int give(int daemon_fd, const char *as) {
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(keeper_send(daemon_fd, KEEPER_KEEP, 0, as, ends[1]), 0);
        (void)close(ends[1]);
        return ends[0];
}

/* ---- what the keeper does ---- */

static void only_its_user_may_connect_to_the_keepers_socket(void **state) {
        struct stat status;

        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
}

static void the_next_daemon_gets_a_copy_of_what_the_last_one_left(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        struct keeper_message message;
        int received;

        daemon = fd_close(daemon); /* as if it was killed */
        daemon = visit();
        assert_int_equal(keeper_send(daemon, KEEPER_TAKE, 0, NULL, -1), 0);
        received = expect(daemon, KEEPER_HAVE, &message);
        assert_string_equal(message.name, name);
        assert_true(received >= 0);
        assert_int_equal(expect(daemon, KEEPER_END, &message), -1);
        (void)close(received);
        assert_false(is_readable(kept, 50)); /* the keeper still has its copy */
}

static void the_keeper_confirms_a_drop_after_it_closed_its_copy(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        struct keeper_message message;

        assert_false(is_readable(kept, 50));
        assert_int_equal(keeper_send(daemon, KEEPER_DROP, 0, name, -1), 0);
        assert_int_equal(expect(daemon, KEEPER_DROPPED, &message), -1);
        assert_string_equal(message.name, name);
        assert_true(is_readable(kept, 0)); /* end of file */
}

static void the_keeper_confirms_the_drop_of_an_unknown_name(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        struct keeper_message message;

        assert_int_equal(keeper_send(daemon, KEEPER_DROP, 0, "gpu-0000.00.00.0", -1), 0);
        assert_int_equal(expect(daemon, KEEPER_DROPPED, &message), -1);
}

static void a_second_descriptor_of_a_name_replaces_the_first(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int first = give(daemon, name);
        CLEANUP(fd_done) int second = give(daemon, name);

        assert_true(is_readable(first, LIMIT_MSEC));
        assert_false(is_readable(second, 50));
}

static void a_reset_closes_everything(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        CLEANUP(fd_done) int next = visit();

        assert_int_equal(keeper_send(next, KEEPER_RESET, 0, NULL, -1), 0);
        assert_true(is_readable(kept, LIMIT_MSEC));
}

/* A dying daemon stays connected while one of its threads is stuck in the driver. */
static void a_new_daemon_replaces_one_that_is_still_connected(void **state) {
        CLEANUP(fd_done) int old = begin();
        CLEANUP(fd_done) int kept = give(old, name);
        CLEANUP(fd_done) int next = visit();
        struct keeper_message message;
        int received = -1;

        assert_int_equal(keeper_send(next, KEEPER_TAKE, 0, NULL, -1), 0);
        (void)close(expect(next, KEEPER_HAVE, &message));
        assert_true(is_readable(old, LIMIT_MSEC));
        assert_int_equal(keeper_receive(old, &message, &received), -ENOTCONN);
        assert_false(is_readable(kept, 50));
}

static void an_invalid_client_is_disconnected_and_does_not_replace_the_daemon(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        CLEANUP(fd_done) int visitor = visit();
        struct keeper_message message;

        assert_int_equal(send(visitor, "hello", 5, 0), 5);
        assert_true(is_readable(visitor, LIMIT_MSEC)); /* disconnected */
        assert_int_equal(keeper_send(daemon, KEEPER_DROP, 0, name, -1), 0);
        assert_int_equal(expect(daemon, KEEPER_DROPPED, &message), -1);
        assert_true(is_readable(kept, 0));
}

static void without_a_daemon_the_keeper_closes_everything_after_the_time_set_by_the_last_one(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);

        assert_int_equal(keeper_send(daemon, KEEPER_WAIT, 1, NULL, -1), 0);
        daemon = fd_close(daemon);
        assert_false(is_readable(kept, 500));
        assert_true(is_readable(kept, LIMIT_MSEC));
        assert_int_equal(wait_for_end(), 0); /* it has nothing to keep */
}

static void a_signal_closes_everything_and_ends_the_keeper(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        struct keeper_message message;

        assert_int_equal(keeper_send(daemon, KEEPER_DROP, 0, "another", -1), 0);
        (void)expect(daemon, KEEPER_DROPPED, &message); /* so it has received the pipe as well */
        assert_int_equal(kill(keeper, SIGTERM), 0);
        assert_true(is_readable(kept, LIMIT_MSEC));
        assert_int_equal(wait_for_end(), 0);
}

static void a_keeper_without_descriptors_ends_with_its_daemon(void **state) {
        CLEANUP(fd_done) int daemon = begin();

        daemon = fd_close(daemon);
        assert_int_equal(wait_for_end(), 0);
}

static void a_keeper_that_was_told_to_stay_outlives_its_daemon(void **state) {
        CLEANUP(fd_done) int daemon = -1;

        (void)end(state);
        start_keeper(false);
        daemon = begin();
        daemon = fd_close(daemon);
        daemon = begin();
        assert_true(daemon >= 0);
}

static void invalid_messages_do_no_harm(void **state) {
        CLEANUP(fd_done) int daemon = begin();
        CLEANUP(fd_done) int kept = give(daemon, name);
        struct keeper_message message;
        char bytes[200];

        memset(bytes, 0xff, sizeof(bytes));
        for (size_t size = 1; size <= sizeof(bytes); size += 7)
                assert_true(send(daemon, bytes, size, 0) > 0);
        assert_int_equal(keeper_send(daemon, KEEPER_DROP, 0, name, -1), 0);
        assert_int_equal(expect(daemon, KEEPER_DROPPED, &message), -1);
        assert_true(is_readable(kept, 0));
}

/* ---- the daemon's side ---- */

/* Gives the keeper the write end of a pipe through the link, and closes its own copy. Returns the read end. */
static int leave(struct keeper_link *link) {
        struct gpu_keeper *backends = keeper_link_keeper(link);
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        backends->keep(backends, &address, GPU_KIND_DEVICE, ends[1]);
        (void)close(ends[1]);
        return ends[0];
}

/* While the process ends, a thread may return from the driver with an open GPU. Nobody would close it in the keeper. */
static void after_drop_all_the_keeper_is_given_nothing_more(void **state) {
        CLEANUP(fd_done) int before = -1, after = -1;
        const struct locations locations = locations_of(folder, false);
        const struct keeper_link_config config = {
                .loop = event_base_new(),
                .locations = &locations,
                .directory = folder,
                .wait_sec = 3600,
        };
        struct keeper_link *link;

        assert_int_equal(keeper_link_new(&link), 0);
        keeper_link_start(link, &config);
        assert_true(keeper_link_is_up(link));
        before = leave(link);
        assert_false(is_readable(before, 0));
        keeper_link_drop_all(link);
        assert_true(is_readable(
                before,
                0)); /* drop_all waits for the keeper's close, which would block in the driver if it was the last */
        after = leave(link);
        assert_true(is_readable(after, LIMIT_MSEC));
        keeper_link_free(link);
        event_base_free(config.loop);
}

#define with_keeper(test) cmocka_unit_test_setup_teardown(test, start, end)

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_name_is_read_back_as_written),
                cmocka_unit_test(other_names_are_refused),
                cmocka_unit_test(a_damaged_name_is_refused_or_names_another_gpu),
                with_keeper(only_its_user_may_connect_to_the_keepers_socket),
                with_keeper(the_next_daemon_gets_a_copy_of_what_the_last_one_left),
                with_keeper(the_keeper_confirms_a_drop_after_it_closed_its_copy),
                with_keeper(the_keeper_confirms_the_drop_of_an_unknown_name),
                with_keeper(a_second_descriptor_of_a_name_replaces_the_first),
                with_keeper(a_reset_closes_everything),
                with_keeper(a_new_daemon_replaces_one_that_is_still_connected),
                with_keeper(an_invalid_client_is_disconnected_and_does_not_replace_the_daemon),
                with_keeper(without_a_daemon_the_keeper_closes_everything_after_the_time_set_by_the_last_one),
                with_keeper(a_signal_closes_everything_and_ends_the_keeper),
                with_keeper(a_keeper_without_descriptors_ends_with_its_daemon),
                with_keeper(a_keeper_that_was_told_to_stay_outlives_its_daemon),
                with_keeper(invalid_messages_do_no_harm),
                with_keeper(after_drop_all_the_keeper_is_given_nothing_more),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
