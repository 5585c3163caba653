/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Device nodes, in a temporary folder. Most tests only record which nodes would be made; one makes them, if it may. */

#include "gpu/nodes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/locations.h"
#include "tests/unit/tree.h"

#define PARAMS                                                                                                         \
        "ResmanDebugLevel: 4294967295\n"                                                                               \
        "ModifyDeviceFiles: 1\n"                                                                                       \
        "DeviceFileUID: 12\n"                                                                                          \
        "DeviceFileGID: 34\n"                                                                                          \
        "DeviceFileMode: 432\n" /* 0660 */                                                                             \
        "RegistryDwords: \"a: 1\"\n"

#define DEVICES                                                                                                        \
        "Character devices:\n"                                                                                         \
        "  1 mem\n"                                                                                                    \
        "195 nvidia\n"                                                                                                 \
        "195 nvidiactl\n"                                                                                              \
        "510 nvidia-uvm-tools\n"                                                                                       \
        "511 nvidia-uvm\n"                                                                                             \
        "\n"                                                                                                           \
        "Block devices:\n"                                                                                             \
        "259 blkext\n"

/* ---- operations that only record how they were called ---- */

static struct {
        const struct tree *tree;
        char journal[1024];
        bool modprobe_makes; /* nvidia-modprobe makes nodes; otherwise it fails */
        int make_result;
} seen;

static void note(const char *text) {
        (void)strncat(seen.journal, text, sizeof(seen.journal) - strlen(seen.journal) - 1);
}

static int fake_run(const char *const arguments[]) {
        static const char *const made[][2] = {
                {"255", "/dev/nvidiactl"},
                {"0", "/dev/nvidia-uvm"},
                {"3", "/dev/nvidia3"},
                {"7", "/dev/nvidia7"},
        };
        const char *last = NULL;

        assert_string_equal(arguments[0], "/usr/bin/nvidia-modprobe");
        note("modprobe");
        for (size_t i = 1; arguments[i]; i++) {
                last = arguments[i];
                note(" ");
                note(last);
        }
        note("\n");
        for (size_t i = 0; i < 4 && seen.modprobe_makes; i++)
                if (strcmp(last, made[i][0]) == 0)
                        tree_put(seen.tree, made[i][1], "");
        return seen.modprobe_makes ? 0 : -EIO;
}

static int fake_make(const struct locations *locations, const struct node *node,
                     const struct node_parameters *parameters) {
        char line[128];

        assert_ptr_equal(locations, &seen.tree->locations);
        (void)snprintf(line, sizeof(line), "%s %u:%u %u:%u %o\n", node->path, node->major, node->minor,
                       (unsigned)parameters->uid, (unsigned)parameters->gid, (unsigned)parameters->mode);
        note(line);
        return seen.make_result;
}

static const struct node_ops fake_ops = {.run = fake_run, .make = fake_make};

/* ---- the tests ---- */

static int setup(void **state) {
        int r = tree_setup(state);

        memset(&seen, 0, sizeof(seen));
        seen.tree = *state;
        tree_put(seen.tree, "/proc/driver/nvidia/params", PARAMS);
        tree_put(seen.tree, "/proc/driver/nvidia/gpus/0000:17:00.0/information", "Device Minor: \t 3\n");
        tree_put(seen.tree, "/proc/driver/nvidia/gpus/0000:3b:00.0/information", "Device Minor: \t 7\n");
        tree_put(seen.tree, "/proc/devices", DEVICES);
        tree_put(seen.tree, "/dev", NULL);
        return r;
}

static int make(void) {
        return nodes_make_with(&seen.tree->locations, NULL, &fake_ops);
}

static void give_modprobe(void) {
        tree_put(seen.tree, "/usr/bin/nvidia-modprobe", "");
        assert_int_equal(chmod(tree_path(seen.tree, "/usr/bin/nvidia-modprobe"), 0755), 0);
}

static void missing_nodes_are_made_with_the_modules_numbers_owner_and_mode(void **state) {
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "/dev/nvidiactl 195:255 12:34 660\n"
                                          "/dev/nvidia3 195:3 12:34 660\n"
                                          "/dev/nvidia7 195:7 12:34 660\n"
                                          "/dev/nvidia-uvm 511:0 12:34 660\n");
}

/* Makes the GPU's information unreadable, so reading it fails. */
static void hide_information(const char *address) {
        char path[128];

        (void)snprintf(path, sizeof(path), "/proc/driver/nvidia/gpus/%s/information", address);
        assert_int_equal(unlink(tree_path(seen.tree, path)), 0);
        assert_int_equal(mkdir(tree_path(seen.tree, path), 0755), 0);
}

static void making_the_nodes_of_one_gpu_reads_no_other(void **state) {
        struct node_selection selection = {.kind = NODES_OF_GPU};

        assert_int_equal(pci_address_parse("0000:3b:00.0", &selection.gpu), 0);
        hide_information("0000:17:00.0");
        assert_int_equal(nodes_make_with(&seen.tree->locations, &selection, &fake_ops), 0);
        assert_string_equal(seen.journal, "/dev/nvidiactl 195:255 12:34 660\n"
                                          "/dev/nvidia7 195:7 12:34 660\n");
        assert_int_equal(pci_address_parse("0000:17:00.0", &selection.gpu), 0);
        assert_int_equal(nodes_make_with(&seen.tree->locations, &selection, &fake_ops), -EISDIR);
}

