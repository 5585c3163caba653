/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Appending text to a buffer of fixed size, and taking lists apart. */

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void separators_are_only_between_items(void **state) {
        char text[32] = "";

        text_append_item(text, sizeof(text), ", ", "%s", "one");
        assert_string_equal(text, "one");
        text_append_item(text, sizeof(text), ", ", "%d", 2);
        text_append_item(text, sizeof(text), "; ", "three");
        assert_string_equal(text, "one, 2; three");
}

static void what_does_not_fit_is_cut(void **state) {
        char text[8] = "";

        for (int i = 0; i < 4; i++)
                text_append_item(text, sizeof(text), ", ", "item");
        assert_string_equal(text, "item, i");
        text_append(text, sizeof(text), "more");
        assert_string_equal(text, "item, i");
}

static void a_list_is_taken_apart_at_its_commas(void **state) {
        const char *list = "one,,seventeen";
        char item[6];

        assert_true(text_next_item(&list, item));
        assert_string_equal(item, "one");
        assert_true(text_next_item(&list, item));
        assert_string_equal(item, "");
        assert_true(text_next_item(&list, item));
        assert_string_equal(item, "seven");
        assert_false(text_next_item(&list, item));
        list = "";
        assert_true(text_next_item(&list, item));
        assert_string_equal(item, "");
        assert_false(text_next_item(&list, item));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_list_is_taken_apart_at_its_commas),
                cmocka_unit_test(separators_are_only_between_items),
                cmocka_unit_test(what_does_not_fit_is_cut),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
