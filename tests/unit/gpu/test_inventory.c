/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reading the driver's list of GPUs, from a temporary folder laid out as /proc/driver/nvidia. */

#include "gpu/inventory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/unit/tree.h"

/* As the driver prints it, white space included. */
#define INFORMATION                                                                                                    \
        "Model: \t\t NVIDIA H100 80GB HBM3\n"                                                                          \
        "IRQ:   \t\t 311\n"                                                                                            \
        "GPU UUID: \t GPU-6a3c1f6e-0d5b-4c3f-9f7b-2f1f6f6a0001\n"                                                      \
        "Video BIOS: \t 96.00.9f.00.01\n"                                                                              \
        "Bus Type: \t PCIe\n"                                                                                          \
        "DMA Size: \t 52 bits\n"                                                                                       \
        "DMA Mask: \t 0xfffffffffffff\n"                                                                               \
        "Bus Location: \t 0000:17:00.0\n"                                                                              \
        "Device Minor: \t 3\n"                                                                                         \
        "GPU Firmware: \t 595.45.04\n"                                                                                 \
        "GPU Excluded:\t No\n"

static void put_gpu(const struct tree *tree, const char *address, const char *text) {
        char path[256];

        (void)snprintf(path, sizeof(path), "/proc/driver/nvidia/gpus/%s/information", address);
        tree_put(tree, path, text);
}

static void all_fields_of_a_gpu_are_read(void **state) {
        const struct tree *tree = *state;
        const struct pci_address address = {0, 0x17, 0, 0};
        struct gpu_info info;

        put_gpu(tree, "0000:17:00.0", INFORMATION);
        assert_int_equal(inventory_read_gpu(&tree->locations, &address, &info), 0);
        assert_int_equal(pci_address_compare(&info.address, &address), 0);
        assert_int_equal(info.minor, 3);
        assert_string_equal(info.uuid, "GPU-6a3c1f6e-0d5b-4c3f-9f7b-2f1f6f6a0001");
        assert_string_equal(info.model, "NVIDIA H100 80GB HBM3");
        assert_string_equal(info.video_bios, "96.00.9f.00.01");
        assert_false(info.excluded);
}

static void missing_and_broken_lines_leave_fields_unknown(void **state) {
        static const char *const texts[] = {
                "",
                "\n\n\n",
                "no colon here\n: \n:::\n",
                "Device Minor: \t -1\nGPU UUID: \t \n",
                "Device Minor: \t 99999999999999999999\n",
                "Device Minor: \t 3x\n",
                "Device Minor\n3\n",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct gpu_info info = {.address = {1, 2, 3, 4}, .minor = 7, .uuid = "stale", .excluded = true};
                char text[128];

                (void)snprintf(text, sizeof(text), "%s", texts[i]);
                gpu_info_parse(text, &info);
                assert_int_equal(info.address.slot, 3);
                assert_int_equal(info.minor, GPU_MINOR_UNKNOWN);
                assert_string_equal(info.uuid, "");
                assert_string_equal(info.model, "");
                assert_false(info.excluded);
        }
}

static void a_name_that_is_too_long_is_cut(void **state) {
        struct gpu_info info = {0};
        char text[512] = "Model: ";

        memset(text + strlen(text), 'x', 400);
        gpu_info_parse(text, &info);
        assert_int_equal(strlen(info.model), sizeof(info.model) - 1);
}

static void an_excluded_gpu_is_reported(void **state) {
        struct gpu_info info = {0};
        char text[] = "GPU Excluded:\t Yes\n";

        gpu_info_parse(text, &info);
        assert_true(info.excluded);
}