static void no_node_is_made_for_a_gpu_that_is_not_listed(void **state) {
        struct node_selection selection = {.kind = NODES_OF_GPU};

        assert_int_equal(pci_address_parse("0000:99:00.0", &selection.gpu), 0);
        tree_put(seen.tree, "/dev/nvidiactl", "");
        assert_int_equal(nodes_make_with(&seen.tree->locations, &selection, &fake_ops), 0);
        assert_string_equal(seen.journal, "");
}

static void making_the_uvm_node_reads_no_gpu(void **state) {
        const struct node_selection selection = {.kind = NODES_OF_UVM};

        hide_information("0000:17:00.0");
        hide_information("0000:3b:00.0");
        assert_int_equal(nodes_make_with(&seen.tree->locations, &selection, &fake_ops), 0);
        assert_string_equal(seen.journal, "/dev/nvidia-uvm 511:0 12:34 660\n");
}

static void existing_files_and_links_are_left_alone(void **state) {
        char target[512];

        tree_put(seen.tree, "/dev/nvidiactl", "");
        tree_put(seen.tree, "/dev/nvidia-uvm", NULL);
        (void)snprintf(target, sizeof(target), "%s", tree_path(seen.tree, "/etc/nowhere"));
        assert_int_equal(symlink(target, tree_path(seen.tree, "/dev/nvidia7")), 0);
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "/dev/nvidia3 195:3 12:34 660\n");
}

static void nvidia_modprobe_makes_the_nodes_if_it_is_installed(void **state) {
        give_modprobe();
        seen.modprobe_makes = true;
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "modprobe -c 255\nmodprobe -c 3\nmodprobe -c 7\nmodprobe -u -c 0\n");
}

static void a_failing_nvidia_modprobe_is_run_only_once(void **state) {
        give_modprobe();
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "modprobe -c 255\n"
                                          "/dev/nvidiactl 195:255 12:34 660\n"
                                          "/dev/nvidia3 195:3 12:34 660\n"
                                          "/dev/nvidia7 195:7 12:34 660\n"
                                          "/dev/nvidia-uvm 511:0 12:34 660\n");
}

static void no_node_is_made_if_the_administrator_makes_them(void **state) {
        tree_put(seen.tree, "/proc/driver/nvidia/params", "ModifyDeviceFiles: 0\n");
        give_modprobe();
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "");
}

static void without_a_driver_no_node_is_made(void **state) {
        assert_int_equal(unlink(tree_path(seen.tree, "/proc/driver/nvidia/params")), 0);
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "");
}

static void no_node_is_made_for_a_missing_uvm_module_or_an_unknown_minor(void **state) {
        tree_put(seen.tree, "/proc/devices", "Character devices:\n195 nvidia\n\nBlock devices:\n511 nvidia-uvm\n");
        tree_put(seen.tree, "/proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: \t x\n");
        assert_int_equal(make(), 0);
        assert_string_equal(seen.journal, "/dev/nvidiactl 195:255 12:34 660\n/dev/nvidia3 195:3 12:34 660\n");
}

static void after_one_failure_the_other_nodes_are_still_made(void **state) {
        seen.make_result = -EPERM;
        assert_int_equal(make(), -EPERM);
        assert_non_null(strstr(seen.journal, "/dev/nvidia-uvm"));
}

static void for_a_simulated_driver_no_node_is_made(void **state) {
        assert_int_equal(nodes_make(&seen.tree->locations, NULL), 0);
        assert_null(tree_get(seen.tree, "/dev/nvidiactl"));
}

static void assert_node(const char *path, unsigned major, unsigned minor) {
        struct stat status;

        assert_int_equal(lstat(tree_path(seen.tree, path), &status), 0);
        assert_true(S_ISCHR(status.st_mode));
        assert_int_equal(status.st_mode & 07777, 0660);
        assert_int_equal(status.st_rdev, makedev(major, minor));
        assert_int_equal(status.st_uid, 12);
        assert_int_equal(status.st_gid, 34);
}

static void nodes_have_their_mode_whatever_the_umask(void **state) {
        mode_t mask;

        if (mknod(tree_path(seen.tree, "/dev/null"), S_IFCHR | 0600, makedev(1, 3)) < 0) {
                print_message("CAP_MKNOD is missing: mknod() of a device is not permitted here\n");
                skip();
        }
        mask = umask(077);
        assert_int_equal(nodes_make_with(&seen.tree->locations, NULL, &node_system_ops), 0);
        assert_int_equal(umask(mask), 077); /* restored */
        assert_node("/dev/nvidiactl", 195, 255);
        assert_node("/dev/nvidia7", 195, 7);
        assert_node("/dev/nvidia-uvm", 511, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, tree_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(missing_nodes_are_made_with_the_modules_numbers_owner_and_mode),
                TEST(making_the_nodes_of_one_gpu_reads_no_other),
                TEST(no_node_is_made_for_a_gpu_that_is_not_listed),
                TEST(making_the_uvm_node_reads_no_gpu),
                TEST(existing_files_and_links_are_left_alone),
                TEST(nvidia_modprobe_makes_the_nodes_if_it_is_installed),
                TEST(a_failing_nvidia_modprobe_is_run_only_once),
                TEST(no_node_is_made_if_the_administrator_makes_them),
                TEST(without_a_driver_no_node_is_made),
                TEST(no_node_is_made_for_a_missing_uvm_module_or_an_unknown_minor),
                TEST(after_one_failure_the_other_nodes_are_still_made),
                TEST(for_a_simulated_driver_no_node_is_made),
                TEST(nodes_have_their_mode_whatever_the_umask),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
