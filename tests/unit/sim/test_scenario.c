/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Scenario files. The arguments are example files, which must be valid. */

#include "sim/model/scenario.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"

static int n_examples;
static char **examples;

/* Reads the text as a scenario file over a default scenario of two GPUs. */
static int read_text(const char *text, struct scenario *scenario, char *error, size_t error_size) {
        char path[] = "/tmp/test_scenario.XXXXXX";
        int fd = mkstemp(path), result;
        size_t length = strlen(text);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, length), (ssize_t)length);
        assert_int_equal(close(fd), 0);
        scenario_default(scenario, 2);
        result = scenario_read(scenario, path, error, error_size);
        assert_int_equal(unlink(path), 0);
        return result;
}

static void read_good(const char *text, struct scenario *scenario) {
        char error[1024];

        if (read_text(text, scenario, error, sizeof(error)) != 0)
                fail_msg("%s\n%s", text, error);
}

static void the_default_scenario_is_a_board_with_eight_gpus(void **state) {
        struct scenario scenario;
        char address[PCI_ADDRESS_SIZE];

        scenario_default(&scenario, 8);
        assert_int_equal(scenario.n_gpus, 8);
        assert_string_equal(scenario.driver_version, "595.45.04");
        assert_string_equal(pci_address_format(&scenario.gpus[0].address, address), "0000:17:00.0");
        assert_string_equal(pci_address_format(&scenario.gpus[7].address, address), "0000:db:00.0");
        assert_string_equal(scenario.gpus[3].model, "Simulated H100 80GB");
        assert_int_equal(scenario.gpus[3].lock_usec, 200000);
        assert_int_equal(scenario.gpus[3].init_usec, 1300000);
        assert_int_equal(scenario.gpus[3].teardown_usec, 50000);
        assert_true(scenario.nonblocking_open && scenario.bind_notices);
}

static void no_two_default_gpus_are_alike(void **state) {
        struct scenario scenario;

        scenario_default(&scenario, SCENARIO_GPUS_MAX + 1);
        assert_int_equal(scenario.n_gpus, SCENARIO_GPUS_MAX);
        for (size_t i = 1; i < SCENARIO_GPUS_MAX; i++) {
                assert_true(pci_address_compare(&scenario.gpus[i - 1].address, &scenario.gpus[i].address) < 0);
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(scenario.gpus[i].uuid, scenario.gpus[k].uuid);
        }
}

