/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast bench: what a held GPU is worth on this node. */

#include "cli/bench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/bench/sample.h"
#include "cli/change/child.h"
#include "client/cuda.h"

#define LIBRARY_USEC (30 * USEC_PER_SEC) /* to load a library, from a slow disk too */

static struct bench_options {
        struct ids gpus;
        uint64_t count;
        bool held_only;
        bool yes;
        const char *cuda;
        bool json;
        uint64_t timeout_usec;
} chosen = {
        .count = 5,
        .timeout_usec = 120 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct bench_options, "only this GPU; may be given several times (default: all)"),
        {
                .name = "count",
                .letter = 'n',
                .argument = "N",
                .help = "number of measurements of each kind (default 5)",
                .kind = OPTION_NUMBER,
                .offset = offsetof(struct bench_options, count),
                .minimum = 1,
                .maximum = 1000,
        },
        OPTION_SWITCH(struct bench_options, held_only, "held-only", "make no GPU cold; measure only held ones"),
        OPTION_LETTER(struct bench_options, yes, "yes", 'y', "do not ask for confirmation before making GPUs cold"),
        OPTION_VALUE(struct bench_options, cuda, OPTION_TEXT, "cuda", "FILE",
                     "CUDA's driver library (default: " CUDA_LIBRARY " where there is one; required with --root)"),
        OPTION_JSON(struct bench_options, "print JSON (docs/schemas/bench.json)"),
        OPTION_TIMEOUT(struct bench_options,
                       "wait this long for each release and open, and for GPUs to be held again (default 120)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "measured, and every GPU that was held is held again"},
        {STATUS_FAILED, "not everything was measured: GPUs in use or not really cold, no permission, no confirmation"},
        {STATUS_USAGE, "wrong usage; also: no terminal to ask on, and no --yes"},
        {STATUS_NO_DAEMON, "--held-only, and no daemon holds the GPUs"},
        {STATUS_NO_GPU, "no such GPU"},
        {STATUS_TIMEOUT, "the GPUs are not held again in time"},
        {CHILD_SIGNALLED, "plus a signal's number: stopped by that signal; the GPUs are held again"},
        {0},
};

static void bench_done(struct bench *bench) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t j = 0; j < BENCH_WHATS * BENCH_STATES; j++)
                        free(bench->gpus[i].series[j / BENCH_STATES][j % BENCH_STATES].nsec);
        free(bench->gpus);
        yield_done(&bench->yield);
        bench->signal_fd = fd_close(bench->signal_fd);
}

/* ---- which GPUs ------------------------------------------------------------------------------------------------ */

static int add_gpu(struct bench *bench, struct snapshot_gpu *row) {
        struct bench_gpu *gpu = &bench->gpus[bench->n_gpus++];

        *gpu = (struct bench_gpu){.gpu = row};
        for (size_t j = 0; j < BENCH_WHATS * BENCH_STATES; j++) {
                struct bench_series *series = &gpu->series[j / BENCH_STATES][j % BENCH_STATES];

                series->nsec = calloc(bench->count, sizeof(*series->nsec));
                if (!series->nsec)
                        return -ENOMEM;
        }
        return 0;
}

static int add_gpus(struct bench *bench) {
        const struct snapshot *snapshot = bench->yield.snapshot;
        int r = 0;

        bench->gpus = calloc(snapshot->n_gpus + 1, sizeof(*bench->gpus));
        if (!bench->gpus)
                return -ENOMEM;
        each_selected(gpu, snapshot)
                if (r == 0)
                        r = add_gpu(bench, gpu);
        return r;
}

static int select_gpus(struct bench *bench) {
        int status = command_select(bench->invocation, &chosen.gpus, STATUS_FAILED, bench->yield.snapshot);

        if (status != STATUS_DONE)
                return status;
        if (add_gpus(bench) < 0)
                return complain_memory(bench->invocation);
        if (bench->n_gpus == 0)
                return complain(bench->invocation, STATUS_NO_GPU, "there are no GPUs");
        return STATUS_DONE;
}

static int check_held(const struct bench *bench) {
        const struct snapshot *snapshot = bench->yield.snapshot;

        if (bench->held_only && snapshot->daemon == DAEMON_NONE)
                return complain(bench->invocation, STATUS_NO_DAEMON,
                                "%s: nobody holds the GPUs, so --held-only has "
                                "nothing to measure",
                                snapshot->daemon_error);
        return STATUS_DONE;
}

/* ---- CUDA ------------------------------------------------------------------------------------------------------ */

/* Tries to load the library, in a process of its own. */
static int find_library(struct bench *bench) {
        const char *library = chosen.cuda ? chosen.cuda : CUDA_LIBRARY;
        CLEANUP(sample_done) struct sample sample = {.keep_fd = -1, .answer_fd = -1};
        uint64_t unused_nsec;
        int r;

        if (!chosen.cuda && !bench->invocation->locations->has_cuda) {
                text_set(bench->cuda_reason, "with a simulated driver, name the library with --cuda");
                return STATUS_DONE;
        }
        r = sample_begin(&sample, sample_take_library, library, NULL);
        if (r == 0)
                r = sample_wait(&sample, bench->signal_fd, LIBRARY_USEC, &unused_nsec, bench->cuda_reason,
                                sizeof(bench->cuda_reason));
        if (r == 0)
                bench->library = library;
        else if (r != -EIO)
                text_set(bench->cuda_reason, "cannot find out whether %s can be loaded: %s", library, strerror(-r));
        if (r < 0 && chosen.cuda)
                return complain(bench->invocation, STATUS_FAILED, "%s", bench->cuda_reason);
        return STATUS_DONE;
}

