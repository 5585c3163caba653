/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which account a client's sessions are counted in. */

#include "daemon/serve/accounts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct peer host_root = {.uid = 0, .facts = {.origin = ORIGIN_BESIDE}};
static const struct peer container_root = {.uid = 0, .facts = {.origin = ORIGIN_ELSEWHERE, .pid_namespace = 7}};
static const struct peer powerless_root = {.uid = 0, .facts = {.origin = ORIGIN_BESIDE, .rights = RIGHTS_TAKEN}};

static struct peer user(uid_t uid, uint64_t pid_namespace) {
        return (struct peer){.uid = uid, .facts = {.pid_namespace = pid_namespace}};
}

static struct account *join(struct accounts *accounts, const struct peer *peer) {
        struct account *account = accounts_find(accounts, peer);

        account->n_sessions++;
        return account;
}

static void only_root_of_this_host_has_roots_account(void **state) {
        struct accounts accounts = {0};

        assert_ptr_equal(join(&accounts, &host_root), &accounts.root);
        assert_ptr_not_equal(join(&accounts, &container_root), &accounts.root);
        assert_ptr_not_equal(join(&accounts, &powerless_root), &accounts.root);
}

static void each_uid_in_each_pid_namespace_has_its_own_account(void **state) {
        const struct peer host = user(1000, 0), container = user(1000, 7), other = user(1001, 0);
        struct accounts accounts = {0};
        const struct account *account = join(&accounts, &host);

        assert_ptr_equal(join(&accounts, &host), account);
        assert_ptr_not_equal(join(&accounts, &container), account);
        assert_ptr_not_equal(join(&accounts, &other), account);
        assert_int_equal(account->n_sessions, 2);
}

static void users_beyond_the_limit_share_an_account_until_one_is_free(void **state) {
        struct accounts accounts = {0};
        struct account *first = NULL;

        for (uid_t uid = 1; uid <= ACCOUNTS_MAX + 600; uid++) {
                const struct peer peer = user(uid, 0);
                struct account *account = join(&accounts, &peer);

                if (!first)
                        first = account;
                assert_int_equal(account == &accounts.shared, uid > ACCOUNTS_MAX);
        }
        assert_ptr_equal(accounts_find(&accounts, &host_root), &accounts.root);
        assert_ptr_equal(accounts_greediest(&accounts), &accounts.shared);
        first->n_sessions = 0;
        assert_ptr_equal(accounts_find(&accounts, &container_root), first);
        assert_int_equal(first->pid_namespace, 7);
}

static void roots_account_is_never_the_greediest(void **state) {
        struct accounts accounts = {.root = {.n_sessions = 100}};
        const struct peer peer = user(1000, 0);
        const struct account *account = join(&accounts, &peer);

        assert_ptr_equal(accounts_greediest(&accounts), account);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_root_of_this_host_has_roots_account),
                cmocka_unit_test(each_uid_in_each_pid_namespace_has_its_own_account),
                cmocka_unit_test(users_beyond_the_limit_share_an_account_until_one_is_free),
                cmocka_unit_test(roots_account_is_never_the_greediest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
