#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One measurement, in a new process like a job, which has no GPU open and no CUDA loaded before. The process keeps the
 * GPU open until sample_end(), so that the caller can check meanwhile which other processes have it open.
 *
 *      this process                   its child (fork; its only descriptors are two pipes and stderr)
 *      sample_begin() ------------->  open() or cuInit() ..., between two looks at the clock
 *      sample_wait()   <-- answer --  waits for the end of its standard input
 *      sample_end()    -- closes -->  ends
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sample {
        pid_t pid;     /* 0: none */
        int keep_fd;   /* the child ends when we close this */
        int answer_fd; /* from which its answer is read */
};

/* What the child does. Returns 0 and the time, or negative errno with a sentence in error. */
typedef int sample_take(const char *operand, uint64_t *ret_nsec, char *error, size_t error_size);

/* Opens a file; initialises CUDA with this library; only loads the library. */
sample_take sample_take_open, sample_take_cuda, sample_take_library;

/* uuid: the GPU that CUDA is to see, or NULL. Returns 0 or negative errno. */
int sample_begin(struct sample *sample, sample_take *take, const char *operand, const char *uuid);

/*
 * Returns 0 and the time; -EIO with a sentence in error; -ETIMEDOUT; or -EINTR when interrupt_fd became readable.
 */
int sample_wait(struct sample *sample, int interrupt_fd, uint64_t timeout_usec, uint64_t *ret_nsec, char *error,
                size_t error_size);

/* Ends the child and waits for it. Returns 0, or -ETIMEDOUT when it hangs in the driver; it is then left behind. */
int sample_end(struct sample *sample);
/* For CLEANUP(sample_done). */
void sample_done(struct sample *sample);
