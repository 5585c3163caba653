/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/gpu.h"

#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "base/text.h"

/* Pauses before retries: short for transient errors (a node that is not created yet), long for others. */
#define TRANSIENT_PAUSE_USEC (100 * USEC_PER_MSEC)
#define TRANSIENT_PAUSE_MAX_USEC (5 * USEC_PER_SEC)
#define PAUSE_USEC (1 * USEC_PER_SEC)
#define PAUSE_MAX_USEC (60 * USEC_PER_SEC)

/* Limits how often clients that read the list make us ask the driver. */
#define REFRESH_USEC (5 * USEC_PER_SEC)

void gpu_init(struct gpu *gpu, const struct gpu_info *info) {
        *gpu = (struct gpu){
                .info = *info,
                .state = GPU_RELEASED,
                .hold = GPU_HOLD_NONE,
        };
}

uint64_t gpu_retry_pause_usec(int error, unsigned n) {
        bool transient = gpu_failure_is_transient(error);
        uint64_t pause_usec = transient ? TRANSIENT_PAUSE_USEC : PAUSE_USEC;
        uint64_t maximum_usec = transient ? TRANSIENT_PAUSE_MAX_USEC : PAUSE_MAX_USEC;

        for (unsigned i = 1; i < n && pause_usec < maximum_usec; i++)
                pause_usec *= 2;
        return pause_usec < maximum_usec ? pause_usec : maximum_usec;
}

void gpu_adopt(struct gpu *gpu, const struct gpu_hold *hold, uint64_t due_usec) {
        assert(gpu->state == GPU_RELEASED && gpu->job == GPU_JOB_NONE);
        gpu->hold = *hold;
        gpu->adopting = true;
        gpu->retry_usec = due_usec;
}

bool gpu_is_closed(const struct gpu *gpu) {
        return gpu->state == GPU_RELEASED && gpu->job == GPU_JOB_NONE && !gpu->adopting;
}

static void note_success(struct gpu *gpu) {
        gpu->failure = (struct gpu_failure){0};
        gpu->failure_due = false;
        gpu->failures_in_row = 0;
        gpu->retry_usec = 0;
}

/* If a GPU whose close failed is wanted again, it is held as wanted, and the failure does not matter. */
static void forgive_close(struct gpu *gpu) {
        if (gpu->wanted && gpu->state == GPU_HELD && gpu->failure.error != 0)
                note_success(gpu);
}

void gpu_want(struct gpu *gpu, bool wanted) {
        gpu->wanted = wanted;
        if (!wanted && gpu->state == GPU_FAILED)
                gpu->state = GPU_RELEASED;
        forgive_close(gpu);
}

void gpu_retry_now(struct gpu *gpu) {
        gpu->retry_usec = 0;
}

void gpu_refresh(struct gpu *gpu, uint64_t now_usec) {
        if (gpu->state == GPU_HELD && now_usec >= gpu->legacy_usec + REFRESH_USEC)
                gpu->legacy_due = true;
}

static enum gpu_job after_pause(enum gpu_job job, uint64_t due_usec, uint64_t now_usec, uint64_t *ret_wake_usec) {
        if (now_usec >= due_usec)
                return job;
        if (due_usec < *ret_wake_usec)
                *ret_wake_usec = due_usec;
        return GPU_JOB_NONE;
}

static enum gpu_job next_of_held(const struct gpu *gpu, uint64_t now_usec, uint64_t *ret_wake_usec) {
        if (!gpu->wanted)
                return after_pause(GPU_JOB_CLOSE, gpu->retry_usec, now_usec, ret_wake_usec);
        if (gpu->uvm_wanted != gpu->hold.uvm)
                return after_pause(gpu->uvm_wanted ? GPU_JOB_UVM_ENABLE : GPU_JOB_UVM_DISABLE, gpu->uvm_retry_usec,
                                   now_usec, ret_wake_usec);
        return GPU_JOB_NONE;
}

enum gpu_job gpu_next(const struct gpu *gpu, uint64_t now_usec, uint64_t *ret_wake_usec) {
        *ret_wake_usec = UINT64_MAX;
        if (gpu->job != GPU_JOB_NONE)
                return GPU_JOB_NONE;
        if (gpu->adopting) /* even if it is not wanted: then it must be closed properly */
                return after_pause(GPU_JOB_ADOPT, gpu->retry_usec, now_usec, ret_wake_usec);
        if (gpu->state == GPU_HELD)
                return next_of_held(gpu, now_usec, ret_wake_usec);
        return gpu->wanted ? after_pause(GPU_JOB_OPEN, gpu->retry_usec, now_usec, ret_wake_usec) : GPU_JOB_NONE;
}

