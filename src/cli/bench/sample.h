#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * One time, taken in a process of its own, as a job would be: nothing is mapped, loaded or initialised before. It keeps
 * the GPU open until it is told to end, so that one can look meanwhile who else has it open.
 *
 *      we                                the process (process.c)
 *      sample_begin()  -- exec -------->  open() or cuInit() ..., between two looks at the clock
 *      sample_wait()   <- "ok 1503217" -  waits for the end of its standard input
 *      sample_end()    -- closes it --->  ends
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/locations.h"

struct sample {
        pid_t pid;     /* 0: none */
        int keep_fd;   /* it ends when we close this */
        int answer_fd; /* what it says */
};

/* The hidden command that the process runs, and its first words. */
#define SAMPLE_COMMAND "bench-sample"
#define SAMPLE_OPEN "open"       /* FILE */
#define SAMPLE_CUDA "cuda"       /* LIBRARY; the GPU by CUDA_VISIBLE_DEVICES */
#define SAMPLE_LIBRARY "library" /* LIBRARY: only whether it can be loaded */

/* How the answer begins. */
#define SAMPLE_OK "ok "
#define SAMPLE_ERROR "error "

/* uuid is the GPU that CUDA is to see, or NULL. Returns 0 or negative errno. */
int sample_begin(struct sample *sample, const struct locations *locations, const char *what, const char *operand,
                 const char *uuid);

/*
 * Returns 0 and the time; -EIO with its sentence in error; -ETIMEDOUT; -EINTR when interrupt_fd became readable.
 */
int sample_wait(struct sample *sample, int interrupt_fd, uint64_t timeout_usec, uint64_t *ret_nsec, char *error,
                size_t error_size);

/* Has it end, and waits for that: 0, or -ETIMEDOUT when the driver does not let it go, which then is left alone. */
int sample_end(struct sample *sample);
/* For CLEANUP(sample_done). */
void sample_done(struct sample *sample);
