/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast bench-sample open|cuda|library FILE: what bench runs to take one time (cli/bench/sample.h). Not for people,
 * and not listed in the help.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/bench/sample.h"
#include "client/cuda.h"

static const struct option_spec options[] = {{0}};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the time, or why there is none, is on standard output"},
        {STATUS_USAGE, "wrong usage"},
        {0},
};

static uint64_t now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Each leaves open what it opened: the process' end closes it. */

static int take_open(const char *path, uint64_t *ret_nsec, char *error, size_t error_size) {
        uint64_t start_nsec = now_nsec();
        int fd = open(path, O_RDWR | O_CLOEXEC);

        *ret_nsec = now_nsec() - start_nsec;
        if (fd >= 0)
                return 0;
        (void)text_format(error, error_size, "cannot open %s: %s", path, strerror(errno));
        return -errno;
}

static int take_library(const char *library, uint64_t *ret_nsec, char *error, size_t error_size) {
        CLEANUP(cuda_done) struct cuda *cuda = NULL;

        *ret_nsec = 0;
        return cuda_open(&cuda, library, error, error_size);
}

static int take_cuda(const char *library, uint64_t *ret_nsec, char *error, size_t error_size) {
        CLEANUP(cuda_done) struct cuda *cuda = NULL;
        uint64_t start_nsec;
        int r;

        r = cuda_open(&cuda, library, error, error_size);
        if (r < 0)
                return r;
        start_nsec = now_nsec();
        r = cuda_retain_context(cuda, error, error_size);
        *ret_nsec = now_nsec() - start_nsec;
        return r;
}

static const struct {
        const char *name;
        int (*take)(const char *operand, uint64_t *ret_nsec, char *error, size_t error_size);
} kinds[] = {
        {SAMPLE_CUDA, take_cuda},
        {SAMPLE_LIBRARY, take_library},
        {SAMPLE_OPEN, take_open},
};

/* Who measures closes the other end, or is gone. */
static void wait_for_end(void) {
        char byte;

        while (read(STDIN_FILENO, &byte, 1) > 0)
                ;
}

static int run(const struct invocation *invocation) {
        char error[384];
        uint64_t nsec;

        for (size_t i = 0; i < ARRAY_SIZE(kinds) && invocation->n_words == 2; i++)
                if (text_equal(kinds[i].name, invocation->words[0])) {
                        if (kinds[i].take(invocation->words[1], &nsec, error, sizeof(error)) == 0)
                                printf(SAMPLE_OK "%llu\n", (unsigned long long)nsec);
                        else
                                printf(SAMPLE_ERROR "%s\n", error);
                        (void)fflush(stdout);
                        wait_for_end();
                        return STATUS_DONE;
                }
        return complain_usage(invocation, "'holdfast bench' runs this program: use that instead");
}

const struct command bench_sample_command = {
        .name = SAMPLE_COMMAND,
        .words = "open|cuda|library FILE",
        .description = "Takes one time for 'holdfast bench', which runs this.",
        .examples = "  holdfast bench",
        .options = options,
        .exits = exits,
        .run = run,
};
