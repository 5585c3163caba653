/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Dropping privileges. Each case runs in its own child, which then checks itself in /proc. */

#include "daemon/process/privileges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

enum { SOMEBODY = 12345, SOME_GROUP = 23456 };

#define NOBODY_ELSE ((struct privileges){.uid = (uid_t)-1, .gid = (gid_t)-1})
#define BIT(capability) (UINT64_C(1) << (capability))

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                        \
                        _exit(1);                                                                                      \
                }                                                                                                      \
        } while (0)

/* Runs the case in a child. _exit(), because the leak check cannot trace a process without privileges. */
static void in_child(void (*run)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                run();
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void in_child_of_root(void (*run)(void)) {
        if (geteuid() != 0) {
                print_message("root is missing: only root has privileges to drop\n");
                skip();
        }
        in_child(run);
}

/* ---- reading /proc/self/status ---- */

static const char *field(const char *name) {
        static char text[8192];
        char label[32];
        const char *line;

        CHECK(file_read("/proc/self/status", text, sizeof(text)) > 0);
        (void)snprintf(label, sizeof(label), "\n%s:\t", name);
        line = strstr(text, label);
        CHECK(line);
        line += strlen(label);
        text[(size_t)(line - text) + strcspn(line, "\n")] = '\0';
        return line;
}

static uint64_t capabilities(const char *name) {
        return strtoull(field(name), NULL, 16);
}

static void check_capabilities(uint64_t kept) {
        CHECK(capabilities("CapEff") == kept);
        CHECK(capabilities("CapPrm") == kept);
        CHECK(capabilities("CapBnd") == kept);
        CHECK(capabilities("CapInh") == 0);
        CHECK(capabilities("CapAmb") == 0);
        CHECK(strcmp(field("NoNewPrivs"), "1") == 0);
}

/* ---- cases ---- */

static void run_user(void) {
        const gid_t groups[] = {0, 1, 2};
        struct privileges privileges = {.uid = SOMEBODY, .gid = SOME_GROUP, .onlines_numa = true};

        CHECK(setgroups(3, groups) == 0);
        CHECK(privileges_drop(&privileges) == 0);
        CHECK(strcmp(field("Uid"), "12345\t12345\t12345\t12345") == 0);
        CHECK(strcmp(field("Gid"), "23456\t23456\t23456\t23456") == 0);
        CHECK(getgroups(0, NULL) == 0);
        check_capabilities(0);
        CHECK(setuid(0) < 0 && setgid(0) < 0 && setgroups(0, NULL) < 0);
}

static void another_user_keeps_no_capability(void **state) {
        in_child_of_root(run_user);
}

/* A program executed later would get inheritable and ambient capabilities back. */
static void run_ambient(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2];
        struct privileges privileges = {.uid = SOMEBODY, .gid = SOME_GROUP};

        CHECK(syscall(SYS_capget, &header, data) == 0);
        data[0].inheritable = data[0].permitted;
        CHECK(syscall(SYS_capset, &header, data) == 0);
        CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) == 0);
        CHECK(privileges_drop(&privileges) == 0);
        check_capabilities(0);
}

static void inheritable_and_ambient_capabilities_are_dropped_too(void **state) {
        in_child_of_root(run_ambient);
}

static void run_root(void) {
        CHECK(privileges_drop(&NOBODY_ELSE) == 0);
        CHECK(getuid() == 0 && getgroups(0, NULL) == 0);
        check_capabilities(0);
}

static void root_keeps_no_capability_without_a_reason(void **state) {
        in_child_of_root(run_root);
}

static void run_root_with_nodes_of_others(void) {
        struct privileges privileges = NOBODY_ELSE;

        privileges.opens_others = true;
        CHECK(privileges_drop(&privileges) == 0);
        check_capabilities(BIT(CAP_DAC_OVERRIDE));
}

static void root_keeps_dac_override_only_to_open_nodes_of_others(void **state) {
        in_child_of_root(run_root_with_nodes_of_others);
}

static void run_root_with_numa(void) {
        struct privileges privileges = NOBODY_ELSE;

        privileges.onlines_numa = true;
        CHECK(privileges_drop(&privileges) == 0);
        check_capabilities(BIT(CAP_SYS_ADMIN));
}

static void root_keeps_sys_admin_only_to_online_numa_memory(void **state) {
        in_child_of_root(run_root_with_numa);
}

/* As in a container without capabilities. */
static void run_poor_root(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {{0}, {0}};

        CHECK(syscall(SYS_capset, &header, data) == 0);
        CHECK(privileges_drop(&NOBODY_ELSE) == 0);
        CHECK(capabilities("CapEff") == 0);
}

static void root_without_capabilities_is_no_error(void **state) {
        in_child_of_root(run_poor_root);
}

