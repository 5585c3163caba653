/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Uevents: what is made of those that the kernel sends, and that no bytes at all do any harm. */

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

/* Parses a copy that is exactly as long, so that a sanitizer sees a read beyond it. */
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

static void a_device_of_ours_or_of_nobody_that_comes_is_a_change(void **state) {
        assert_int_equal(judge("bind", "pci", "nvidia", DEVICE), CHANGED);
        assert_int_equal(judge("add", "pci", "nvidia", DEVICE), CHANGED);
        assert_int_equal(judge("add", "pci", NULL, DEVICE), CHANGED); /* no driver has it yet */
        assert_int_equal(judge("bind", "pci", "vfio-pci", DEVICE), IGNORED);
        assert_int_equal(judge("bind", "pci", "nvidia-wmi", DEVICE), IGNORED);
}

static void a_device_that_goes_is_named(void **state) {
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

static void the_module_that_comes_or_goes_is_a_change(void **state) {
        assert_int_equal(judge("add", "module", NULL, "/module/nvidia"), CHANGED);
        assert_int_equal(judge("remove", "module", NULL, "/module/nvidia"), CHANGED);
        assert_int_equal(judge("add", "module", NULL, "/module/nvidia_uvm"), IGNORED);
        assert_int_equal(judge("add", "module", NULL, NULL), IGNORED);
}

static void what_is_not_about_gpus_is_ignored(void **state) {
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

/* As the kernel sends it, with what we do not look at. */
static const char bind_text[] = "bind@" DEVICE "\0ACTION=bind\0DEVPATH=" DEVICE "\0SUBSYSTEM=pci\0DRIVER=nvidia\0"
                                "PCI_CLASS=30200\0PCI_ID=10DE:2330\0PCI_SLOT_NAME=0000:17:00.0\0SEQNUM=4711";
static const char remove_text[] = "remove@" DEVICE "\0ACTION=remove\0DEVPATH=" DEVICE "\0SUBSYSTEM=pci\0"
                                  "PCI_SLOT_NAME=0000:17:00.0\0SEQNUM=4712";

static void the_kernels_text_is_understood(void **state) {
        struct pci_address address;
        char text[PCI_ADDRESS_SIZE];

        assert_int_equal(parse(bind_text, sizeof(bind_text), &address), CHANGED);
        assert_int_equal(parse(remove_text, sizeof(remove_text), &address), REMOVED);
        assert_string_equal(pci_address_format(&address, text), "0000:17:00.0");
}

static void text_that_is_no_uevent_is_ignored(void **state) {
        assert_int_equal(PARSE(""), IGNORED);
        assert_int_equal(PARSE("\0"), IGNORED);
        assert_int_equal(PARSE("\0\0\0\0"), IGNORED);
        assert_int_equal(PARSE("remove"), IGNORED);
        assert_int_equal(PARSE("remove@" DEVICE "\0"), IGNORED);            /* the first line is for people */
        assert_int_equal(PARSE("ACTION=remove\0SUBSYSTEM=pci\0"), IGNORED); /* of what? */
        assert_int_equal(PARSE("ACTION=add\0SUBSYSTEM=pci"), IGNORED);      /* cut off */
        assert_int_equal(PARSE("ACTIONS=add\0SUBSYSTEM=pci\0"), IGNORED);   /* another name */
        assert_int_equal(PARSE("action=add\0subsystem=pci\0"), IGNORED);    /* likewise */
        assert_int_equal(PARSE("ACTION\0SUBSYSTEM=pci\0"), IGNORED);        /* no value */
        assert_int_equal(PARSE("ACTION=remove\nSUBSYSTEM=pci\nDEVPATH=0000:17:00.0\0"), IGNORED);
        assert_int_equal(PARSE("ACTION=add\0SUBSYSTEM=pci\0"), CHANGED); /* the control: this much is enough */
}

/* udev's own messages, which begin with a magic word and binary fields, are not the kernel's. */
static void udevs_messages_are_ignored(void **state) {
        static const char head[] = "libudev\0\xfe\xed\xca\xfe\x28\0\0\0\x28\0\0\0\x10\0\0\0";

        assert_int_equal(parse(head, sizeof(head), &(struct pci_address){0}), IGNORED);
}

/* Every cut: none is read beyond its end, and none names a GPU that the whole does not. */
static void a_text_cut_anywhere_names_no_other_gpu(void **state) {
        struct pci_address whole, address;

        assert_int_equal(parse(remove_text, sizeof(remove_text), &whole), REMOVED);
        for (size_t size = 0; size < sizeof(remove_text); size++)
                if (parse(remove_text, size, &address) == REMOVED)
                        assert_int_equal(pci_address_compare(&address, &whole), 0);
}

static void every_damaged_byte_is_survived(void **state) {
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

/* Bytes of a fixed sequence; NUL and '=' often, for they are what the parser looks at. */
static void noise_is_survived(void **state) {
        static const char alphabet[] = "\0\0==ACTIONremovepciSUBSYSTEMDEVPATH0000:17:00.0/\xff\x80";
        struct pci_address address;
        uint32_t random = 1;
        char text[96];

        for (int round = 0; round < 20000; round++) {
                size_t size = 0;

                for (; size < sizeof(text) && (size == 0 || random >> 26 != 0); size++) {
                        random = random * 1664525 + 1013904223; /* Numerical Recipes' */
                        text[size] = alphabet[(random >> 16) % (sizeof(alphabet) - 1)];
                }
                (void)parse(text, size, &address);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_device_of_ours_or_of_nobody_that_comes_is_a_change),
                cmocka_unit_test(a_device_that_goes_is_named),
                cmocka_unit_test(a_removal_without_an_address_is_ignored),
                cmocka_unit_test(a_text_cut_anywhere_names_no_other_gpu),
                cmocka_unit_test(every_damaged_byte_is_survived),
                cmocka_unit_test(noise_is_survived),
                cmocka_unit_test(text_that_is_no_uevent_is_ignored),
                cmocka_unit_test(the_kernels_text_is_understood),
                cmocka_unit_test(the_module_that_comes_or_goes_is_a_change),
                cmocka_unit_test(udevs_messages_are_ignored),
                cmocka_unit_test(what_is_not_about_gpus_is_ignored),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
