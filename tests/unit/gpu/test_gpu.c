/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/clock.h"

/* A wanted GPU before its first job. */
static struct gpu wanted_gpu(void) {
        const struct gpu_info info = {.address = {0, 0x17, 0, 0}, .minor = 0};
        struct gpu gpu;

        gpu_init(&gpu, &info);
        gpu_want(&gpu, true);
        return gpu;
}

static enum gpu_job next(const struct gpu *gpu, uint64_t now_usec) {
        uint64_t wake_usec;

        return gpu_next(gpu, now_usec, &wake_usec);
}

static void job_succeeds(struct gpu *gpu, enum gpu_job job, uint64_t begin_usec, uint64_t end_usec) {
        struct gpu_hold hold = gpu->hold;

        assert_int_equal(next(gpu, begin_usec), job);
        gpu_begin(gpu, job, begin_usec);
        if (job == GPU_JOB_OPEN)
                hold.device_fd = 7;
        if (job == GPU_JOB_CLOSE)
                hold = GPU_HOLD_NONE;
        if (job == GPU_JOB_UVM_ENABLE || job == GPU_JOB_UVM_DISABLE)
                hold.uvm = job == GPU_JOB_UVM_ENABLE;
        gpu_end(gpu, 0, &hold, NULL, end_usec);
}

static void job_fails(struct gpu *gpu, enum gpu_job job, int error, uint64_t now_usec) {
        struct gpu_failure failure = {0};

        (void)gpu_failure_set(&failure, error, 0, "cannot do it");
        assert_int_equal(next(gpu, now_usec), job);
        gpu_begin(gpu, job, now_usec);
        gpu_end(gpu, error, &gpu->hold, &failure, now_usec);
}

static struct gpu held_gpu(void) {
        struct gpu gpu = wanted_gpu();

        job_succeeds(&gpu, GPU_JOB_OPEN, 1000, 4000);
        return gpu;
}

static struct gpu_inquiry asked(struct gpu *gpu, enum gpu_question question) {
        struct gpu_inquiry inquiry = {0};

        assert_int_equal(gpu_next_question(gpu), question);
        gpu_begin_question(gpu, question, &inquiry);
        assert_int_equal(gpu_next_question(gpu), GPU_QUESTION_NONE);
        return inquiry;
}

static void a_wanted_gpu_is_opened_and_held(void **state) {
        struct gpu gpu = wanted_gpu();

        assert_int_equal(gpu.state, GPU_RELEASED);
        gpu_begin(&gpu, next(&gpu, 1000), 1000);
        assert_int_equal(gpu.state, GPU_OPENING);
        assert_int_equal(next(&gpu, 2000), GPU_JOB_NONE);
        gpu_end(&gpu, 0, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, NULL, 4000);
        assert_int_equal(gpu.state, GPU_HELD);
        assert_true(gpu.attempted);
        assert_int_equal(gpu.hold.device_fd, 7);
        assert_int_equal(gpu.open_duration_usec, 3000);
        assert_int_equal(gpu.opens, 1);
}

static void the_legacy_flag_of_a_held_gpu_is_asked_for_once_and_again_on_a_refresh(void **state) {
        struct gpu gpu = held_gpu();
        struct gpu_inquiry inquiry = asked(&gpu, GPU_QUESTION_LEGACY);

        assert_int_equal(gpu_next_question(&gpu), GPU_QUESTION_NONE);
        inquiry.legacy = GPU_LEGACY_ON;
        assert_true(gpu_end_question(&gpu, &inquiry, 6000));
        assert_int_equal(gpu.legacy, GPU_LEGACY_ON);
        gpu_refresh(&gpu, 7000); /* too soon after the last answer */
        assert_int_equal(gpu_next_question(&gpu), GPU_QUESTION_NONE);
        gpu_refresh(&gpu, 6000 + 5 * USEC_PER_SEC);
        inquiry = asked(&gpu, GPU_QUESTION_LEGACY);
        inquiry.legacy = GPU_LEGACY_ON;
        assert_false(gpu_end_question(&gpu, &inquiry, 9000)); /* the value is the same */
}

static void a_question_delays_no_job_and_an_answer_about_an_earlier_hold_is_dropped(void **state) {
        struct gpu gpu = held_gpu();
        struct gpu_inquiry inquiry = asked(&gpu, GPU_QUESTION_LEGACY);

        inquiry.legacy = GPU_LEGACY_ON;
        gpu_want(&gpu, false);
        job_succeeds(&gpu, GPU_JOB_CLOSE, 5000, 6000);
        assert_false(gpu_end_question(&gpu, &inquiry, 6000));
        gpu_want(&gpu, true);
        job_succeeds(&gpu, GPU_JOB_OPEN, 7000, 8000);
        assert_false(gpu_end_question(&gpu, &inquiry, 9000)); /* about the previous hold */
        assert_int_equal(gpu.legacy, GPU_LEGACY_UNKNOWN);
}

