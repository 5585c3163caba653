#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * The life of one GPU, as a state machine without threads, clocks or descriptors of its own. It decides which job comes
 * next, and which state follows from a job's result. Its owner (daemon/gpus/registry.c) runs one job at a time for each
 * GPU.
 *
 *                  wanted                    ok                      not wanted
 *      RELEASED ------------> OPENING --------------> HELD ------------------------> CLOSING
 *        ^  ^                  |    ^                  |  ^                             | |
 *        |  |           failed |    | pause is over    |  +-- UVM on, off               | |
 *        |  |                  v    |                  |      (jobs while held)         | |
 *        |  +-- not wanted -- FAILED                   +<------- the close failed ------+ |
 *        +-------------------------------------- closed ----------------------------------+
 *
 * Times are microseconds of the monotonic clock, passed by the caller.
 */

#include "gpu/backend.h"

enum gpu_state {
        GPU_RELEASED,
        GPU_OPENING,
        GPU_HELD,
        GPU_CLOSING,
        GPU_FAILED,
};

/* What a worker does in the driver. */
enum gpu_job {
        GPU_JOB_NONE,
        GPU_JOB_OPEN,
        GPU_JOB_ADOPT, /* like an open, with descriptors of a previous process */
        GPU_JOB_CLOSE,
        GPU_JOB_UVM_ENABLE,
        GPU_JOB_UVM_DISABLE,
        GPU_JOB_NUMA_ONLINE,
        GPU_JOB_NUMA_OFFLINE,
};

/* A question to the driver about a GPU. It runs separately from the GPU's job, which would otherwise wait for the
 * answer. */
enum gpu_question {
        GPU_QUESTION_NONE,
        GPU_QUESTION_LEGACY,  /* whether it has the legacy flag */
        GPU_QUESTION_FAILURE, /* why the last open failed */
};

struct gpu {
        struct gpu_info info;
        enum gpu_state state;
        struct gpu_hold hold;

        bool adopting;   /* hold has descriptors of a previous process that are not checked yet */
        bool wanted;     /* to be held */
        bool uvm_wanted; /* to have UVM persistence while held */

        enum gpu_job job;        /* in the driver now */
        uint64_t job_since_usec; /* meaningful with a job */
        bool stuck;              /* the job has been in the driver for longer than the limit */
        bool attempted;          /* the first open has ended, either way, or is stuck */

        struct gpu_failure failure; /* of the last open or close; cleared by a success */
        unsigned failures_in_row;
        uint64_t retry_usec; /* the next job begins no earlier: the end of a failure's pause, or when to adopt */

        struct gpu_failure uvm_failure; /* why UVM persistence is not on yet */
        unsigned uvm_failures_in_row;
        uint64_t uvm_retry_usec; /* UINT64_MAX: not supported */

        enum gpu_legacy legacy; /* while held */
        bool legacy_due;        /* ask the driver for it */
        uint64_t legacy_usec;   /* when it was last read */
        bool failure_due;       /* ask the driver about the failure */

        uint64_t since_realtime_usec; /* of the last change of state; set by the caller that runs the jobs */
        uint64_t open_duration_usec;  /* of the last successful open */
        uint32_t opens;               /* successful opens of this process, without adoptions */
        uint32_t failures;            /* failed opens */
};

void gpu_init(struct gpu *gpu, const struct gpu_info *info);

/* The pause before the n-th retry in a row (n from 1). It doubles each time, and is shorter for temporary errors. */
uint64_t gpu_retry_pause_usec(int error, unsigned n);

/*
 * Gives descriptors of a previous process to a released GPU without a job. They are adopted at due_usec
 * (CLOCK_MONOTONIC); 0: at once.
 */
void gpu_adopt(struct gpu *gpu, const struct gpu_hold *hold, uint64_t due_usec);

/* Whether nothing of the GPU is open: no descriptors of a previous process wait for their adoption either. */
bool gpu_is_closed(const struct gpu *gpu);

/* Sets whether the GPU is wanted. A GPU that has failed and is no longer wanted becomes RELEASED. */
void gpu_want(struct gpu *gpu, bool wanted);

/* Ends the pause after a failure, or before an adoption: the next job starts at once. UVM's pause stays. */
void gpu_retry_now(struct gpu *gpu);

/*
 * Requests that the legacy flag is read again, unless it was read in the last seconds. The driver reports it only for a
 * held GPU.
 */
void gpu_refresh(struct gpu *gpu, uint64_t now_usec);

/*
 * The job to start now, or GPU_JOB_NONE. *ret_wake_usec is when to ask again if nothing happens before: the end of a
 * pause, or UINT64_MAX.
 */
enum gpu_job gpu_next(const struct gpu *gpu, uint64_t now_usec, uint64_t *ret_wake_usec);

/* A job was started. The caller must call gpu_end() at its end, before it starts the next job. */
void gpu_begin(struct gpu *gpu, enum gpu_job job, uint64_t now_usec);

/* The running job has ended: hold is as the backend left it; failure is the reason if result is negative. */
void gpu_end(struct gpu *gpu, int result, const struct gpu_hold *hold, const struct gpu_failure *failure,
             uint64_t now_usec);

/* Marks the GPU as stuck if the running job exceeds the limit. Returns whether it was not marked before. */
bool gpu_check_stuck(struct gpu *gpu, uint64_t now_usec, uint64_t limit_usec);

/* The question to ask now, or GPU_QUESTION_NONE. */
enum gpu_question gpu_next_question(const struct gpu *gpu);

/* ---- one job, as a worker thread runs it ---- */

struct gpu_task {
        const struct gpu_ops *ops;
        void *context;
        enum gpu_job job;
        struct gpu_info info;
        struct gpu_hold hold; /* in: the hold; out: what is left of it */
        int result;           /* out */
        struct gpu_failure failure;
};

/* Enters the driver and may sleep. Uses only the task. */
void gpu_task_run(struct gpu_task *task);

/* ---- one question, on a worker thread ---- */

struct gpu_inquiry {
        const struct gpu_ops *ops;
        void *context;
        enum gpu_question question;
        struct gpu_info info;
        uint32_t opens, failures; /* of the GPU at the time of the question; if they changed, the answer is outdated */
        enum gpu_legacy legacy;   /* out */
        int result;               /* out */
        struct gpu_failure failure;
};

/* Begins the question that gpu_next_question() returned: fills inquiry except ops and context. */
void gpu_begin_question(struct gpu *gpu, enum gpu_question question, struct gpu_inquiry *inquiry);

/* Enters the driver and may sleep. Uses only the inquiry. */
void gpu_inquiry_run(struct gpu_inquiry *inquiry);

/* Takes the answer, unless it is outdated. Returns whether it changed something. */
bool gpu_end_question(struct gpu *gpu, const struct gpu_inquiry *inquiry, uint64_t now_usec);