static void run_group_alone(void) {
        struct privileges privileges = {.uid = (uid_t)-1, .gid = SOME_GROUP};

        CHECK(privileges_drop(&privileges) == 0);
        CHECK(getuid() == 0 && getgid() == SOME_GROUP && getgroups(0, NULL) == 0);
        CHECK(setgid(0) < 0 && setegid(0) < 0);
}

static void with_only_a_group_the_user_stays_the_same(void **state) {
        in_child_of_root(run_group_alone);
}

static void become(uid_t saved_uid) {
        if (geteuid() == 0) {
                CHECK(setgroups(0, NULL) == 0);
                CHECK(setresgid(SOME_GROUP, SOME_GROUP, SOME_GROUP) == 0);
                CHECK(setresuid(SOMEBODY, SOMEBODY, saved_uid) == 0);
        }
}

static void run_ordinary_user(void) {
        become(SOMEBODY);
        CHECK(privileges_drop(&NOBODY_ELSE) == 0);
        CHECK(capabilities("CapEff") == 0 && capabilities("CapPrm") == 0);
        CHECK(strcmp(field("NoNewPrivs"), "1") == 0);
}

static void an_ordinary_user_is_no_error(void **state) {
        in_child(run_ordinary_user);
}

static void run_saved_uid(void) {
        become(0);
        CHECK(privileges_drop(&NOBODY_ELSE) == -EPERM);
}

static void a_way_back_to_root_is_an_error(void **state) {
        in_child_of_root(run_saved_uid);
}

/* ---- names ---- */

static void run_resolve_unprivileged(void) {
        struct privileges privileges;

        become(SOMEBODY);
        CHECK(privileges_resolve(&privileges, "daemon", NULL, false) == -EPERM);
        CHECK(privileges_resolve(&privileges, NULL, "root", false) == -EPERM);
        CHECK(privileges_resolve(&privileges, "root", "root", false) == -EPERM);
        CHECK(privileges_resolve(&privileges, NULL, NULL, false) == 0);
        CHECK(privileges.uid == (uid_t)-1 && privileges.gid == (gid_t)-1 && !privileges.onlines_numa);
}

static void run_resolve_root(void) {
        struct privileges privileges;

        become(SOMEBODY);
        CHECK(privileges_resolve(&privileges, "root", NULL, false) == 0);
        CHECK(privileges.uid == (uid_t)-1 && privileges.gid == (gid_t)-1 && privileges.user[0] == '\0');
}

static void an_ordinary_user_that_asks_for_root_keeps_its_user(void **state) {
        in_child(run_resolve_root);
}

static void an_ordinary_user_cannot_ask_for_another_user_or_group(void **state) {
        in_child(run_resolve_unprivileged);
}

static void users_and_groups_are_found_by_name_or_number_and_unknown_ones_refused(void **state) {
        struct privileges privileges;
        gid_t gid;

        if (geteuid() == 0) {
                assert_int_equal(privileges_resolve(&privileges, "nobody", NULL, false), 0);
                assert_int_not_equal(privileges.uid, (uid_t)-1);
                assert_int_equal(privileges_resolve(&privileges, "0", "0", false), 0);
                assert_string_equal(privileges.user, "root");
        }
        assert_int_equal(privileges_resolve(&privileges, "no-such-user", NULL, false), -ENOENT);
        assert_int_equal(privileges_resolve(&privileges, NULL, "no-such-group", false), -ENOENT);
        assert_int_equal(privileges_resolve(&privileges, "4294967295", NULL, false), -ENOENT);
        assert_int_equal(privileges_resolve(&privileges, "", NULL, false), -ENOENT);
        assert_int_equal(privileges_find_group("--admin-group", "root", &gid), 0);
        assert_int_equal(gid, 0);
        assert_int_equal(privileges_find_group("--admin-group", "no-such-group", &gid), -ENOENT);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(another_user_keeps_no_capability),
                cmocka_unit_test(inheritable_and_ambient_capabilities_are_dropped_too),
                cmocka_unit_test(root_keeps_no_capability_without_a_reason),
                cmocka_unit_test(root_keeps_dac_override_only_to_open_nodes_of_others),
                cmocka_unit_test(root_keeps_sys_admin_only_to_online_numa_memory),
                cmocka_unit_test(root_without_capabilities_is_no_error),
                cmocka_unit_test(with_only_a_group_the_user_stays_the_same),
                cmocka_unit_test(an_ordinary_user_is_no_error),
                cmocka_unit_test(a_way_back_to_root_is_an_error),
                cmocka_unit_test(an_ordinary_user_cannot_ask_for_another_user_or_group),
                cmocka_unit_test(an_ordinary_user_that_asks_for_root_keeps_its_user),
                cmocka_unit_test(users_and_groups_are_found_by_name_or_number_and_unknown_ones_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
