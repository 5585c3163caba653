/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "tests/unit/hostile.h"
#include "tests/unit/tree.h"

static const struct gpu_info gpu = {
        .address = {.bus = 0x17},
        .uuid = "GPU-7f0c0e5c-6d1b-4f0a-9b1e-0123456789ab",
};
static const struct gpu_info other = {
        .address = {.domain = 0x10000, .bus = 0xaf, .slot = 3},
        .uuid = "GPU-00000000-6d1b-4f0a-9b1e-0123456789ab",
};

static struct tree *world; /* for functions without a state, such as a hostile_judge */

static int read_text(const char *text, struct config *ret_config, char error[static CONFIG_ERROR_SIZE]) {
        error[0] = '\0';
        tree_put(world, "/holdfast.conf", text);
        return config_read(ret_config, tree_path(world, "/holdfast.conf"), error);
}

static struct config read_good(const char *text) {
        char error[CONFIG_ERROR_SIZE];
        struct config config;

        assert_int_equal(read_text(text, &config, error), 0);
        assert_string_equal(error, "");
        return config;
}

static void an_empty_file_sets_nothing(void **state) {
        struct config config = read_good("; only a comment\n\n[daemon]\n[gpu *]\n");

        assert_false(config.has_admin_group);
        assert_false(config.allow_containers);
        assert_int_equal(config.stuck_sec, 0);
        assert_int_equal(config.sessions, 0);
        assert_int_equal(config.sessions_per_uid, 0);
        assert_int_equal(config_persistence(&config, &gpu, CONFIG_NO_INDEX), CONFIG_UNSET);
        assert_int_equal(config_uvm(&config, &gpu, CONFIG_NO_INDEX), CONFIG_UNSET);
}

static void the_daemons_keys_are_read(void **state) {
        struct config config = read_good("[daemon]\n"
                                         "admin-group = daemon ; that of Debian's policy\n"
                                         "allow-containers = yes\n"
                                         "stuck-timeout=7\n"
                                         "max-sessions = 100\n"
                                         "max-sessions-per-user = 10\n");

        assert_true(config.has_admin_group);
        assert_int_equal(config.admin_gid, 1);
        assert_true(config.allow_containers);
        assert_int_equal(config.stuck_sec, 7);
        assert_int_equal(config.sessions, 100);
        assert_int_equal(config.sessions_per_uid, 10);
}

static void a_switch_accepts_several_words_in_any_case(void **state) {
        static const struct {
                const char *word;
                enum config_switch meaning;
        } words[] = {
                {"on", CONFIG_ON},      {"YES", CONFIG_ON},       {"true", CONFIG_ON}, {"1", CONFIG_ON},
                {"Enabled", CONFIG_ON}, {"off", CONFIG_OFF},      {"No", CONFIG_OFF},  {"FALSE", CONFIG_OFF},
                {"0", CONFIG_OFF},      {"disabled", CONFIG_OFF},
        };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                char text[64];
                struct config config;

                (void)text_format(text, sizeof(text), "[gpu *]\npersistence = %s\n", words[i].word);
                config = read_good(text);
                assert_int_equal(config_persistence(&config, &gpu, CONFIG_NO_INDEX), words[i].meaning);
        }
}

static void the_last_matching_line_for_a_key_applies(void **state) {
        struct config config = read_good("[gpu 0000:17:00.0]\npersistence = off\n"
                                         "[gpu *]\npersistence = on\nuvm-persistence = on\n"
                                         "[gpu GPU-7F0C0E5C-6d1b-4f0a-9b1e-0123456789ab]\nuvm-persistence = off\n"
                                         "[gpu 10000:AF:03.0]\npersistence = off\n");

        assert_int_equal(config_persistence(&config, &gpu, CONFIG_NO_INDEX), CONFIG_ON);
        assert_int_equal(config_uvm(&config, &gpu, CONFIG_NO_INDEX), CONFIG_OFF);
        assert_int_equal(config_persistence(&config, &other, CONFIG_NO_INDEX), CONFIG_OFF);
        assert_int_equal(config_uvm(&config, &other, CONFIG_NO_INDEX), CONFIG_ON);
}

