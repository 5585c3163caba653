/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Users and groups by name or number. The linker redirects getgrnam() and the like to this file's own tables. */

#include "config/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <string.h>

static struct group groups[] = {
        {.gr_name = (char *)"operators", .gr_gid = 1001},
        {.gr_name = (char *)"gpu", .gr_gid = 1002},
        {.gr_name = (char *)"video", .gr_gid = 1003},
};
static int answers; /* the name service works */

struct group *__wrap_getgrnam(const char *name);

struct group *__wrap_getgrnam(const char *name) {
        for (size_t i = 0; answers && i < sizeof(groups) / sizeof(groups[0]); i++)
                if (strcmp(groups[i].gr_name, name) == 0)
                        return &groups[i];
        return NULL;
}

struct group *__wrap_getgrgid(gid_t gid);

struct group *__wrap_getgrgid(gid_t gid) {
        for (size_t i = 0; answers && i < sizeof(groups) / sizeof(groups[0]); i++)
                if (groups[i].gr_gid == gid)
                        return &groups[i];
        return NULL;
}

/* The second user's name is the first user's number. */
static struct passwd users[] = {
        {.pw_name = (char *)"operator", .pw_uid = 1001},
        {.pw_name = (char *)"1001", .pw_uid = 1002},
};

struct passwd *__wrap_getpwnam(const char *name);

struct passwd *__wrap_getpwnam(const char *name) {
        for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
                if (strcmp(users[i].pw_name, name) == 0)
                        return &users[i];
        return NULL;
}

struct passwd *__wrap_getpwuid(uid_t uid);

struct passwd *__wrap_getpwuid(uid_t uid) {
        for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
                if (users[i].pw_uid == uid)
                        return &users[i];
        return NULL;
}

static gid_t find(const char *name) {
        gid_t gid = 0;

        assert_int_equal(account_find_group(name, &gid), 0);
        return gid;
}

static void a_group_that_was_found_once_is_still_known_when_the_name_service_fails(void **state) {
        gid_t gid = 0;

        answers = 1;
        assert_int_equal(find("operators"), 1001);
        assert_int_equal(find("gpu"), 1002);
        answers = 0;
        assert_int_equal(find("operators"), 1001);
        assert_int_equal(find("gpu"), 1002);
        assert_int_equal(account_find_group("video", &gid), -ENOENT);
        assert_int_equal(account_find_group("", &gid), -ENOENT);
}

static void a_new_answer_of_the_name_service_replaces_the_remembered_one(void **state) {
        answers = 1;
        groups[0].gr_gid = 2001;
        assert_int_equal(find("operators"), 2001);
        answers = 0;
        assert_int_equal(find("operators"), 2001);
}

static void a_group_may_be_given_by_number_if_it_exists(void **state) {
        gid_t gid = 0;

        answers = 1;
        assert_int_equal(find("1003"), 1003);
        assert_int_equal(account_find_group("1999", &gid), -ENOENT);
        assert_int_equal(account_find_group("-1", &gid), -ENOENT);
        assert_int_equal(account_find_group("4294967295", &gid), -ENOENT);
        answers = 0;
        assert_int_equal(find("1003"), 1003);
}

static void a_user_is_looked_up_by_name_and_then_by_number(void **state) {
        assert_int_equal(account_find_user("operator")->pw_uid, 1001);
        assert_int_equal(account_find_user("1001")->pw_uid, 1002);
        assert_int_equal(account_find_user("1002")->pw_uid, 1002);
        assert_null(account_find_user("1003"));
        assert_null(account_find_user("nobody"));
        assert_null(account_find_user(""));
        assert_null(account_find_user("4294967295"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_group_that_was_found_once_is_still_known_when_the_name_service_fails),
                cmocka_unit_test(a_new_answer_of_the_name_service_replaces_the_remembered_one),
                cmocka_unit_test(a_group_may_be_given_by_number_if_it_exists),
                cmocka_unit_test(a_user_is_looked_up_by_name_and_then_by_number),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