static void a_key_for_one_gpu_overrides_that_for_all(void **state) {
        struct scenario scenario;

        read_good("; a comment\n"
                  "[driver]\n"
                  "version = 570.86.15\n"
                  "[gpus]\n"
                  "init = 2s\n"
                  "count = 4\n"
                  "lock=100ms ; and another\n"
                  "[gpu 1]\n"
                  "init = 5s\n"
                  "fail_opens = all\n"
                  "fail_status = NV_ERR_GPU_IS_LOST\n"
                  "fail_errno = EBUSY\n"
                  "[gpu 0000:3a:00.0]\n"
                  "hang = close\n"
                  "lost = surprise\n"
                  "numa = online\n"
                  "uvm = off\n"
                  "memory = 24576\n"
                  "temperature = 61\n"
                  "mig = enabled\n"
                  "[gpu 3]\n"
                  "address = 0001:02:03.0\n"
                  "uuid = GPU-00112233-4455-6677-8899-aabbccddeeff\n"
                  "model = Another GPU\n"
                  "present = no\n",
                  &scenario);
        assert_string_equal(scenario.driver_version, "570.86.15");
        assert_true(scenario.nonblocking_open);
        assert_false(scenario.bind_notices); /* the version has none */
        assert_int_equal(scenario.n_gpus, 4);
        assert_int_equal(scenario.gpus[0].init_usec, 2000000);
        assert_int_equal(scenario.gpus[1].init_usec, 5000000);
        assert_int_equal(scenario.gpus[1].lock_usec, 100000);
        assert_int_equal(scenario.gpus[1].fail_opens, -1u);
        assert_int_equal(scenario.gpus[1].fail_status, NV_ERR_GPU_IS_LOST);
        assert_int_equal(scenario.gpus[1].fail_errno, EBUSY);
        assert_true(scenario.gpus[2].hang_close && !scenario.gpus[2].hang);
        assert_true(scenario.gpus[2].lost && scenario.gpus[2].surprise);
        assert_int_equal(scenario.gpus[2].numa, NV_NUMA_ONLINE);
        assert_false(scenario.gpus[2].has_uvm);
        assert_int_equal(scenario.gpus[2].memory_mib, 24576);
        assert_int_equal(scenario.gpus[2].temperature, 61);
        assert_int_equal(scenario.gpus[2].mig, SCENARIO_MIG_ENABLED);
        assert_int_equal(scenario.gpus[1].mig, SCENARIO_MIG_DISABLED);
        assert_int_equal(scenario.gpus[3].address.domain, 1);
        assert_string_equal(scenario.gpus[3].uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
        assert_string_equal(scenario.gpus[3].model, "Another GPU");
        assert_false(scenario.gpus[3].present);
}

static void a_uuid_is_derived_from_the_address_unless_it_is_given(void **state) {
        struct scenario scenario;
        char uuid[SCENARIO_UUID_SIZE];

        read_good("[gpu 0]\naddress = 0000:99:00.0\n", &scenario);
        scenario_derive_uuid(&scenario.gpus[0].address, uuid);
        assert_string_equal(scenario.gpus[0].uuid, uuid);
        read_good("[gpu 0]\nuuid = GPU-00112233-4455-6677-8899-aabbccddeeff\naddress = 0000:99:00.0\n", &scenario);
        assert_string_equal(scenario.gpus[0].uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
}

static void explicit_abilities_override_those_of_the_version(void **state) {
        struct scenario scenario;

        read_good("[driver]\nbind_notices = yes\nnonblocking_open = yes\nversion = 535.54.03\n", &scenario);
        assert_true(scenario.bind_notices && scenario.nonblocking_open);
        assert_false(scenario.memory_probe);
        read_good("[driver]\nmemory_probe = yes\n", &scenario);
        assert_true(scenario.memory_probe);
        read_good("[driver]\nversion = 535.54.03\n", &scenario);
        assert_false(scenario.bind_notices || scenario.nonblocking_open);
}

static void events_are_verbs_with_arguments(void **state) {
        struct scenario scenario;

        read_good("[at 1.5s]\n"
                  "verb = remove\n"
                  "gpu = 1\n"
                  "[at 200ms]\n"
                  "verb = hang\n"
                  "gpu = 0000:17:00.0\n"
                  "on = yes\n"
                  "verb = drain\n"
                  "gpu = 0\n",
                  &scenario);
        assert_int_equal(scenario.n_events, 3);
        assert_int_equal(scenario.events[0].at_usec, 1500000);
        assert_string_equal(scenario.events[0].verb, "remove");
        assert_string_equal(scenario.events[0].arguments, "{\"gpu\":1}");
        assert_string_equal(scenario.events[1].arguments, "{\"gpu\":\"0000:17:00.0\",\"on\":true}");
        assert_int_equal(scenario.events[2].at_usec, 200000);
        assert_string_equal(scenario.events[2].verb, "drain");
}

static void a_mistake_is_reported_with_file_and_line(void **state) {
        static const struct {
                const char *text, *says;
        } cases[] = {
                {"[gpus]\ncolour = red\n", ":2: unknown key 'colour' in [gpus]; a GPU's keys are: address,"},
                {"[gpus]\ncount = 65\n", ":2: count = 65: expected 1 to 64"},
                {"[gpus]\ncount = 0\n", ":2: count = 0"},
                {"[gpus]\ncount = many\n", ":2: count = many"},
                {"[gpus]\ninit = 5\n", ":2: init = 5: expected a time such as 200ms"},
                {"[gpus]\ninit = 1.s\n", ":2: init"},
                {"[gpus]\ninit = -1s\n", ":2: init"},
                {"[gpus]\ninit = 99999999999999999999s\n", ":2: init"},
                {"[gpus]\ninit = 1500min\n", ":2: init"},
                {"[gpus]\n\nhang = maybe\n", ":3: hang = maybe: expected no, open, close, or yes (the same as open)"},
                {"[gpus]\nlost = maybe\n", ":2: lost = maybe"},
                {"[gpus]\nexcluded = maybe\n", ":2: excluded = maybe: expected yes or no"},
                {"[gpus]\nfail_opens = -1\n", ":2: fail_opens"},
                {"[gpus]\nfail_status = NV_ERR_TEA\n", ":2: fail_status"},
                {"[gpus]\nfail_errno = 0\n", ":2: fail_errno"},
                {"[gpus]\nnuma = far\n", ":2: numa = far"},
                {"[gpus]\nmodel =\n", ":2: model"},
                {"[gpus]\nuuid = GPU-1\n", ":2: 'uuid' belongs to one GPU"},
                {"[gpus]\nmemory = 1048577\n", ":2: memory = 1048577: expected its size in MiB"},
                {"[gpus]\ntemperature = 128\n", ":2: temperature = 128: expected degrees"},
                {"[gpus]\nmig = maybe\n", ":2: mig = maybe: expected unsupported, disabled or enabled"},
                {"[gpu 0]\nuuid = GPU-1\n", ":2: uuid = GPU-1: expected GPU- and"},
                {"[gpu 0]\naddress = here\n", ":2: address = here"},
                {"[gpu 0]\nlock = 1s\n[gpus]\nlock = 2s\n", ":4: [gpus] must stand before"},
                {"[gpu 2]\nlock = 1s\n", ":2: [gpu 2]: no such GPU; there are 2"},
                {"[gpu 0000:99:00.0]\nlock = 1s\n", ":2: [gpu 0000:99:00.0]: no such GPU"},
                {"[gpu ]\nlock = 1s\n", ":2: "},
                {"[gpu 1]\naddress = 0000:17:00.0\n", "GPUs 0 and 1 have the same address or UUID"},
                {"[driver]\nversion = new\n", ":2: version = new: expected three numbers"},
                {"[driver]\nversion = 1.2.3.4\n", ":2: version"},
                {"[driver]\nspeed = high\n", ":2: unknown key 'speed' in [driver]"},
                {"[driver]\nbind_notices = loud\n", ":2: bind_notices = loud"},
                {"[engine]\nx = 1\n", ":2: unknown section [engine]"},
                {"x = 1\n", ":1: unknown section []"},
                {"[gpus]\njust words\n", ":2: neither a [section] nor key = value"},
                {"[at 5s]\ngpu = 1\n", ":2: 'gpu' before 'verb' in [at 5s]"},
                {"[at noon]\nverb = remove\n", ":2: [at noon]: expected a time"},
                {"[at 5s]\nverb = explode\n", ":2: verb = explode: there is no such verb"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct scenario scenario;
                char error[1024];
                int result = read_text(cases[i].text, &scenario, error, sizeof(error));

                assert_int_equal(result, -EINVAL);
                if (!strstr(error, cases[i].says))
                        fail_msg("%sgave '%s', expected '%s'", cases[i].text, error, cases[i].says);
        }
}

static void only_the_first_mistake_is_reported(void **state) {
        struct scenario scenario;
        char error[1024];

        assert_int_equal(read_text("[gpus]\na = 1\nb = 2\n", &scenario, error, sizeof(error)), -EINVAL);
        assert_non_null(strstr(error, ":2: unknown key 'a'"));
}

static void too_many_events_and_long_arguments_are_refused(void **state) {
        struct scenario scenario;
        char text[8192] = "[at 1s]\n", error[1024];

        for (int i = 0; i < SCENARIO_GPUS_MAX + 1; i++)
                strcat(text, "verb = status\n");
        assert_int_equal(read_text(text, &scenario, error, sizeof(error)), -EINVAL);
        assert_non_null(strstr(error, "too many events (at most 64)"));

        strcpy(text, "[at 1s]\nverb = status\n");
        for (int i = 0; i < 20; i++) {
                size_t length = strlen(text);

                assert_int_equal(
                        text_format(text + length, sizeof(text) - length, "key%d = a value of some length\n", i), 0);
        }
        assert_int_equal(read_text(text, &scenario, error, sizeof(error)), -EINVAL);
        assert_non_null(strstr(error, "too long"));
}

static void a_missing_file_is_an_error(void **state) {
        struct scenario scenario;
        char error[256];

        scenario_default(&scenario, 1);
        assert_int_equal(scenario_read(&scenario, "/nonexistent/scenario.ini", error, sizeof(error)), -ENOENT);
        assert_non_null(strstr(error, "/nonexistent/scenario.ini"));
}

static void durations_require_a_unit(void **state) {
        static const struct {
                const char *text;
                int64_t usec;
        } cases[] = {
                {"0s", 0},         {"1us", 1},
                {"200ms", 200000}, {"1.3s", 1300000},
                {"0.0000019s", 1}, {"2min", 120000000},
                {"1.5ms", 1500},   {"1440min", 86400000000},
                {"86401s", -1},    {"", -1},
                {"s", -1},         {"5", -1},
                {"5 s", -1},       {"1..5s", -1},
                {".5s", -1},       {"1h", -1},
                {"0x1s", -1},      {"1e3s", -1},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint64_t usec = 42;
                int result = scenario_parse_duration(cases[i].text, &usec);

                if (result != (cases[i].usec < 0 ? -EINVAL : 0) || (result == 0 && usec != (uint64_t)cases[i].usec))
                        fail_msg("'%s' gave %d, %llu", cases[i].text, result, (unsigned long long)usec);
        }
}

static void statuses_and_errors_may_be_given_by_name_or_number(void **state) {
        uint32_t status;
        int error;

        assert_int_equal(scenario_parse_status("NV_ERR_OPERATING_SYSTEM", &status), 0);
        assert_int_equal(status, 0x59);
        assert_int_equal(scenario_parse_status("0x1b", &status), 0);
        assert_int_equal(status, NV_ERR_INSUFFICIENT_PERMISSIONS);
        assert_int_equal(scenario_parse_status("38", &status), 0);
        assert_int_equal(status, NV_ERR_INVALID_DEVICE);
        assert_int_equal(scenario_parse_status("0x", &status), -EINVAL);
        assert_int_equal(scenario_parse_errno("ENODEV", &error), 0);
        assert_int_equal(error, ENODEV);
        assert_int_equal(scenario_parse_errno("5", &error), 0);
        assert_int_equal(error, EIO);
        assert_int_equal(scenario_parse_errno("134", &error), -EINVAL);
        assert_int_equal(scenario_parse_errno("0", &error), -EINVAL);
        assert_int_equal(scenario_parse_errno("41", &error), -EINVAL); /* not assigned */
        assert_int_equal(scenario_parse_errno("enodev", &error), -EINVAL);
}

static bool has(const char *version, enum driver_trait trait) {
        struct scenario scenario;

        scenario_default(&scenario, 1);
        strcpy(scenario.driver_version, version);
        return scenario_driver_has(&scenario, trait);
}

static void versions_are_compared_as_numbers(void **state) {
        assert_true(version_parse("575.51.02") == DRIVER_VERSION(575, 51, 2));
        assert_true(version_parse("575.51.02") < version_parse("575.51.03"));
        assert_true(version_parse("575.51.02") < version_parse("575.100"));
        assert_true(version_parse("575.51.02") > version_parse("550.163.99"));
        assert_true(version_parse("595") == 0);
        assert_true(version_parse("") == 0);
}

static void behaviours_depend_on_the_drivers_version(void **state) {
        assert_true(has("575.51.02", DRIVER_ANNOUNCES_UNBINDS) && has("595.45.04", DRIVER_ANNOUNCES_UNBINDS));
        assert_false(has("570.211.01", DRIVER_ANNOUNCES_UNBINDS) || has("535.261.03", DRIVER_ANNOUNCES_UNBINDS));
        assert_true(has("535.288.01", DRIVER_OPENS_ONE_BY_ONE) && has("470.1.1", DRIVER_OPENS_ONE_BY_ONE));
        assert_false(has("545.23.06", DRIVER_OPENS_ONE_BY_ONE) || has("595.45.04", DRIVER_OPENS_ONE_BY_ONE));
}

static void the_example_files_are_valid(void **state) {
        assert_true(n_examples > 0);
        for (int i = 0; i < n_examples; i++) {
                struct scenario scenario;
                char error[1024];

                scenario_default(&scenario, 8);
                if (scenario_read(&scenario, examples[i], error, sizeof(error)) != 0)
                        fail_msg("%s", error);
        }
}

int main(int argc, char **argv) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_missing_file_is_an_error),
                cmocka_unit_test(behaviours_depend_on_the_drivers_version),
                cmocka_unit_test(a_mistake_is_reported_with_file_and_line),
                cmocka_unit_test(explicit_abilities_override_those_of_the_version),
                cmocka_unit_test(a_uuid_is_derived_from_the_address_unless_it_is_given),
                cmocka_unit_test(durations_require_a_unit),
                cmocka_unit_test(events_are_verbs_with_arguments),
                cmocka_unit_test(a_key_for_one_gpu_overrides_that_for_all),
                cmocka_unit_test(too_many_events_and_long_arguments_are_refused),
                cmocka_unit_test(no_two_default_gpus_are_alike),
                cmocka_unit_test(statuses_and_errors_may_be_given_by_name_or_number),
                cmocka_unit_test(the_default_scenario_is_a_board_with_eight_gpus),
                cmocka_unit_test(the_example_files_are_valid),
                cmocka_unit_test(only_the_first_mistake_is_reported),
                cmocka_unit_test(versions_are_compared_as_numbers),
        };

        n_examples = argc - 1;
        examples = argv + 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
