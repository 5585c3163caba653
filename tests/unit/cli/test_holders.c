/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which processes have a node open. Nodes are ordinary files below a temporary root; this process opens them. */

#include "cli/node/holders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

static char root[64];
static const struct locations locations = {.root = root};

static int open_node(const char *name) {
        char path[128];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/dev/%s", root, name);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        return fd;
}

static int make_root(void **state) {
        char path[128];

        (void)snprintf(root, sizeof(root), "/tmp/holdfast-holders-XXXXXX");
        assert_non_null(mkdtemp(root));
        (void)snprintf(path, sizeof(path), "%s/dev", root);
        return mkdir(path, 0755);
}

static int drop(const char *path, const struct stat *status, int type, struct FTW *walk) {
        return remove(path);
}

static int scan_below(const char *other, struct holder **ret_holders, size_t *ret_n, struct holders_sight *ret_sight) {
        const struct locations there = locations_of(other, false);

        return holders_scan(&there, ret_holders, ret_n, ret_sight);
}

static int drop_root(void **state) {
        return nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static void assert_holders(size_t n, const int *minors, const unsigned *descriptors) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t found;
        struct holders_sight sight;

        assert_int_equal(holders_scan(&locations, &holders, &found, &sight), 0);
        assert_int_equal(found, n);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(holders[i].minor, minors[i]);
                assert_int_equal(holders[i].pid, getpid());
                assert_int_equal(holders[i].n_descriptors, descriptors[i]);
        }
}

static bool first_is_keeper(void) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t found;
        struct holders_sight sight;

        assert_int_equal(holders_scan(&locations, &holders, &found, &sight), 0);
        assert_int_equal(found, 1);
        return holders[0].is_keeper;
}

static void a_keeper_is_recognised_by_its_name_and_descriptors(void **state) {
        CLEANUP(fd_done) int node = open_node("nvidia0");
        CLEANUP(fd_done) int signals = -1, loop = -1;
        char before[16];
        sigset_t none;

        (void)sigemptyset(&none);
        (void)prctl(PR_GET_NAME, before);
        signals = signalfd(-1, &none, SFD_CLOEXEC);
        assert_false(first_is_keeper()); /* another program with a signalfd */
        (void)prctl(PR_SET_NAME, "nvidia-persistenced");
        assert_true(first_is_keeper());
        loop = epoll_create1(EPOLL_CLOEXEC);
        assert_false(first_is_keeper()); /* a daemon has an epoll descriptor */
        signals = fd_close(signals);
        loop = fd_close(loop);
        assert_false(first_is_keeper()); /* NVIDIA's daemon has no signalfd */
        node = fd_close(node);
        (void)prctl(PR_SET_NAME, before);
}

static void a_process_is_listed_once_for_each_gpu_in_the_order_of_minors(void **state) {
        CLEANUP(fd_done) int third = open_node("nvidia10");
        CLEANUP(fd_done) int first = open_node("nvidia0");
        CLEANUP(fd_done) int again = open_node("nvidia0");

        assert_holders(2, (const int[]){0, 10}, (const unsigned[]){2, 1});
        third = fd_close(third);
        first = fd_close(first);
        assert_holders(1, (const int[]){0}, (const unsigned[]){1});
        again = fd_close(again);
        assert_holders(0, NULL, NULL);
}

static void only_nodes_of_gpus_count(void **state) {
        static const char *const names[] = {
                "nvidia", "nvidia-uvm", "nvidia0x", "nvidia255", "nvidiactl", "xnvidia0", "nvidia99999999999999999999",
        };
        int fds[ARRAY_SIZE(names)];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                fds[i] = open_node(names[i]);
        assert_holders(0, NULL, NULL);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                (void)fd_close(fds[i]);
}

/* The scan tries descriptors by number, and must not stop at an unused one. */
static void descriptors_behind_unused_numbers_count(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia0");
        CLEANUP(fd_done) int other = open_node("nvidia1");
        static const int numbers[] = {20, 22, 23, 64, 130, 1000};

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                assert_int_equal(dup3(fd, numbers[i], O_CLOEXEC), numbers[i]);
        assert_int_equal(dup3(other, 1001, O_CLOEXEC), 1001);
        assert_holders(2, (const int[]){0, 1}, (const unsigned[]){1 + ARRAY_SIZE(numbers), 2});
        (void)close(STDIN_FILENO); /* even 0 may be unused */
        fd = fd_close(fd);
        assert_holders(2, (const int[]){0, 1}, (const unsigned[]){ARRAY_SIZE(numbers), 2});
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                (void)close(numbers[i]);
        (void)close(1001);
}

