/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Looking, in a child process, at items that hang, fail, or have long answers. */

#include "base/aside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { N_ITEMS = 8, LARGE = 1 << 20 };

struct world {
        bool hangs[N_ITEMS];
        int error; /* of the last item */
        size_t answer_size;
        size_t n_taken;
        size_t taken[N_ITEMS];
};

static int look(void *userdata, size_t item, struct aside_answer *answer) {
        static char bytes[LARGE];
        const struct world *world = userdata;

        while (world->hangs[item])
                (void)pause();
        if (item == N_ITEMS - 1 && world->error < 0)
                return world->error;
        memset(bytes, (int)item, sizeof(bytes));
        return aside_tell(answer, bytes, world->answer_size);
}

static int take(void *userdata, size_t item, const char *bytes, size_t size) {
        struct world *world = userdata;

        assert_int_equal(size, world->answer_size);
        for (size_t i = 0; i < size; i++)
                if ((size_t)bytes[i] != item)
                        return -EBADMSG;
        world->taken[world->n_taken++] = item;
        return 0;
}

static int run(struct world *world, size_t stalls_max, struct aside_gap *gap) {
        const struct aside aside = {
                .n = N_ITEMS,
                .stalls_max = stalls_max,
                .look = look,
                .take = take,
                .userdata = world,
        };

        return aside_run(&aside, gap);
}

static void assert_taken(const struct world *world, const char *items) {
        char taken[N_ITEMS + 1] = "";

        for (size_t i = 0; i < world->n_taken; i++)
                taken[i] = (char)('0' + world->taken[i]);
        assert_string_equal(taken, items);
}