void gpu_begin(struct gpu *gpu, enum gpu_job job, uint64_t now_usec) {
        assert(gpu->job == GPU_JOB_NONE && job != GPU_JOB_NONE);
        gpu->job = job;
        gpu->job_since_usec = now_usec;
        if (job == GPU_JOB_OPEN || job == GPU_JOB_ADOPT)
                gpu->state = GPU_OPENING;
        else if (job == GPU_JOB_CLOSE)
                gpu->state = GPU_CLOSING;
}

/* The driver reports the legacy flag only for a GPU that this process holds. */
static void note_held(struct gpu *gpu, bool held) {
        gpu->legacy = GPU_LEGACY_UNKNOWN;
        gpu->legacy_due = held;
}

static void note_failure(struct gpu *gpu, const struct gpu_failure *failure, uint64_t now_usec) {
        gpu->failure = *failure;
        gpu->failures_in_row++;
        gpu->retry_usec = now_usec + gpu_retry_pause_usec(failure->error, gpu->failures_in_row);
}

static void end_open(struct gpu *gpu, int result, const struct gpu_failure *failure, uint64_t now_usec) {
        gpu->attempted = true;
        if (result < 0) {
                gpu->state = gpu->wanted ? GPU_FAILED : GPU_RELEASED;
                gpu->failures++;
                note_failure(gpu, failure, now_usec);
                gpu->failure_due = result == -EIO || result == -EBUSY; /* other errors are clear enough */
                return;
        }
        gpu->state = GPU_HELD;
        gpu->opens++;
        gpu->open_duration_usec = now_usec - gpu->job_since_usec;
        gpu->uvm_retry_usec = 0;
        gpu->uvm_failures_in_row = 0;
        note_held(gpu, true);
        note_success(gpu);
}

/* A GPU that cannot be adopted is opened at once. */
static void end_adopt(struct gpu *gpu, int result) {
        gpu->adopting = false;
        gpu->retry_usec = 0;
        gpu->state = result < 0 ? GPU_RELEASED : GPU_HELD;
        gpu->attempted |= result >= 0;
        note_held(gpu, result >= 0);
}

static void end_close(struct gpu *gpu, int result, const struct gpu_failure *failure, uint64_t now_usec) {
        if (result < 0) { /* still held; retried after a pause */
                gpu->state = GPU_HELD;
                note_failure(gpu, failure, now_usec);
                forgive_close(gpu);
                return;
        }
        gpu->state = GPU_RELEASED;
        gpu->uvm_failure = (struct gpu_failure){0};
        note_held(gpu, false);
        note_success(gpu);
}

static void end_uvm(struct gpu *gpu, int result, const struct gpu_failure *failure, uint64_t now_usec) {
        if (result >= 0) {
                gpu->uvm_failure = (struct gpu_failure){0};
                gpu->uvm_failures_in_row = 0;
                return;
        }
        gpu->uvm_failure = *failure;
        gpu->uvm_failures_in_row++;
        /* -EAGAIN: the fabric is not ready before its manager is done, so retry every second, like NVIDIA's daemon. */
        if (result == -EOPNOTSUPP)
                gpu->uvm_retry_usec = UINT64_MAX;
        else if (result == -EAGAIN)
                gpu->uvm_retry_usec = now_usec + USEC_PER_SEC;
        else
                gpu->uvm_retry_usec = now_usec + gpu_retry_pause_usec(result, gpu->uvm_failures_in_row);
}

void gpu_end(struct gpu *gpu, int result, const struct gpu_hold *hold, const struct gpu_failure *failure,
             uint64_t now_usec) {
        enum gpu_job job = gpu->job;

        assert(job != GPU_JOB_NONE);
        gpu->job = GPU_JOB_NONE;
        gpu->stuck = false;
        gpu->hold = *hold;
        if (job == GPU_JOB_OPEN)
                end_open(gpu, result, failure, now_usec);
        else if (job == GPU_JOB_ADOPT)
                end_adopt(gpu, result);
        else if (job == GPU_JOB_CLOSE)
                end_close(gpu, result, failure, now_usec);
        else if (job == GPU_JOB_UVM_ENABLE || job == GPU_JOB_UVM_DISABLE)
                end_uvm(gpu, result, failure, now_usec);
}

