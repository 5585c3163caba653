/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

static void every_usual_spelling_of_an_address_is_parsed(void **state) {
        static const struct {
                const char *text;
                struct pci_address address;
        } cases[] = {
                {"0000:17:00.0", {0, 0x17, 0, 0}},
                {"00000000:17:00.0", {0, 0x17, 0, 0}},
                {"0000:17:00", {0, 0x17, 0, 0}},
                {"17:00.0", {0, 0x17, 0, 0}},
                {"17:00", {0, 0x17, 0, 0}},
                {"7:0", {0, 7, 0, 0}},
                {"PCI:0000:17:00.0", {0, 0x17, 0, 0}},
                {"pci:0:af:1f.7", {0, 0xaf, 0x1f, 7}},
                {"0000:AF:1F.7", {0, 0xaf, 0x1f, 7}},
                {"ffffffff:ff:1f.1", {0xffffffff, 0xff, 0x1f, 1}},
                {"12345:01:02.3", {0x12345, 1, 2, 3}},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct pci_address address;

                assert_int_equal(pci_address_parse(cases[i].text, &address), 0);
                assert_int_equal(pci_address_compare(&address, &cases[i].address), 0);
        }
}

static void invalid_addresses_are_refused_and_write_nothing(void **state) {
        static const char *const cases[] = {
                "",
                ".",
                "..",
                ":",
                "::.",
                "17",
                "17.0",
                "0000:17:00.",
                "0000:17:00.8",
                "0000:17:20.0",
                "0000:117:00.0",
                "0000::00.0",
                ":17:00.0",
                "100000000:17:00.0",
                "0:0:17:00.0",
                "0000:17:00.0.0",
                "0000:17:00.0 ",
                " 0000:17:00.0",
                "0000:-1:00.0",
                "0x00:17:00.0",
                "0000:g7:00.0",
                "GPU-00000000-0000-0000-0000-000000000000",
                "0000000000000000000000000000000000:17:00.0",
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct pci_address address = {1, 2, 3, 4}, before = address;

                assert_int_equal(pci_address_parse(cases[i], &address), -EINVAL);
                assert_int_equal(pci_address_compare(&address, &before), 0);
        }
}

static void addresses_are_printed_as_sysfs_and_as_nvml_print_them(void **state) {
        static const struct pci_address small = {0, 0xaf, 0x1f, 7}, large = {0xfedcba98, 1, 2, 3};
        char buffer[PCI_ADDRESS_SIZE];

        assert_string_equal(pci_address_format(&small, buffer), "0000:af:1f.7");
        assert_string_equal(pci_address_format_nvml(&small, buffer), "00000000:AF:1F.7");
        assert_string_equal(pci_address_format(&large, buffer), "fedcba98:01:02.3");
        assert_string_equal(pci_address_format_nvml(&large, buffer), "FEDCBA98:01:02.3");
}

static void a_printed_address_parses_to_the_same_address(void **state) {
        for (unsigned i = 0; i < 0x10000; i += 7) {
                const struct pci_address address = {i * 65537u, (uint8_t)(i >> 8), i & 0x1f, (i >> 5) & 7};
                struct pci_address sysfs, nvml;
                char buffer[PCI_ADDRESS_SIZE];

                assert_int_equal(pci_address_parse(pci_address_format(&address, buffer), &sysfs), 0);
                assert_int_equal(pci_address_parse(pci_address_format_nvml(&address, buffer), &nvml), 0);
                assert_int_equal(pci_address_compare(&address, &sysfs), 0);
                assert_int_equal(pci_address_compare(&address, &nvml), 0);
        }
}

static void addresses_are_ordered_by_domain_bus_slot_and_function(void **state) {
        static const struct pci_address ascending[] = {
                {0, 0, 0, 0},       {0, 0, 0, 1}, {0, 0, 1, 0},          {0, 1, 0, 0},
                {0, 0xff, 0x1f, 7}, {1, 0, 0, 0}, {0x80000000, 0, 0, 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(ascending); i++)
                for (size_t j = 0; j < ARRAY_SIZE(ascending); j++) {
                        int order = pci_address_compare(&ascending[i], &ascending[j]);

                        assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_usual_spelling_of_an_address_is_parsed),
                cmocka_unit_test(invalid_addresses_are_refused_and_write_nothing),
                cmocka_unit_test(addresses_are_printed_as_sysfs_and_as_nvml_print_them),
                cmocka_unit_test(a_printed_address_parses_to_the_same_address),
                cmocka_unit_test(addresses_are_ordered_by_domain_bus_slot_and_function),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