static void a_gpu_without_a_uuid_matches_no_rule_with_a_uuid(void **state) {
        struct config config = read_good("[gpu GPU-7f0c0e5c-6d1b-4f0a-9b1e-0123456789ab]\npersistence = off\n");
        struct gpu_info unknown = {.address = gpu.address};

        assert_int_equal(config_persistence(&config, &gpu, CONFIG_NO_INDEX), CONFIG_OFF);
        assert_int_equal(config_persistence(&config, &unknown, CONFIG_NO_INDEX), CONFIG_UNSET);
}

static void an_index_is_the_position_in_the_drivers_list(void **state) {
        struct config config = read_good("[gpu 1]\npersistence = off\n");

        assert_int_equal(config_persistence(&config, &gpu, 1), CONFIG_OFF);
        assert_int_equal(config_persistence(&config, &gpu, 0), CONFIG_UNSET);
        assert_int_equal(config_persistence(&config, &gpu, CONFIG_NO_INDEX), CONFIG_UNSET);
}

static void sections_name_gpus_as_the_command_does(void **state) {
        struct config config = read_good("[gpu ALL]\npersistence = off\n[gpu gpu-7f0c0e5c]\npersistence = on\n");

        assert_int_equal(config_persistence(&config, &gpu, 0), CONFIG_ON);
        assert_int_equal(config_persistence(&config, &other, 0), CONFIG_OFF);
}

static void for_each_setting_the_last_matching_line_applies(void **state) {
        struct config config =
                read_good("[gpu *]\npower-limit = 80% ; of the maximum\ngraphics-clocks = 1200-1410\n"
                          "[gpu 0000:17:00.0]\nsettings-policy = enforce\npower-limit = 500\necc = on\n");
        struct config_settings wanted = config_settings(&config, &gpu, 0);

        assert_int_equal(wanted.policy, CONFIG_ENFORCE);
        assert_int_equal(wanted.n, 3);
        assert_int_equal(wanted.values[SETTING_POWER_LIMIT].low, 500);
        assert_false(wanted.values[SETTING_POWER_LIMIT].is_percent);
        assert_int_equal(wanted.values[SETTING_GRAPHICS_CLOCKS].high, 1410);
        assert_true(wanted.values[SETTING_ECC].is_set);
        assert_false(wanted.values[SETTING_MIG].is_set);

        wanted = config_settings(&config, &other, 1);
        assert_int_equal(wanted.policy, CONFIG_AT_OPEN);
        assert_int_equal(wanted.n, 2);
        assert_int_equal(wanted.values[SETTING_POWER_LIMIT].low, 80);
        assert_true(wanted.values[SETTING_POWER_LIMIT].is_percent);
        assert_int_equal(config_persistence(&config, &gpu, 0), CONFIG_UNSET);
}

/* The message names the line of the first mistake. */
static const struct {
        const char *text;
        const char *error;
} mistakes[] = {
        {"[gpu *]\npersistence = maybe\n", ":2: 'maybe' is neither on nor off"},
        {"[gpu *]\n\n\nuvm = on\n", ":4: unknown key 'uvm' in [gpu *]"},
        {"[gpu *]\npower-limit = much\n",
         ":2: 'much' is neither watts (500) nor a percentage of the GPU's maximum (80%)"},
        {"[gpu *]\n\nsettings-policy = always\n", ":3: 'always' is neither at-open nor enforce"},
        {"[gpu *]\npersistence\n", ":2: this is neither [section] nor key = value"},
        {"[gpu *\npersistence = on\n", ":1: this is neither [section] nor key = value"},
        {"persistence = on\n", ":1: 'persistence' appears before the first section"},
        {"[daemons]\na = b\n", ":2: unknown section [daemons]"},
        {"[gpu ]\npersistence = on\n", ":2: [gpu ] names no GPU"},
        {"[daemon]\nmax-sessions = 0\nmax-sessions = x\n", ":2: '0' is not a number from 1 to 1000000"},
        {"[daemon]\nmax-sessions = 1000001\n", ":2: '1000001' is not a number"},
        {"[daemon]\nstuck-timeout = 99999999999999999999\n", ":2: '99999999999999999999' is not a number"},
        {"[daemon]\nadmin-group =\n", ":2: there is no group ''"},
};

