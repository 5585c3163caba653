/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/unit/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

int tree_setup(void **state) {
        struct tree *tree = calloc(1, sizeof(*tree));

        assert_non_null(tree);
        (void)snprintf(tree->root, sizeof(tree->root), "/tmp/holdfast-test-XXXXXX");
        assert_non_null(mkdtemp(tree->root));
        tree->locations = locations_of(tree->root, false);
        *state = tree;
        return 0;
}

static int drop(const char *path, const struct stat *status, int type, struct FTW *walk) {
        return remove(path);
}

int tree_teardown(void **state) {
        struct tree *tree = *state;

        (void)nftw(tree->root, drop, 16, FTW_DEPTH | FTW_PHYS);
        free(tree);
        return 0;
}

const char *tree_path(const struct tree *tree, const char *path) {
        static char full[PATH_MAX];

        assert_int_equal(locations_path(full, &tree->locations, path), 0);
        return full;
}

static void make_folders(char *path) {
        for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
                *slash = '\0';
                assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
                *slash = '/';
        }
}

void tree_put(const struct tree *tree, const char *path, const char *text) {
        char full[PATH_MAX];
        FILE *file;

        (void)snprintf(full, sizeof(full), "%s", tree_path(tree, path));
        make_folders(full);
        if (!text) {
                assert_int_equal(mkdir(full, 0755), 0);
                return;
        }
        file = fopen(full, "we");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
}

const char *tree_get(const struct tree *tree, const char *path) {
        static char text[4096];

        if (file_read(tree_path(tree, path), text, sizeof(text)) < 0)
                return NULL;
        text[strcspn(text, "\n")] = '\0';
        return text;
}