static void the_driver_is_asked_for_the_reason_if_an_open_fails_with_eio(void **state) {
        struct gpu gpu = wanted_gpu();
        struct gpu_inquiry inquiry;

        job_fails(&gpu, GPU_JOB_OPEN, -ENOENT, 1000); /* the error number is reason enough */
        assert_int_equal(gpu_next_question(&gpu), GPU_QUESTION_NONE);
        job_fails(&gpu, GPU_JOB_OPEN, -EIO, 10 * USEC_PER_SEC);
        inquiry = asked(&gpu, GPU_QUESTION_FAILURE);
        (void)gpu_failure_explain(&inquiry.failure, -EBUSY, 0, NULL, "drained");
        assert_true(gpu_end_question(&gpu, &inquiry, 11 * USEC_PER_SEC));
        assert_int_equal(gpu.failure.error, -EBUSY);
        job_fails(&gpu, GPU_JOB_OPEN, -EIO, 100 * USEC_PER_SEC);
        assert_false(gpu_end_question(&gpu, &inquiry, 101 * USEC_PER_SEC)); /* about the previous failure */
        assert_int_equal(gpu.failure.error, -EIO);
}

static void a_gpu_is_adopted_from_the_previous_process_without_an_open(void **state) {
        struct gpu gpu = wanted_gpu();

        gpu_adopt(&gpu, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, 0);
        job_succeeds(&gpu, GPU_JOB_ADOPT, 1000, 2000);
        assert_int_equal(gpu.state, GPU_HELD);
        assert_int_equal(gpu.hold.device_fd, 7);
        assert_int_equal(gpu.opens, 0);
        assert_true(gpu.attempted);
}

static void a_gpu_that_cannot_be_adopted_is_opened_at_once(void **state) {
        struct gpu gpu = wanted_gpu();
        struct gpu_failure failure = {.error = -ENODEV};

        gpu_adopt(&gpu, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, 0);
        assert_int_equal(next(&gpu, 1000), GPU_JOB_ADOPT);
        gpu_begin(&gpu, GPU_JOB_ADOPT, 1000);
        gpu_end(&gpu, -ENODEV, &GPU_HOLD_NONE, &failure, 2000);
        assert_false(gpu.attempted);
        job_succeeds(&gpu, GPU_JOB_OPEN, 2000, 3000);
        assert_int_equal(gpu.state, GPU_HELD);
}

static void an_adopted_gpu_that_is_not_wanted_is_closed(void **state) {
        struct gpu gpu = wanted_gpu();

        gpu_want(&gpu, false);
        gpu_adopt(&gpu, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, 0);
        job_succeeds(&gpu, GPU_JOB_ADOPT, 1000, 2000);
        job_succeeds(&gpu, GPU_JOB_CLOSE, 2000, 3000);
        assert_int_equal(gpu.state, GPU_RELEASED);
}

static void an_unwanted_gpu_is_left_alone(void **state) {
        const struct gpu_info info = {.minor = 0};
        struct gpu gpu;

        gpu_init(&gpu, &info);
        assert_int_equal(next(&gpu, 0), GPU_JOB_NONE);
        assert_int_equal(gpu.state, GPU_RELEASED);
}

static void a_held_gpu_that_is_no_longer_wanted_is_closed(void **state) {
        struct gpu gpu = held_gpu();

        gpu_want(&gpu, false);
        job_succeeds(&gpu, GPU_JOB_CLOSE, 5000, 6000);
        assert_int_equal(gpu.state, GPU_RELEASED);
        assert_int_equal(gpu.hold.device_fd, -1);
        assert_int_equal(next(&gpu, 7000), GPU_JOB_NONE);
}

static void a_gpu_that_becomes_unwanted_during_its_open_is_closed_afterwards(void **state) {
        struct gpu gpu = wanted_gpu();

        gpu_begin(&gpu, GPU_JOB_OPEN, 1000);
        gpu_want(&gpu, false);
        assert_int_equal(next(&gpu, 2000), GPU_JOB_NONE); /* never two jobs at a time */
        gpu_end(&gpu, 0, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, NULL, 4000);
        job_succeeds(&gpu, GPU_JOB_CLOSE, 4000, 5000);
        assert_int_equal(gpu.state, GPU_RELEASED);
}

