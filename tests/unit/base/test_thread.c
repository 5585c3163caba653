/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { STACK_SIZE = 2 << 20 }; /* includes glibc's own part, and 900 KiB of ThreadSanitizer's */

/* What a thread finds out about itself. */
struct birth {
        sigset_t blocked;
        const void *frame;
};

static void *thread_main(void *argument) {
        struct birth *birth = argument;

        birth->frame = __builtin_frame_address(0);
        (void)pthread_sigmask(SIG_SETMASK, NULL, &birth->blocked);
        return NULL;
}

static struct birth start_and_join(const struct thread_options *options) {
        struct birth birth;
        pthread_t thread;

        assert_int_equal(thread_start(&thread, options, thread_main, &birth), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        return birth;
}

static void block(int how, int number) {
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, number);
        (void)pthread_sigmask(how, &set, NULL);
}

/* Skips glibc's internal signals, SIGKILL and SIGSTOP: nobody can block them. */
static void assert_only_open(const sigset_t *blocked, int first, int second) {
        for (int number = 1; number <= SIGRTMAX; number++) {
                bool free = number == first || number == second;

                if (number == SIGKILL || number == SIGSTOP || (number > SIGSYS && number < SIGRTMIN))
                        continue;
                assert_int_equal(sigismember(blocked, number), !free);
        }
}

static void a_thread_blocks_all_signals_except_sigterm(void **state) {
        struct birth birth = start_and_join(&(struct thread_options){0});

        assert_only_open(&birth.blocked, SIGTERM, 0);
}

static void a_thread_blocks_sigterm_if_its_creator_does(void **state) {
        struct birth birth;

        block(SIG_BLOCK, SIGTERM);
        birth = start_and_join(&(struct thread_options){.takes = SIGUSR1});
        block(SIG_UNBLOCK, SIGTERM);
        assert_only_open(&birth.blocked, SIGUSR1, 0);
}

static void a_thread_receives_its_own_signal_even_if_its_creator_blocks_it(void **state) {
        struct birth birth;

        block(SIG_BLOCK, SIGURG);
        birth = start_and_join(&(struct thread_options){.takes = SIGURG});
        block(SIG_UNBLOCK, SIGURG);
        assert_only_open(&birth.blocked, SIGTERM, SIGURG);
}

static void the_creators_signal_mask_stays_the_same(void **state) {
        sigset_t before, after;
        pthread_t thread;

        block(SIG_BLOCK, SIGUSR2);
        (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
        (void)start_and_join(&(struct thread_options){0});
        assert_int_equal(thread_start(&thread, &(struct thread_options){.stack_size = 1}, thread_main, NULL), -EINVAL);
        (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
        block(SIG_UNBLOCK, SIGUSR2);
        for (int number = 1; number <= SIGRTMAX; number++)
                assert_int_equal(sigismember(&before, number), sigismember(&after, number));
}

static void a_thread_runs_on_the_stack_that_it_is_given(void **state) {
        CLEANUP(free_ptr) char *stack = aligned_alloc(4096, STACK_SIZE);
        struct birth birth;

        assert_non_null(stack);
        birth = start_and_join(&(struct thread_options){.stack = stack, .stack_size = STACK_SIZE});
        assert_in_range((uintptr_t)birth.frame, (uintptr_t)stack, (uintptr_t)stack + STACK_SIZE);
}

static void *wait_for_end(void *argument) {
        (void)sem_wait(argument);
        return NULL;
}

static bool becomes(bool expected, int number) {
        for (int i = 0; i < 10000 && thread_any_blocks(number) != expected; i++)
                clock_sleep(USEC_PER_MSEC);
        return thread_any_blocks(number) == expected;
}

/* ThreadSanitizer has a thread of its own, which blocks all signals. */
#ifdef __SANITIZE_THREAD__
static const bool sanitizer = true;
#else
static const bool sanitizer = false;
#endif

/* Polls because glibc also blocks all signals for a moment while the thread starts and ends. */
static void a_signal_that_a_thread_blocks_is_found_until_the_thread_has_ended(void **state) {
        pthread_t thread;
        sem_t end;

        (void)sem_init(&end, 0, 0);
        assert_int_equal(thread_start(&thread, &(struct thread_options){.takes = SIGUSR1}, wait_for_end, &end), 0);
        assert_true(becomes(true, SIGURG));
        assert_true(becomes(sanitizer, SIGUSR1));
        assert_true(becomes(sanitizer, SIGTERM));
        (void)sem_post(&end);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(becomes(sanitizer, SIGURG));
        (void)sem_destroy(&end);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_thread_blocks_all_signals_except_sigterm),
                cmocka_unit_test(a_thread_blocks_sigterm_if_its_creator_does),
                cmocka_unit_test(a_signal_that_a_thread_blocks_is_found_until_the_thread_has_ended),
                cmocka_unit_test(a_thread_receives_its_own_signal_even_if_its_creator_blocks_it),
                cmocka_unit_test(a_thread_runs_on_the_stack_that_it_is_given),
                cmocka_unit_test(the_creators_signal_mask_stays_the_same),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