bool gpu_check_stuck(struct gpu *gpu, uint64_t now_usec, uint64_t limit_usec) {
        if (gpu->job == GPU_JOB_NONE || gpu->stuck || now_usec < gpu->job_since_usec + limit_usec)
                return false;
        gpu->stuck = true;
        gpu->attempted = true;
        return true;
}

void gpu_task_run(struct gpu_task *task) {
        const struct gpu_ops *ops = task->ops;

        switch (task->job) {
        case GPU_JOB_OPEN:
                task->result = ops->open(task->context, &task->info.address, &task->hold, &task->failure);
                break;
        case GPU_JOB_ADOPT:
                task->result = ops->adopt(task->context, &task->info.address, &task->hold, &task->failure);
                break;
        case GPU_JOB_CLOSE:
                task->result = ops->close(task->context, &task->info, &task->hold, &task->failure);
                break;
        case GPU_JOB_UVM_ENABLE:
                task->result = ops->uvm_enable(task->context, &task->info, &task->hold, &task->failure);
                break;
        case GPU_JOB_UVM_DISABLE:
                task->result = ops->uvm_disable(task->context, &task->info, &task->hold, &task->failure);
                break;
        case GPU_JOB_NUMA_ONLINE:
        case GPU_JOB_NUMA_OFFLINE:
                task->result = ops->numa_set(task->context, &task->info.address, &task->hold,
                                             task->job == GPU_JOB_NUMA_ONLINE, &task->failure);
                break;
        case GPU_JOB_NONE:
                break;
        }
}

/* ---- questions ---- */

enum gpu_question gpu_next_question(const struct gpu *gpu) {
        if (gpu->state == GPU_HELD && gpu->legacy_due)
                return GPU_QUESTION_LEGACY;
        if (gpu->state == GPU_FAILED && gpu->failure_due)
                return GPU_QUESTION_FAILURE;
        return GPU_QUESTION_NONE;
}

void gpu_begin_question(struct gpu *gpu, enum gpu_question question, struct gpu_inquiry *inquiry) {
        inquiry->question = question;
        inquiry->info = gpu->info;
        inquiry->opens = gpu->opens;
        inquiry->failures = gpu->failures;
        inquiry->legacy = GPU_LEGACY_UNKNOWN;
        inquiry->failure = gpu->failure;
        if (question == GPU_QUESTION_LEGACY)
                gpu->legacy_due = false;
        else
                gpu->failure_due = false;
}

void gpu_inquiry_run(struct gpu_inquiry *inquiry) {
        const struct gpu_ops *ops = inquiry->ops;

        if (inquiry->question == GPU_QUESTION_LEGACY && ops->query)
                inquiry->result = ops->query(inquiry->context, &inquiry->info, &inquiry->legacy, &inquiry->failure);
        else if (inquiry->question == GPU_QUESTION_FAILURE && ops->explain)
                ops->explain(inquiry->context, &inquiry->info, &inquiry->failure);
}

static bool take_legacy(struct gpu *gpu, const struct gpu_inquiry *inquiry, uint64_t now_usec) {
        bool news = inquiry->legacy != gpu->legacy;

        if (gpu->state != GPU_HELD || gpu->opens != inquiry->opens)
                return false;
        gpu->legacy = inquiry->legacy;
        gpu->legacy_usec = now_usec;
        return news;
}

static bool take_explanation(struct gpu *gpu, const struct gpu_inquiry *inquiry) {
        bool news = !text_equal(gpu->failure.text, inquiry->failure.text);

        if (gpu->failure.error == 0 || gpu->failures != inquiry->failures || gpu->opens != inquiry->opens)
                return false;
        gpu->failure = inquiry->failure;
        return news;
}

bool gpu_end_question(struct gpu *gpu, const struct gpu_inquiry *inquiry, uint64_t now_usec) {
        return inquiry->question == GPU_QUESTION_LEGACY ? take_legacy(gpu, inquiry, now_usec)
                                                        : take_explanation(gpu, inquiry);
}
