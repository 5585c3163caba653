/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Uevents: which ones of the kernel matter, and that invalid bytes do no harm. */

#include "daemon/gpus/hotplug.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

#define DEVICE "/devices/pci0000:00/0000:00:01.0/0000:17:00.0"

enum verdict {
        IGNORED,
        CHANGED,
        REMOVED,
};

/* Parses a copy of exactly this size, so the address sanitizer detects a read beyond it. */
static enum verdict parse(const char *bytes, size_t size, struct pci_address *ret_address) {
        CLEANUP(free_ptr) char *copy = malloc(size > 0 ? size : 1);
        enum hotplug_action action;

        assert_non_null(copy);
        memcpy(copy, bytes, size);
        if (!hotplug_parse(copy, size, &action, ret_address))
                return IGNORED;
        return action == HOTPLUG_REMOVED ? REMOVED : CHANGED;
}

#define PARSE(text) parse(text, sizeof(text) - 1, &(struct pci_address){0})

static enum verdict judge(const char *action, const char *subsystem, const char *driver, const char *device) {
        struct pci_address address;
        enum hotplug_action what;

        if (!hotplug_judge(action, subsystem, driver, device, &what, &address))
                return IGNORED;
        return what == HOTPLUG_REMOVED ? REMOVED : CHANGED;
}

static void an_added_or_bound_device_is_a_change_unless_another_driver_has_it(void **state) {
        assert_int_equal(judge("bind", "pci", "nvidia", DEVICE), CHANGED);
        assert_int_equal(judge("add", "pci", "nvidia", DEVICE), CHANGED);
        assert_int_equal(judge("add", "pci", NULL, DEVICE), CHANGED); /* not bound to a driver yet */
        assert_int_equal(judge("bind", "pci", "vfio-pci", DEVICE), IGNORED);
        assert_int_equal(judge("bind", "pci", "nvidia-wmi", DEVICE), IGNORED);
}

static void a_removed_or_unbound_device_is_reported_with_its_address(void **state) {
        static const char *const actions[] = {"unbind", "remove"};
        struct pci_address address;
        enum hotplug_action action;
        char text[PCI_ADDRESS_SIZE];

        for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
                assert_true(hotplug_judge(actions[i], "pci", NULL, DEVICE, &action, &address));
                assert_int_equal(action, HOTPLUG_REMOVED);
                assert_string_equal(pci_address_format(&address, text), "0000:17:00.0");
        }
        assert_true(hotplug_judge("remove", "pci", NULL, "0000:2a:00.1", &action, &address));
        assert_string_equal(pci_address_format(&address, text), "0000:2a:00.1");
        assert_true(hotplug_judge("remove", "pci", NULL, "/devices/10001:e0:00.0", &action, &address));
        assert_string_equal(pci_address_format(&address, text), "10001:e0:00.0");
}

static void loading_and_unloading_the_module_are_changes(void **state) {
        assert_int_equal(judge("add", "module", NULL, "/module/nvidia"), CHANGED);
        assert_int_equal(judge("remove", "module", NULL, "/module/nvidia"), CHANGED);
        assert_int_equal(judge("add", "module", NULL, "/module/nvidia_uvm"), IGNORED);
        assert_int_equal(judge("add", "module", NULL, NULL), IGNORED);
}

static void uevents_about_other_things_are_ignored(void **state) {
        assert_int_equal(judge("add", "net", NULL, "/devices/pci0000:00/0000:17:00.0/net/eth0"), IGNORED);
        assert_int_equal(judge("remove", "drm", NULL, DEVICE), IGNORED);
        assert_int_equal(judge("change", "pci", "nvidia", DEVICE), IGNORED);
        assert_int_equal(judge("offline", "pci", "nvidia", DEVICE), IGNORED);
        assert_int_equal(judge("", "pci", NULL, DEVICE), IGNORED);
        assert_int_equal(judge(NULL, "pci", NULL, DEVICE), IGNORED);
        assert_int_equal(judge("remove", NULL, NULL, DEVICE), IGNORED);
}

static void a_removal_without_an_address_is_ignored(void **state) {
        static const char *const devices[] = {
                NULL,
                "",
                "/",
                "/devices/",
                "/devices/pci0000:00",
                "/devices/0000:17:00.0/",
                "0000:17:00.9",
                "0000:117:00.0",
                "xxxx:17:00.0",
                "0000:17:00.0 ",
                "0000:17:00.0/msi_irqs",
        };

        for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
                assert_int_equal(judge("remove", "pci", NULL, devices[i]), IGNORED);
}

/* As the kernel sends them, with keys that the daemon does not use. */
static const char bind_text[] = "bind@" DEVICE "\0ACTION=bind\0DEVPATH=" DEVICE "\0SUBSYSTEM=pci\0DRIVER=nvidia\0"
                                "PCI_CLASS=30200\0PCI_ID=10DE:2330\0PCI_SLOT_NAME=0000:17:00.0\0SEQNUM=4711";