/* ---- may it be done -------------------------------------------------------------------------------------------- */

/*
 * How long the measurement will take, estimated from the daemon's last opens; 0: unknown. In each turn a GPU is opened
 * cold once for each kind of time (open, CUDA), and once more by the daemon.
 */
static unsigned estimate_sec(const struct bench *bench) {
        uint64_t usec = 0;

        for (size_t i = 0; i < bench->n_gpus; i++)
                usec += bench->gpus[i].gpu->detail.open_duration_usec;
        usec *= bench->count * (bench->library ? 3 : 2);
        return (unsigned)((usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
}

static void explain(const struct bench *bench) {
        unsigned seconds = estimate_sec(bench);

        (void)complain(bench->invocation, STATUS_DONE,
                       "this makes %zu GPU%s cold, one after another, %zu time%s each: the driver tears %s down and "
                       "initialises %s again. Settings that are not kept (power limits, clocks) return to their "
                       "defaults, and a job that starts meanwhile waits, or spoils a measurement.",
                       bench->n_gpus, text_plural(bench->n_gpus), bench->count, text_plural(bench->count),
                       bench->n_gpus == 1 ? "it" : "them", bench->n_gpus == 1 ? "it" : "them");
        if (seconds > 0)
                complain_detail("Judging by the daemon's last opens, this takes some %u %s.",
                                seconds < 120 ? seconds : seconds / 60, seconds < 120 ? "seconds" : "minutes");
        if (bench->yield.snapshot->daemon == DAEMON_NVIDIA)
                complain_detail("NVIDIA's daemon has no leases, so persistence mode is switched off and on. If this "
                                "process is killed in between, it stays off; run 'holdfast set on' then.");
        if (bench->yield.snapshot->daemon == DAEMON_NONE)
                complain_detail("No daemon runs, so a process of this command holds the GPUs for the measurements on "
                                "held ones.");
}

static bool is_yes(const char *answer) {
        return text_equal_nocase(answer, "y") || text_equal_nocase(answer, "yes");
}

static int ask(const struct bench *bench) {
        char answer[16];

        if (bench->held_only || chosen.yes)
                return STATUS_DONE;
        if (isatty(STDIN_FILENO) != 1)
                return complain(
                        bench->invocation, STATUS_USAGE,
                        "this would make GPUs cold, and there is no terminal to ask on: use --yes or --held-only");
        explain(bench);
        (void)fputs("Go on? [y/N] ", stderr);
        if (!fgets(answer, sizeof(answer), stdin))
                (void)fputc('\n', stderr);
        else if (is_yes(text_trim(answer)))
                return STATUS_DONE;
        return complain(bench->invocation, STATUS_FAILED, "nothing was done");
}

/* ---- what came of it ------------------------------------------------------------------------------------------- */

static bool is_complete(const struct bench *bench) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t j = 0; j < BENCH_WHATS * BENCH_STATES; j++)
                        if (bench->gpus[i].series[j / BENCH_STATES][j % BENCH_STATES].n_discarded > 0)
                                return false;
        return true;
}

static int report(const struct bench *bench) {
        struct report_style style = report_style_of(stdout);
        int status = STATUS_DONE;

        if (chosen.json)
                status = command_print_json(bench->invocation, bench_json(bench));
        else if (bench_print_text(bench, &style, stdout) < 0)
                status = complain_memory(bench->invocation);
        return status != STATUS_DONE || is_complete(bench) ? status : STATUS_FAILED;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static int prepare(struct bench *bench) {
        int status;

        bench->signal_fd = child_signal_fd();
        if (bench->signal_fd < 0)
                return complain(bench->invocation, STATUS_FAILED, "cannot wait for signals: %s",
                                strerror(-bench->signal_fd));
        status = yield_look(&bench->yield);
        if (status == STATUS_DONE)
                status = select_gpus(bench);
        if (status == STATUS_DONE)
                status = check_held(bench);
        if (status == STATUS_DONE)
                status = yield_check_clients(&bench->yield, false);
        if (status == STATUS_DONE)
                status = find_library(bench);
        return status == STATUS_DONE ? ask(bench) : status;
}

static int run(const struct invocation *invocation) {
        CLEANUP(bench_done)
        struct bench bench = {
                .invocation = invocation,
                .count = (size_t)chosen.count,
                .held_only = chosen.held_only,
                .signal_fd = -1,
                .yield = {.invocation = invocation,
                          .user = "the measurement",
                          .way_out = "choose others with --gpu",
                          .failed_status = STATUS_FAILED,
                          .not_held_status = STATUS_TIMEOUT,
                          .timeout_usec = chosen.timeout_usec},
        };
        int status, told;

        status = prepare(&bench);
        if (status != STATUS_DONE)
                return status;
        child_keep_signals();
        status = bench_measure(&bench);
        told = report(&bench);
        return status == STATUS_DONE ? told : status;
}

const struct command bench_command = {
        .name = "bench",
        .summary = "measure what holding a GPU saves on this node",
        .description = "Measures the first open of each GPU, and with CUDA a first context: on the cold\n"
                       "GPU (released by the daemon) and on the held one, in turns, each in a new\n"
                       "process. Refuses GPUs that other processes use. At the end, the GPUs are always\n"
                       "held again.",
        .examples = "  holdfast bench --gpu 0 --count 10\n"
                    "  holdfast bench --held-only",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