static void gpus_are_listed_in_the_order_of_their_addresses(void **state) {
        static const char *const made[] = {"0000:ca:00.0", "0000:17:00.0", "10000:01:00.0", "0000:17:00.1"};
        static const char *const expected[] = {"0000:17:00.0", "0000:17:00.1", "0000:ca:00.0", "10000:01:00.0"};
        const struct tree *tree = *state;
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        char buffer[PCI_ADDRESS_SIZE];
        size_t n;

        for (size_t i = 0; i < ARRAY_SIZE(made); i++)
                put_gpu(tree, made[i], INFORMATION);
        tree_put(tree, "/proc/driver/nvidia/gpus/not-an-address/information", INFORMATION);

        assert_int_equal(inventory_read(&tree->locations, &gpus, &n), 0);
        assert_int_equal(n, ARRAY_SIZE(expected));
        for (size_t i = 0; i < n; i++)
                assert_string_equal(pci_address_format(&gpus[i].address, buffer), expected[i]);
}

static void all_of_a_hundred_gpus_are_listed(void **state) {
        const struct tree *tree = *state;
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        size_t n;

        for (unsigned i = 0; i < 100; i++) {
                char name[PCI_ADDRESS_SIZE];
                const struct pci_address address = {0, (uint8_t)(99 - i), 0, 0};

                put_gpu(tree, pci_address_format(&address, name), INFORMATION);
        }
        assert_int_equal(inventory_read(&tree->locations, &gpus, &n), 0);
        assert_int_equal(n, 100);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(gpus[i].address.bus, i);
}