static const char remove_text[] = "remove@" DEVICE "\0ACTION=remove\0DEVPATH=" DEVICE "\0SUBSYSTEM=pci\0"
                                  "PCI_SLOT_NAME=0000:17:00.0\0SEQNUM=4712";

static void uevents_of_the_kernel_are_parsed(void **state) {
        struct pci_address address;
        char text[PCI_ADDRESS_SIZE];

        assert_int_equal(parse(bind_text, sizeof(bind_text), &address), CHANGED);
        assert_int_equal(parse(remove_text, sizeof(remove_text), &address), REMOVED);
        assert_string_equal(pci_address_format(&address, text), "0000:17:00.0");
}

static void invalid_uevents_are_ignored(void **state) {
        assert_int_equal(PARSE(""), IGNORED);
        assert_int_equal(PARSE("\0"), IGNORED);
        assert_int_equal(PARSE("\0\0\0\0"), IGNORED);
        assert_int_equal(PARSE("remove"), IGNORED);
        assert_int_equal(PARSE("remove@" DEVICE "\0"), IGNORED); /* only the first line, which is for people */
        assert_int_equal(PARSE("ACTION=remove\0SUBSYSTEM=pci\0"), IGNORED); /* no device */
        assert_int_equal(PARSE("ACTION=add\0SUBSYSTEM=pci"), IGNORED);      /* cut off */
        assert_int_equal(PARSE("ACTIONS=add\0SUBSYSTEM=pci\0"), IGNORED);   /* another key */
        assert_int_equal(PARSE("action=add\0subsystem=pci\0"), IGNORED);    /* likewise */
        assert_int_equal(PARSE("ACTION\0SUBSYSTEM=pci\0"), IGNORED);        /* no value */
        assert_int_equal(PARSE("ACTION=remove\nSUBSYSTEM=pci\nDEVPATH=0000:17:00.0\0"), IGNORED);
        assert_int_equal(PARSE("ACTION=add\0SUBSYSTEM=pci\0"), CHANGED); /* control: this is enough */
}

/* udev's messages begin with a magic word and binary fields. */
static void messages_of_udev_are_ignored(void **state) {
        static const char head[] = "libudev\0\xfe\xed\xca\xfe\x28\0\0\0\x28\0\0\0\x10\0\0\0";

        assert_int_equal(parse(head, sizeof(head), &(struct pci_address){0}), IGNORED);
}

static void a_truncated_uevent_never_names_another_gpu(void **state) {
        struct pci_address whole, address;

        assert_int_equal(parse(remove_text, sizeof(remove_text), &whole), REMOVED);
        for (size_t size = 0; size < sizeof(remove_text); size++)
                if (parse(remove_text, size, &address) == REMOVED)
                        assert_int_equal(pci_address_compare(&address, &whole), 0);
}

static void a_damaged_uevent_is_parsed_without_harm(void **state) {
        char text[sizeof(remove_text)];
        struct pci_address address;
        size_t n_ignored = 0;

        for (size_t at = 0; at < sizeof(text); at++)
                for (unsigned value = 0; value < 256; value++) {
                        memcpy(text, remove_text, sizeof(text));
                        text[at] = (char)value;
                        n_ignored += parse(text, sizeof(text), &address) == IGNORED;
                }
        assert_true(n_ignored > 0);
}

/* The random sequence is fixed. NUL and '=' are frequent, because the parser looks for them. */
static void random_bytes_are_parsed_without_harm(void **state) {
        static const char alphabet[] = "\0\0==ACTIONremovepciSUBSYSTEMDEVPATH0000:17:00.0/\xff\x80";
        struct pci_address address;
        uint32_t random = 1;
        char text[96];

        for (int round = 0; round < 20000; round++) {
                size_t size = 0;

                for (; size < sizeof(text) && (size == 0 || random >> 26 != 0); size++) {
                        random = random * 1664525 + 1013904223; /* constants from Numerical Recipes */
                        text[size] = alphabet[(random >> 16) % (sizeof(alphabet) - 1)];
                }
                (void)parse(text, size, &address);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_damaged_uevent_is_parsed_without_harm),
                cmocka_unit_test(a_removal_without_an_address_is_ignored),
                cmocka_unit_test(a_removed_or_unbound_device_is_reported_with_its_address),
                cmocka_unit_test(a_truncated_uevent_never_names_another_gpu),
                cmocka_unit_test(an_added_or_bound_device_is_a_change_unless_another_driver_has_it),
                cmocka_unit_test(invalid_uevents_are_ignored),
                cmocka_unit_test(loading_and_unloading_the_module_are_changes),
                cmocka_unit_test(messages_of_udev_are_ignored),
                cmocka_unit_test(random_bytes_are_parsed_without_harm),
                cmocka_unit_test(uevents_about_other_things_are_ignored),
                cmocka_unit_test(uevents_of_the_kernel_are_parsed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