static void assert_no_child(void) {
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void all_answers_arrive_in_order(void **state) {
        struct world world = {.answer_size = 5};
        struct aside_gap gap;

        assert_int_equal(run(&world, 0, &gap), 0);
        assert_int_equal(gap.n_left, 0);
        assert_taken(&world, "01234567");
        assert_no_child();
}

static void answers_larger_than_a_pipe_arrive(void **state) {
        struct world world = {.answer_size = LARGE};
        struct aside_gap gap;

        assert_int_equal(run(&world, 0, &gap), 0);
        assert_taken(&world, "01234567");
}

static void an_item_with_an_empty_answer_is_not_taken(void **state) {
        struct world world = {0};
        struct aside_gap gap;

        assert_int_equal(run(&world, 0, &gap), 0);
        assert_int_equal(gap.n_left, 0);
        assert_taken(&world, "");
}

static void an_error_of_one_item_ends_the_run(void **state) {
        struct world world = {.answer_size = 1, .error = -EMFILE};
        struct aside_gap gap;

        assert_int_equal(run(&world, 0, &gap), -EMFILE);
        assert_no_child();
}

static void items_that_hang_are_left_out(void **state) {
        struct world world = {.answer_size = 1, .hangs = {[2] = true, [5] = true}};
        struct aside_gap gap;

        assert_int_equal(run(&world, 2, &gap), 0);
        assert_int_equal(gap.n_left, 2);
        assert_int_equal(gap.first_left, 2);
        assert_taken(&world, "013467");
        assert_no_child();
}

static void after_too_many_hanging_items_all_others_are_left_out(void **state) {
        struct world world = {.answer_size = 1, .hangs = {[2] = true}};
        uint64_t start_usec = clock_monotonic_usec();
        struct aside_gap gap;

        assert_int_equal(run(&world, 0, &gap), 0);
        assert_int_equal(gap.n_left, 6);
        assert_int_equal(gap.first_left, 2);
        assert_taken(&world, "01");
        assert_true(clock_monotonic_usec() - start_usec < 2 * ASIDE_STALL_MSEC * USEC_PER_MSEC);
}

enum { MANY = 1000, HANGING = 700, FAILING = 900 };

struct crowd {
        int error; /* of the item FAILING */
        bool hangs;
        sem_t *waits; /* the child with the first item waits until another child has looked at an item; may be NULL */
        unsigned n_taken[MANY];
        pid_t first_child, another_child;
};

static int look_at_one(void *userdata, size_t item, struct aside_answer *answer) {
        const struct crowd *crowd = userdata;
        pid_t child = getpid();

        while (crowd->hangs && item == HANGING)
                (void)pause();
        if (crowd->waits && item == 0)
                (void)sem_wait(crowd->waits);
        else if (crowd->waits)
                (void)sem_post(crowd->waits);
        return item == FAILING && crowd->error < 0 ? crowd->error : aside_tell(answer, &child, sizeof(child));
}

static int take_one(void *userdata, size_t item, const char *bytes, size_t size) {
        struct crowd *crowd = userdata;
        pid_t child;

        assert_int_equal(size, sizeof(child));
        memcpy(&child, bytes, sizeof(child));
        crowd->n_taken[item]++;
        if (crowd->first_child == 0)
                crowd->first_child = child;
        if (child != crowd->first_child)
                crowd->another_child = child;
        return 0;
}

static int run_crowd(struct crowd *crowd, struct aside_gap *gap) {
        const struct aside aside = {
                .n = MANY,
                .in_any_order = true,
                .look = look_at_one,
                .take = take_one,
                .userdata = crowd,
        };

        return aside_run(&aside, gap);
}

static bool may_use_several_processors(void) {
        cpu_set_t processors;

        return sched_getaffinity(0, sizeof(processors), &processors) < 0 || CPU_COUNT(&processors) > 1;
}

static void several_children_share_many_items_and_look_at_each_once(void **state) {
        struct crowd crowd = {0};
        struct aside_gap gap;
        void *shared = mmap(NULL, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(shared, MAP_FAILED);
        assert_int_equal(sem_init(shared, 1, 0), 0);
        crowd.waits = may_use_several_processors() ? shared : NULL;
        assert_int_equal(run_crowd(&crowd, &gap), 0);
        assert_int_equal(gap.n_left, 0);
        for (size_t item = 0; item < MANY; item++)
                assert_int_equal(crowd.n_taken[item], 1);
        assert_int_equal(crowd.another_child > 0, may_use_several_processors());
        assert_no_child();
        assert_int_equal(munmap(shared, sizeof(sem_t)), 0);
}

static void a_hanging_item_is_left_out_and_another_child_looks_at_the_rest(void **state) {
        struct crowd crowd = {.hangs = true};
        struct aside_gap gap;

        assert_int_equal(run_crowd(&crowd, &gap), 0); /* stalls_max is 0 */
        assert_int_equal(gap.first_left, HANGING);
        assert_int_equal(gap.n_left, may_use_several_processors() ? 1 : MANY - HANGING);
        for (size_t item = 0; item < MANY; item++)
                assert_int_equal(crowd.n_taken[item], item < HANGING || item >= HANGING + gap.n_left);
        assert_no_child();
}

static void an_error_in_one_child_ends_the_others(void **state) {
        struct crowd crowd = {.error = -EMFILE};
        struct aside_gap gap;

        assert_int_equal(run_crowd(&crowd, &gap), -EMFILE);
        assert_no_child();
}

static int hold_pipe(void *userdata, size_t item, struct aside_answer *answer) {
        char end;

        return read(*(int *)userdata, &end, 1) < 0 && errno == EBADF ? 0 : -EEXIST;
}

static void the_child_inherits_no_descriptors(void **state) {
        struct aside_gap gap;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        for (int i = 0; i < 2; i++) {
                const struct aside aside = {.n = 1, .look = hold_pipe, .userdata = &fds[i]};

                assert_int_equal(aside_run(&aside, &gap), 0);
                assert_int_equal(close(fds[i]), 0);
        }
}

static void a_file_is_read_or_reported_as_hanging(void **state) {
        char folder[] = "/tmp/holdfast-aside-XXXXXX", path[64], text[16];
        FILE *file;

        assert_non_null(mkdtemp(folder));
        (void)snprintf(path, sizeof(path), "%s/file", folder);
        assert_int_equal(aside_read_file(path, text, sizeof(text)), -ENOENT);
        file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs("text", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(aside_read_file(path, text, sizeof(text)), 4);
        assert_string_equal(text, "text");
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0); /* opening it waits for a writer */
        assert_int_equal(aside_read_file(path, text, sizeof(text)), -ETIMEDOUT);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_file_is_read_or_reported_as_hanging),
                cmocka_unit_test(a_hanging_item_is_left_out_and_another_child_looks_at_the_rest),
                cmocka_unit_test(after_too_many_hanging_items_all_others_are_left_out),
                cmocka_unit_test(all_answers_arrive_in_order),
                cmocka_unit_test(an_error_in_one_child_ends_the_others),
                cmocka_unit_test(an_error_of_one_item_ends_the_run),
                cmocka_unit_test(an_item_with_an_empty_answer_is_not_taken),
                cmocka_unit_test(answers_larger_than_a_pipe_arrive),
                cmocka_unit_test(items_that_hang_are_left_out),
                cmocka_unit_test(several_children_share_many_items_and_look_at_each_once),
                cmocka_unit_test(the_child_inherits_no_descriptors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