static void a_gpu_without_readable_information_is_listed_with_its_address(void **state) {
        const struct tree *tree = *state;
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        size_t n;

        tree_put(tree, "/proc/driver/nvidia/gpus/0000:17:00.0/power", "Runtime D3 status: ?\n");
        assert_int_equal(inventory_read(&tree->locations, &gpus, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(gpus[0].address.bus, 0x17);
        assert_int_equal(gpus[0].minor, GPU_MINOR_UNKNOWN);
        assert_string_equal(gpus[0].model, "");
}

static void the_numa_status_file_shows_whether_a_gpu_has_numa_memory(void **state) {
        const struct pci_address address = {0, 0x17, 0, 0};
        const struct tree *tree = *state;
        struct gpu_info info;

        put_gpu(tree, "0000:17:00.0", INFORMATION);
        assert_int_equal(inventory_read_gpu(&tree->locations, &address, &info), 0);
        assert_true(info.lacks_numa);
        tree_put(tree, "/proc/driver/nvidia/gpus/0000:17:00.0/numa_status", "");
        assert_int_equal(inventory_read_gpu(&tree->locations, &address, &info), 0);
        assert_false(info.lacks_numa);
}

static void whether_a_driver_is_bound_is_read_from_sysfs(void **state) {
        const struct pci_address address = {0, 0x17, 0, 0};
        const struct tree *tree = *state;

        assert_int_equal(inventory_is_bound(&tree->locations, &address), -ENOENT);
        tree_put(tree, "/sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n");
        assert_int_equal(inventory_is_bound(&tree->locations, &address), 0);
        assert_int_equal(symlink("../../drivers/nvidia", tree_path(tree, "/sys/bus/pci/devices/0000:17:00.0/driver")),
                         0);
        assert_int_equal(inventory_is_bound(&tree->locations, &address), 1);
}

static void addresses_are_listed_without_reading_each_gpus_information(void **state) {
        const struct tree *tree = *state;
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        size_t n;

        put_gpu(tree, "0000:ca:00.0", INFORMATION);
        put_gpu(tree, "0000:17:00.0", INFORMATION);
        assert_int_equal(inventory_read_addresses(&tree->locations, &gpus, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(gpus[0].address.bus, 0x17);
        assert_int_equal(gpus[0].minor, GPU_MINOR_UNKNOWN);
        assert_string_equal(gpus[0].uuid, "");
}

static void a_driver_without_gpus_is_an_empty_list(void **state) {
        const struct tree *tree = *state;
        struct gpu_info *gpus = NULL;
        size_t n = 9;

        tree_put(tree, "/proc/driver/nvidia/version", "");
        assert_int_equal(inventory_read(&tree->locations, &gpus, &n), 0);
        assert_int_equal(n, 0);
        free(gpus);
}

static void no_driver_is_enoent(void **state) {
        const struct tree *tree = *state;
        const struct pci_address address = {0, 0x17, 0, 0};
        struct gpu_info *gpus = NULL, info;
        char version[32];
        size_t n;

        assert_int_equal(inventory_read(&tree->locations, &gpus, &n), -ENOENT);
        assert_null(gpus);
        assert_int_equal(inventory_read_gpu(&tree->locations, &address, &info), -ENODEV);
        assert_int_equal(inventory_driver_version(&tree->locations, version, sizeof(version)), -ENOENT);
}

static void the_version_is_found_with_open_and_closed_kernel_modules(void **state) {
        static const char *const lines[] = {
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build  (root@host)  Tue\n",
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  595.45.04  Mon Jan  1 00:00:00 UTC 2026\n",
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  595.45.04\nGCC version:  12.2.0\n",
        };
        const struct tree *tree = *state;

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                char version[32];

                tree_put(tree, "/proc/driver/nvidia/version", lines[i]);
                assert_int_equal(inventory_driver_version(&tree->locations, version, sizeof(version)), 0);
                assert_string_equal(version, "595.45.04");
        }
}

static void a_version_line_without_a_version_is_refused(void **state) {
        static const char *const lines[] = {
                "",
                "\n595.45.04\n",
                "NVRM version: none 12 .5 5x.1\nGCC version:  gcc version 12.2.0\n",
                "NVRM version: 1234567890.1234567890.1234567890.1234567890\n",
        };
        const struct tree *tree = *state;

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                char version[32];

                tree_put(tree, "/proc/driver/nvidia/version", lines[i]);
                assert_int_equal(inventory_driver_version(&tree->locations, version, sizeof(version)), -EBADMSG);
        }
}

static void driver_versions_are_compared_as_numbers(void **state) {
        static const struct {
                const char *version;
                bool before; /* 550.40.07 */
        } cases[] = {
                {"535.261.03", true}, {"550.40.06", true},  {"550.39.99", true}, {"550.40", true},
                {"550.40.07", false}, {"550.54.14", false}, {"595.45", false},   {"1000.1", false},
        };
        const struct tree *tree = *state;

        assert_false(inventory_driver_is_before(&tree->locations, 550, 40, 7)); /* no driver */
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char line[96];

                (void)snprintf(line, sizeof(line), "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  Mon\n",
                               cases[i].version);
                tree_put(tree, "/proc/driver/nvidia/version", line);
                assert_int_equal(inventory_driver_is_before(&tree->locations, 550, 40, 7), cases[i].before);
        }
}

#define TREE_TEST(function) cmocka_unit_test_setup_teardown(function, tree_setup, tree_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TREE_TEST(all_fields_of_a_gpu_are_read),
                cmocka_unit_test(missing_and_broken_lines_leave_fields_unknown),
                cmocka_unit_test(a_name_that_is_too_long_is_cut),
                cmocka_unit_test(an_excluded_gpu_is_reported),
                TREE_TEST(gpus_are_listed_in_the_order_of_their_addresses),
                TREE_TEST(all_of_a_hundred_gpus_are_listed),
                TREE_TEST(a_gpu_without_readable_information_is_listed_with_its_address),
                TREE_TEST(the_numa_status_file_shows_whether_a_gpu_has_numa_memory),
                TREE_TEST(whether_a_driver_is_bound_is_read_from_sysfs),
                TREE_TEST(addresses_are_listed_without_reading_each_gpus_information),
                TREE_TEST(a_driver_without_gpus_is_an_empty_list),
                TREE_TEST(no_driver_is_enoent),
                TREE_TEST(the_version_is_found_with_open_and_closed_kernel_modules),
                TREE_TEST(a_version_line_without_a_version_is_refused),
                TREE_TEST(driver_versions_are_compared_as_numbers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