static void a_failed_open_is_reported_and_retried_after_a_pause(void **state) {
        struct gpu gpu = wanted_gpu();
        uint64_t wake_usec;

        job_fails(&gpu, GPU_JOB_OPEN, -EIO, 1000);
        assert_int_equal(gpu.state, GPU_FAILED);
        assert_true(gpu.attempted);
        assert_int_equal(gpu.failure.error, -EIO);
        assert_int_equal(gpu_next(&gpu, 1001, &wake_usec), GPU_JOB_NONE);
        assert_int_equal(wake_usec, 1000 + gpu_retry_pause_usec(-EIO, 1));
        job_succeeds(&gpu, GPU_JOB_OPEN, wake_usec, wake_usec + 5);
        assert_int_equal(gpu.state, GPU_HELD);
        assert_int_equal(gpu.failure.error, 0);
        assert_int_equal(gpu.failures, 1);
        assert_int_equal(gpu.failures_in_row, 0);
}

static void pauses_grow_up_to_a_limit_and_are_shorter_for_passing_errors(void **state) {
        for (unsigned n = 1; n < 100; n++) {
                assert_true(gpu_retry_pause_usec(-EIO, n + 1) >= gpu_retry_pause_usec(-EIO, n));
                assert_true(gpu_retry_pause_usec(-ENOENT, n) < gpu_retry_pause_usec(-EIO, n));
        }
        assert_true(gpu_retry_pause_usec(-EIO, 2) > gpu_retry_pause_usec(-EIO, 1));
        assert_int_equal(gpu_retry_pause_usec(-EIO, 1000), 60 * USEC_PER_SEC);
}

static void an_immediate_retry_ends_the_pause(void **state) {
        struct gpu gpu = wanted_gpu();

        job_fails(&gpu, GPU_JOB_OPEN, -EIO, 1000);
        gpu_retry_now(&gpu);
        assert_int_equal(next(&gpu, 1001), GPU_JOB_OPEN);
}

static void a_failed_gpu_that_is_no_longer_wanted_is_released(void **state) {
        struct gpu gpu = wanted_gpu();

        job_fails(&gpu, GPU_JOB_OPEN, -EIO, 1000);
        gpu_want(&gpu, false);
        assert_int_equal(gpu.state, GPU_RELEASED);
        assert_int_equal(next(&gpu, UINT64_MAX - 1), GPU_JOB_NONE);
}

static void a_gpu_that_became_unwanted_during_a_failing_open_is_released(void **state) {
        struct gpu gpu = wanted_gpu();
        struct gpu_failure failure = {.error = -EIO};

        gpu_begin(&gpu, GPU_JOB_OPEN, 1000);
        gpu_want(&gpu, false);
        gpu_end(&gpu, -EIO, &gpu.hold, &failure, 2000);
        assert_int_equal(gpu.state, GPU_RELEASED);
}

static void a_failed_close_leaves_the_gpu_held_and_is_retried(void **state) {
        struct gpu gpu = held_gpu();

        gpu_want(&gpu, false);
        job_fails(&gpu, GPU_JOB_CLOSE, -EIO, 5000);
        assert_int_equal(gpu.state, GPU_HELD);
        assert_int_equal(gpu.hold.device_fd, 7);
        assert_int_equal(next(&gpu, 5001), GPU_JOB_NONE);
        job_succeeds(&gpu, GPU_JOB_CLOSE, 5000 + gpu_retry_pause_usec(-EIO, 1), UINT64_MAX / 2);
        assert_int_equal(gpu.state, GPU_RELEASED);
}

static void a_failed_close_is_forgotten_when_the_gpu_is_wanted_again(void **state) {
        struct gpu gpu = held_gpu();
        struct gpu_failure failure = {.error = -ETIMEDOUT};

        gpu_want(&gpu, false);
        job_fails(&gpu, GPU_JOB_CLOSE, -ETIMEDOUT, 5000);
        assert_int_equal(gpu.failure.error, -ETIMEDOUT);
        gpu_want(&gpu, true);
        assert_int_equal(gpu.failure.error, 0);
        assert_int_equal(gpu.failures, 0); /* of opens */
        gpu_want(&gpu, false);
        assert_int_equal(next(&gpu, 5001), GPU_JOB_CLOSE); /* no pause is left from the first failure */
        gpu_begin(&gpu, GPU_JOB_CLOSE, 5001);
        gpu_want(&gpu, true); /* during the close */
        gpu_end(&gpu, -ETIMEDOUT, &gpu.hold, &failure, 6000);
        assert_int_equal(gpu.state, GPU_HELD);
        assert_int_equal(gpu.failure.error, 0);
}

