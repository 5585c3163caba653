/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Arrays that grow. */

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void items_keep_their_values_while_others_are_added_and_removed(void **state) {
        CLEANUP(free_ptr) size_t *items = NULL;
        size_t n = 0;

        for (size_t round = 0; round < 50; round++) {
                for (size_t i = 0; i < 3; i++) {
                        items = array_grown(items, n, sizeof(*items));
                        assert_non_null(items);
                        items[n] = n;
                        n++;
                }
                n -= round % 3;
        }
        assert_int_equal(n, 50 * 3 - 16 * 3 - 1);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(items[i], i);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(items_keep_their_values_while_others_are_added_and_removed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
