/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whether a GPU is initialised, read from a temporary folder laid out as /proc and /sys. */

#include "cli/node/initialised.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/cleanup.h"
#include "tests/unit/tree.h"

static void the_power_file_shows_whether_a_gpu_is_initialised(void **state) {
        static const struct {
                const char *text;
                int result;
                bool initialised;
        } cases[] = {
                {"Runtime D3 status:          ?\nVideo Memory:               ?\n", 0, false},
                {"Runtime D3 status:          Disabled by default\nVideo Memory:               Active\n", 0, true},
                {"Runtime D3 status:          Not supported", 0, true},
                {"Video Memory:               Active\n", -EBADMSG, false},
                {"", -EBADMSG, false},
        };
        const struct pci_address address = {0, 0x17, 0, 0};
        const struct tree *tree = *state;
        bool initialised = false;

        assert_int_equal(initialised_read(&tree->locations, &address, &initialised), -ENODEV);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                tree_put(tree, "/proc/driver/nvidia/gpus/0000:17:00.0/power", cases[i].text);
                assert_int_equal(initialised_read(&tree->locations, &address, &initialised), cases[i].result);
                if (cases[i].result == 0)
                        assert_int_equal(initialised, cases[i].initialised);
        }
}

static void an_empty_interrupts_folder_does_not_mean_an_initialised_gpu(void **state) {
        const struct pci_address address = {0, 0x17, 0, 0};
        const struct tree *tree = *state;

        tree_put(tree, "/sys/bus/pci/devices/0000:17:00.0/msi_irqs", NULL);
        assert_false(initialised_has_interrupts(&tree->locations, &address));
}

static void interrupts_and_uvm_registrations_are_found(void **state) {
        const struct pci_address address = {0, 0x17, 0, 0};
        const struct tree *tree = *state;

        assert_false(initialised_has_interrupts(&tree->locations, &address));
        assert_false(initialised_has_uvm(&tree->locations, "GPU-1"));
        assert_false(initialised_has_uvm(&tree->locations, ""));
        tree_put(tree, "/sys/bus/pci/devices/0000:17:00.0/msi_irqs/42", "");
        tree_put(tree, "/proc/driver/nvidia-uvm/gpus/GPU-1/info", "");
        assert_true(initialised_has_interrupts(&tree->locations, &address));
        assert_true(initialised_has_uvm(&tree->locations, "GPU-1"));
        assert_false(initialised_has_uvm(&tree->locations, "GPU-2"));
        assert_false(initialised_has_uvm(&tree->locations, ""));
}

#define TREE_TEST(function) cmocka_unit_test_setup_teardown(function, tree_setup, tree_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TREE_TEST(an_empty_interrupts_folder_does_not_mean_an_initialised_gpu),
                TREE_TEST(interrupts_and_uvm_registrations_are_found),
                TREE_TEST(the_power_file_shows_whether_a_gpu_is_initialised),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