static void uvm_persistence_is_set_after_the_open_and_its_failure_keeps_the_hold(void **state) {
        struct gpu gpu = wanted_gpu();

        gpu.uvm_wanted = true;
        job_succeeds(&gpu, GPU_JOB_OPEN, 1000, 4000);
        job_fails(&gpu, GPU_JOB_UVM_ENABLE, -EAGAIN, 5000); /* the fabric is not ready */
        assert_int_equal(gpu.state, GPU_HELD);
        assert_int_equal(gpu.failure.error, 0);
        assert_int_equal(gpu.uvm_failure.error, -EAGAIN);
        assert_int_equal(next(&gpu, 5003), GPU_JOB_NONE);
        job_succeeds(&gpu, GPU_JOB_UVM_ENABLE, 5000 + USEC_PER_SEC, 6 * USEC_PER_SEC);
        assert_int_equal(gpu.uvm_failure.error, 0);
        gpu.uvm_wanted = false;
        job_succeeds(&gpu, GPU_JOB_UVM_DISABLE, 7 * USEC_PER_SEC, 8 * USEC_PER_SEC);
        assert_int_equal(gpu.state, GPU_HELD);
}

static void uvm_persistence_is_not_retried_where_it_is_not_supported(void **state) {
        struct gpu gpu = held_gpu();

        gpu.uvm_wanted = true;
        job_fails(&gpu, GPU_JOB_UVM_ENABLE, -EOPNOTSUPP, 5000);
        assert_int_equal(next(&gpu, UINT64_MAX - 1), GPU_JOB_NONE);
}

static void a_job_over_its_limit_is_reported_once_and_counts_as_attempted(void **state) {
        struct gpu gpu = wanted_gpu();

        gpu_begin(&gpu, GPU_JOB_OPEN, 1000);
        assert_false(gpu_check_stuck(&gpu, 1999, 1000));
        assert_false(gpu.attempted);
        assert_true(gpu_check_stuck(&gpu, 2000, 1000));
        assert_true(gpu.attempted);
        assert_true(gpu.stuck);
        assert_false(gpu_check_stuck(&gpu, 3000, 1000));
        gpu_end(&gpu, 0, &(struct gpu_hold){.device_fd = 7, .uvm_fd = -1}, NULL, 4000);
        assert_false(gpu.stuck);
        assert_int_equal(gpu.state, GPU_HELD);
}

static void a_failures_text_says_what_failed_why_and_what_to_do(void **state) {
        struct gpu_failure failure = {0};

        assert_int_equal(gpu_failure_set(&failure, -EPERM, 0x0f, "cannot open %s", "/dev/nvidia3"), -EPERM);
        assert_non_null(strstr(failure.text, "cannot open /dev/nvidia3"));
        assert_non_null(strstr(failure.text, "Operation not permitted"));
        assert_non_null(strstr(failure.text, "NV_ERR_GPU_IS_LOST"));
        assert_non_null(strstr(failure.text, "NVreg_ExcludedGpus"));
        (void)gpu_failure_set(&failure, -EIO, 0x1234, "cannot open it");
        assert_non_null(strstr(failure.text, "NV_STATUS 0x1234"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_wanted_gpu_is_opened_and_held),
                cmocka_unit_test(the_legacy_flag_of_a_held_gpu_is_asked_for_once_and_again_on_a_refresh),
                cmocka_unit_test(a_question_delays_no_job_and_an_answer_about_an_earlier_hold_is_dropped),
                cmocka_unit_test(the_driver_is_asked_for_the_reason_if_an_open_fails_with_eio),
                cmocka_unit_test(a_gpu_is_adopted_from_the_previous_process_without_an_open),
                cmocka_unit_test(a_gpu_that_cannot_be_adopted_is_opened_at_once),
                cmocka_unit_test(an_adopted_gpu_that_is_not_wanted_is_closed),
                cmocka_unit_test(an_unwanted_gpu_is_left_alone),
                cmocka_unit_test(a_held_gpu_that_is_no_longer_wanted_is_closed),
                cmocka_unit_test(a_gpu_that_becomes_unwanted_during_its_open_is_closed_afterwards),
                cmocka_unit_test(a_failed_open_is_reported_and_retried_after_a_pause),
                cmocka_unit_test(pauses_grow_up_to_a_limit_and_are_shorter_for_passing_errors),
                cmocka_unit_test(an_immediate_retry_ends_the_pause),
                cmocka_unit_test(a_failed_gpu_that_is_no_longer_wanted_is_released),
                cmocka_unit_test(a_gpu_that_became_unwanted_during_a_failing_open_is_released),
                cmocka_unit_test(a_failed_close_leaves_the_gpu_held_and_is_retried),
                cmocka_unit_test(a_failed_close_is_forgotten_when_the_gpu_is_wanted_again),
                cmocka_unit_test(uvm_persistence_is_set_after_the_open_and_its_failure_keeps_the_hold),
                cmocka_unit_test(uvm_persistence_is_not_retried_where_it_is_not_supported),
                cmocka_unit_test(a_job_over_its_limit_is_reported_once_and_counts_as_attempted),
                cmocka_unit_test(a_failures_text_says_what_failed_why_and_what_to_do),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
