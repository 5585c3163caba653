/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Unbinds in the kernel log: which records are taken for the driver's line, and when the log is read. */

#include "daemon/gpus/kernel_messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "tests/unit/tree.h"

#define WAITS(address) "NVRM: Attempting to remove device " address " with non-zero usage count!"

/* Parses a copy of exactly this size, so the address sanitizer detects a read beyond it. */
static bool parse(const char *record, struct pci_address *ret_address) {
        size_t size = strlen(record);
        CLEANUP(free_ptr) char *copy = malloc(size > 0 ? size : 1);

        assert_non_null(copy);
        memcpy(copy, record, size);
        return kernel_messages_parse(copy, size, ret_address);
}

static void the_drivers_line_about_an_unbind_is_recognised(void **state) {
        static const char *const records[] = {
                "3,1234,98765432,-;" WAITS("0000:17:00.0") "\n",
                "0,1,2,-;" WAITS("0000:17:00.0"),
                "7,1,2,c;" WAITS("0000:17:00.0") "\n",
                "4,1,2,-,caller=T99;" WAITS("0000:17:00.0") "\n",
        };
        struct pci_address address;

        for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
                memset(&address, 0xff, sizeof(address));
                assert_true(parse(records[i], &address));
                assert_int_equal(pci_address_compare(&address, &(struct pci_address){0, 0x17, 0, 0}), 0);
        }
        assert_true(parse("3,1,2,-;" WAITS("10000:e1:1f.7"), &address));
        assert_int_equal(pci_address_compare(&address, &(struct pci_address){0x10000, 0xe1, 0x1f, 7}), 0);
}

static void other_lines_of_the_kernel_log_are_not_taken_for_an_unbind(void **state) {
        static const char *const records[] = {
                "",
                ";",
                WAITS("0000:17:00.0"),
                "8,1,2,-;" WAITS("0000:17:00.0"),  /* facility 1: user space, which may write anything */
                "12,1,2,-;" WAITS("0000:17:00.0"), /* likewise */
                "03,1,2,-;" WAITS("0000:17:00.0"),
                "-3,1,2,-;" WAITS("0000:17:00.0"),
                "3;" WAITS("0000:17:00.0"),
                "3,1,2,-; " WAITS("0000:17:00.0"),
                "3,1,2,-;x " WAITS("0000:17:00.0"),
                "3,1,2,-;" WAITS("0000:17:00.0") " ",
                "3,1,2,-;" WAITS("0000:17:00.0") "\n\n",
                "3,1,2,-;" WAITS("0000:17:00.0") "\n SUBSYSTEM=pci\n",
                "3,1,2,-;" WAITS("17:00.0"),
                "3,1,2,-;" WAITS("0000:17:00"),
                "3,1,2,-;" WAITS("0000:17:00.0 0000:18:00.0"),
                "3,1,2,-;" WAITS(""),
                "3,1,2,-;" WAITS("00000000000000000000000000000000000017:00.0"),
                "3,1,2,-;NVRM: Attempting to remove device 0000:17:00.0",
                "3,1,2,-;NVRM: Continuing with GPU removal for device 0000:17:00.0",
        };
        struct pci_address address;

        for (size_t i = 0; i < ARRAY_SIZE(records); i++)
                if (parse(records[i], &address))
                        fail_msg("taken for an unbind: %s", records[i]);
        assert_false(kernel_messages_parse("3,1,2,-;NVRM\0", 13, &address));
}

/* ---- reading the log, a FIFO as with a simulated driver ---- */

struct log {
        struct tree *tree;
        struct event_base *loop;
        struct kernel_messages *messages;
        int write_fd;
        unsigned n_unbinds;
        struct pci_address last;
};

static void on_unbind(const struct pci_address *address, void *userdata) {
        struct log *log = userdata;

        log->n_unbinds++;
        log->last = *address;
}

static void say(struct log *log, const char *text) {
        assert_int_equal(write(log->write_fd, text, strlen(text)), strlen(text));
}

static void open_log(struct log *log, struct tree *tree) {
        const struct kernel_messages_callbacks callbacks = {.on_unbind = on_unbind, .userdata = log};
        const char *path;

        *log = (struct log){.tree = tree};
        tree_put(tree, "/dev", NULL);
        path = tree_path(tree, "/dev/kmsg");
        assert_int_equal(mkfifo(path, 0600), 0);
        log->write_fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(log->write_fd >= 0);
        log->loop = event_base_new();
        assert_int_equal(
                kernel_messages_new(&log->messages, log->loop, kernel_messages_open(&tree->locations), &callbacks), 0);
}

static void close_log(struct log *log) {
        kernel_messages_free(log->messages);
        event_base_free(log->loop);
        (void)fd_close(log->write_fd);
}

static void turn(struct log *log) {
        assert_true(event_base_loop(log->loop, EVLOOP_NONBLOCK) >= 0);
}

static void unbinds_are_reported_only_while_they_are_wanted(void **state) {
        struct log log;

        open_log(&log, *state);
        say(&log, "3,1,2,-;" WAITS("0000:01:00.0") "\n");
        turn(&log);
        kernel_messages_want(log.messages, true); /* skips earlier lines */
        turn(&log);
        assert_int_equal(log.n_unbinds, 0);
        say(&log, "6,2,3,-;usb 1-1: new device\n3,3,3,-;" WAITS("0000:02:00.0") "\n SUBSYSTEM=pci\n");
        say(&log, "3,4,3,-;" WAITS("0000:03:00.0") "\n");
        turn(&log);
        assert_int_equal(log.n_unbinds, 2);
        assert_int_equal(log.last.bus, 3);
        kernel_messages_want(log.messages, false);
        say(&log, "3,5,3,-;" WAITS("0000:04:00.0") "\n");
        turn(&log);
        assert_int_equal(log.n_unbinds, 2);
        close_log(&log);
}

static void a_log_that_has_ended_is_not_read_again(void **state) {
        struct log log;

        open_log(&log, *state);
        kernel_messages_want(log.messages, true);
        assert_int_equal(event_base_loop(log.loop, EVLOOP_NONBLOCK), 0); /* 0: an event is still registered */
        (void)fd_close(log.write_fd);
        log.write_fd = -1;
        turn(&log);
        assert_int_equal(event_base_loop(log.loop, EVLOOP_NONBLOCK), 1); /* 1: no event is registered */
        close_log(&log);
}

static void other_files_are_not_taken_for_the_kernel_log(void **state) {
        CLEANUP(fd_done) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_false(kernel_messages_is_log(fd));
        assert_false(kernel_messages_is_log(-1));
        assert_true(kernel_messages_open(&((struct tree *)*state)->locations) < 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_drivers_line_about_an_unbind_is_recognised),
                cmocka_unit_test(other_lines_of_the_kernel_log_are_not_taken_for_an_unbind),
                cmocka_unit_test_setup_teardown(unbinds_are_reported_only_while_they_are_wanted, tree_setup,
                                                tree_teardown),
                cmocka_unit_test_setup_teardown(a_log_that_has_ended_is_not_read_again, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(other_files_are_not_taken_for_the_kernel_log, tree_setup,
                                                tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