static void a_mistake_is_reported_with_its_line_and_changes_nothing(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
                struct config config = {.stuck_sec = 4711};
                char error[CONFIG_ERROR_SIZE];

                assert_int_equal(read_text(mistakes[i].text, &config, error), -EINVAL);
                assert_ptr_equal(strstr(error, tree_path(world, "/holdfast.conf")), error);
                assert_non_null(strstr(error, mistakes[i].error));
                assert_int_equal(config.stuck_sec, 4711);
        }
}

static void more_rules_than_the_limit_are_refused(void **state) {
        static char text[(CONFIG_RULES_MAX + 1) * 20 + 16] = "[gpu *]\n";
        char error[CONFIG_ERROR_SIZE];
        struct config config;

        for (int i = 0; i < CONFIG_RULES_MAX; i++)
                strcat(text, "persistence = off\n");
        config = read_good(text);
        assert_int_equal(config.n_rules, CONFIG_RULES_MAX);
        strcat(text, "persistence = on\n");
        assert_int_equal(read_text(text, &config, error), -EINVAL);
        assert_non_null(strstr(error, ":130: more than 128 lines for GPUs"));
}

static void a_file_that_cannot_be_read_is_an_error_with_its_path(void **state) {
        char error[CONFIG_ERROR_SIZE];
        struct config config;

        assert_int_equal(config_read(&config, tree_path(world, "/missing"), error), -ENOENT);
        assert_non_null(strstr(error, "/missing: No such file"));
        assert_int_equal(config_read(&config, world->root, error), -EISDIR);
        assert_non_null(strstr(error, "Is a directory"));
}

static const char sample[] = "[daemon]\nadmin-group=daemon\nmax-sessions=9\n[gpu GPU-7f0c0e5c]\npersistence=off\n"
                             "[gpu 0000:17:00.0] ; one\nuvm-persistence=on\npower-limit=80%\n"
                             "memory-clocks=1593-2619\nsettings-policy=enforce\n";

/* The file is valid, or the call fails with a message and changes nothing. */
static void judge(const uint8_t *bytes, size_t size) {
        struct config config = {.stuck_sec = 4711};
        char text[sizeof(sample)], error[CONFIG_ERROR_SIZE];
        int r;

        memcpy(text, bytes, size);
        text[size] = '\0';
        r = read_text(text, &config, error);
        assert_true(r == 0 || r == -EINVAL);
        assert_int_equal(error[0] == '\0', r == 0);
        assert_int_equal(config.stuck_sec, r == 0 ? 0 : 4711);
        (void)config_persistence(&config, &gpu, CONFIG_NO_INDEX);
        assert_true(config_settings(&config, &gpu, CONFIG_NO_INDEX).n <= N_SETTINGS);
}

static void a_damaged_file_is_read_or_refused_with_an_error(void **state) {
        hostile_truncate((const uint8_t *)sample, strlen(sample), judge);
        hostile_flip((const uint8_t *)sample, strlen(sample), judge);
}

static int setup(void **state) {
        int r = tree_setup(state);

        world = *state;
        return r;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_file_sets_nothing),
                cmocka_unit_test(the_daemons_keys_are_read),
                cmocka_unit_test(a_switch_accepts_several_words_in_any_case),
                cmocka_unit_test(the_last_matching_line_for_a_key_applies),
                cmocka_unit_test(a_gpu_without_a_uuid_matches_no_rule_with_a_uuid),
                cmocka_unit_test(an_index_is_the_position_in_the_drivers_list),
                cmocka_unit_test(sections_name_gpus_as_the_command_does),
                cmocka_unit_test(for_each_setting_the_last_matching_line_applies),
                cmocka_unit_test(a_mistake_is_reported_with_its_line_and_changes_nothing),
                cmocka_unit_test(more_rules_than_the_limit_are_refused),
                cmocka_unit_test(a_file_that_cannot_be_read_is_an_error_with_its_path),
                cmocka_unit_test(a_damaged_file_is_read_or_refused_with_an_error),
        };

        return cmocka_run_group_tests(tests, setup, tree_teardown);
}