static void nodes_below_another_root_do_not_count(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia0");
        CLEANUP(free_ptr) struct holder *holders = NULL;
        char other[] = "/tmp/holdfast-holders-XXXXXX", path[64], node[80];
        size_t n = 1;
        struct holders_sight sight;

        assert_true(fd >= 0);
        assert_non_null(mkdtemp(other));
        (void)snprintf(path, sizeof(path), "%s/dev", other);
        assert_int_equal(mkdir(path, 0755), 0);
        (void)snprintf(node, sizeof(node), "%s/nvidia0", path);
        assert_int_equal(close(creat(node, 0600)), 0);
        assert_int_equal(scan_below(other, &holders, &n, &sight), 0);
        assert_int_equal(n, 0);
        assert_int_equal(unlink(node), 0);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(rmdir(other), 0);
}

/* As in a container, which sees the node through a mount. */
static void a_node_opened_by_another_path_counts(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia5"), elsewhere = -1;
        char node[80], link[80];

        (void)snprintf(node, sizeof(node), "%s/dev/nvidia5", root);
        (void)snprintf(link, sizeof(link), "%s/nvidia7", root);
        assert_int_equal(linkat(AT_FDCWD, node, AT_FDCWD, link, 0), 0);
        elsewhere = open(link, O_RDWR | O_CLOEXEC);
        assert_true(elsewhere >= 0);
        fd = fd_close(fd);
        assert_holders(1, (const int[]){5}, (const unsigned[]){1});
}

static void the_root_may_be_a_symbolic_link(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia3");
        CLEANUP(free_ptr) struct holder *holders = NULL;
        char link[80];
        size_t n;
        struct holders_sight sight;

        assert_true(fd >= 0);
        (void)snprintf(link, sizeof(link), "%s-link", root);
        assert_int_equal(symlink(root, link), 0);
        assert_int_equal(scan_below(link, &holders, &n, &sight), 0);
        assert_int_equal(n, 1);
        assert_int_equal(holders[0].minor, 3);
        assert_int_equal(unlink(link), 0);
}

static void at_the_real_root_an_ordinary_file_with_a_nodes_name_does_not_count(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia0");
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t n;
        struct holders_sight sight;

        assert_true(fd >= 0);
        assert_int_equal(scan_below("", &holders, &n, &sight), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_not_equal(holders[i].pid, getpid());
}

static void control_characters_in_a_process_name_are_replaced(void **state) {
        CLEANUP(fd_done) int fd = open_node("nvidia0");
        CLEANUP(free_ptr) struct holder *holders = NULL;
        char before[16];
        size_t n;
        struct holders_sight sight;

        assert_true(fd >= 0);
        assert_int_equal(prctl(PR_GET_NAME, before), 0);
        assert_int_equal(prctl(PR_SET_NAME, "\033[2J\nx"), 0);
        assert_int_equal(holders_scan(&locations, &holders, &n, &sight), 0);
        assert_int_equal(prctl(PR_SET_NAME, before), 0);
        assert_int_equal(n, 1);
        assert_string_equal(holders[0].name, "?[2J?x");
}

static void without_nodes_there_are_no_holders(void **state) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t n = 1;
        struct holders_sight sight = {0};

        assert_int_equal(scan_below("/nonexistent", &holders, &n, &sight), 0);
        assert_int_equal(n, 0);
        assert_true(sight.complete);
}

#define ROOT_TEST(function) cmocka_unit_test_setup_teardown(function, make_root, drop_root)

int main(void) {
        const struct CMUnitTest tests[] = {
                ROOT_TEST(control_characters_in_a_process_name_are_replaced),
                ROOT_TEST(the_root_may_be_a_symbolic_link),
                ROOT_TEST(a_node_opened_by_another_path_counts),
                ROOT_TEST(nodes_below_another_root_do_not_count),
                ROOT_TEST(at_the_real_root_an_ordinary_file_with_a_nodes_name_does_not_count),
                ROOT_TEST(descriptors_behind_unused_numbers_count),
                ROOT_TEST(a_process_is_listed_once_for_each_gpu_in_the_order_of_minors),
                ROOT_TEST(a_keeper_is_recognised_by_its_name_and_descriptors),
                cmocka_unit_test(without_nodes_there_are_no_holders),
                ROOT_TEST(only_nodes_of_gpus_count),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
