/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whether root needs CAP_DAC_OVERRIDE, in a temporary folder. The files have different owners, so this requires root.
 */

#include "daemon/process/override.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "daemon/manager/keeper.h"
#include "tests/unit/tree.h"

enum { SOMEBODY = 12345, VIDEO = 44, MESON_SKIPPED = 77 };

static char reason[PATH_MAX];

static void put_params(const struct tree *tree, unsigned uid, unsigned gid, unsigned mode) {
        char text[256];

        (void)snprintf(text, sizeof(text),
                       "ModifyDeviceFiles: 1\nDeviceFileUID: %u\nDeviceFileGID: %u\nDeviceFileMode: %u\n", uid, gid,
                       mode);
        tree_put(tree, "/proc/driver/nvidia/params", text);
}

static void put_node(const struct tree *tree, const char *path, uid_t uid, gid_t gid, mode_t mode) {
        tree_put(tree, path, "");
        assert_int_equal(chown(tree_path(tree, path), uid, gid), 0);
        assert_int_equal(chmod(tree_path(tree, path), mode), 0);
}

/* The usual case: root owns the nodes, and everybody may use them. */
static int setup(void **state) {
        (void)tree_setup(state);
        put_params(*state, 0, 0, 0666);
        put_node(*state, "/dev/nvidiactl", 0, 0, 0666);
        put_node(*state, "/dev/nvidia0", 0, 0, 0666);
        tree_put(*state, "/run/nvidia-persistenced", NULL);
        return 0;
}

static bool asks(const struct tree *tree, struct override_question question) {
        static char runtime[PATH_MAX];

        (void)text_copy(runtime, sizeof(runtime), tree_path(tree, "/run/nvidia-persistenced"));
        question.locations = &tree->locations;
        question.runtime_directory = runtime;
        reason[0] = '\0';
        return override_is_needed(&question, reason);
}

static void dac_override_is_not_needed_if_everybody_may_use_the_nodes(void **state) {
        assert_false(asks(*state, (struct override_question){.uses_keeper = true}));
        assert_false(asks(*state, (struct override_question){.writes = true}));
}

static void a_node_of_another_user_requires_dac_override_and_is_named(void **state) {
        put_node(*state, "/dev/nvidia1", SOMEBODY, SOMEBODY, 0660);
        assert_true(asks(*state, (struct override_question){0}));
        assert_non_null(strstr(reason, "/dev/nvidia1 belongs to uid 12345, with mode 0660"));
}

static void a_node_of_the_daemons_group_does_not_require_dac_override(void **state) {
        put_node(*state, "/dev/nvidia1", SOMEBODY, VIDEO, 0660);
        assert_false(asks(*state, (struct override_question){.gid = VIDEO}));
}

static void a_node_that_others_may_only_read_requires_dac_override_if_nodes_are_written_to(void **state) {
        put_node(*state, "/dev/nvidia1", SOMEBODY, SOMEBODY, 0664);
        assert_false(asks(*state, (struct override_question){0}));
        assert_true(asks(*state, (struct override_question){.writes = true}));
}

static void nodes_that_the_module_will_give_to_another_user_require_dac_override(void **state) {
        put_params(*state, SOMEBODY, SOMEBODY, 0660);
        assert_true(asks(*state, (struct override_question){0}));
        assert_non_null(strstr(reason, "NVreg_DeviceFileUID"));
}

static void without_a_driver_dac_override_is_kept(void **state) {
        assert_int_equal(unlink(tree_path(*state, "/proc/driver/nvidia/params")), 0);
        assert_true(asks(*state, (struct override_question){0}));
        assert_non_null(strstr(reason, "no driver"));
}

static void a_keepers_socket_of_another_user_requires_dac_override(void **state) {
        put_node(*state, KEEPER_PATH, SOMEBODY, SOMEBODY, 0600);
        assert_true(asks(*state, (struct override_question){.uses_keeper = true}));
        assert_non_null(strstr(reason, KEEPER_PATH));
        assert_false(asks(*state, (struct override_question){0}));
}

static void a_runtime_directory_of_another_user_requires_dac_override(void **state) {
        assert_int_equal(chown(tree_path(*state, "/run/nvidia-persistenced"), SOMEBODY, SOMEBODY), 0);
        assert_int_equal(chmod(tree_path(*state, "/run/nvidia-persistenced"), 0755), 0);
        assert_true(asks(*state, (struct override_question){0}));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(dac_override_is_not_needed_if_everybody_may_use_the_nodes),
                TEST(a_node_of_another_user_requires_dac_override_and_is_named),
                TEST(a_node_of_the_daemons_group_does_not_require_dac_override),
                TEST(a_node_that_others_may_only_read_requires_dac_override_if_nodes_are_written_to),
                TEST(nodes_that_the_module_will_give_to_another_user_require_dac_override),
                TEST(without_a_driver_dac_override_is_kept),
                TEST(a_keepers_socket_of_another_user_requires_dac_override),
                TEST(a_runtime_directory_of_another_user_requires_dac_override),
        };

        if (geteuid() != 0) {
                (void)puts("root is missing: chown() requires it");
                return MESON_SKIPPED;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
