/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Measures one GPU after another, cold and held in turns, so that changes on the node affect both:
 *
 *      release --> cold? --> open, CUDA --> hold again --> held? --> open, CUDA -+
 *        ^                                                                       |
 *        +----------------------------- count times -----------------------------+
 *
 * A cold time counts only if the GPU was cold at the begin, and if no other process had it open at the end. A held time
 * counts only if the GPU was held at the begin.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/bench/bench.h"
#include "cli/bench/sample.h"
#include "cli/change/child.h"
#include "cli/node/initialised.h"

#define COLD_USEC (5 * USEC_PER_SEC) /* for the driver to tear down what was closed */
#define COLD_POLL_USEC (5 * USEC_PER_MSEC)

/* ---- progress -------------------------------------------------------------------------------------------------- */

static void show_progress(const struct bench *bench, const struct bench_gpu *gpu, const char *what) {
        if (isatty(STDERR_FILENO) == 1)
                (void)fprintf(stderr, "\r\033[KGPU %zu (%zu of %zu), turn %zu of %zu: %s", gpu->gpu->index,
                              (size_t)(gpu - bench->gpus) + 1, bench->n_gpus, bench->turn + 1, bench->count, what);
}

static void clear_progress(void) {
        if (isatty(STDERR_FILENO) == 1)
                (void)fputs("\r\033[K", stderr);
}

/* ---- one time -------------------------------------------------------------------------------------------------- */

static void discard(struct bench_series *series, const char *reason) {
        series->n_discarded++;
        text_set(series->reason, "%s", reason);
}

/*
 * Looks for a process that has the GPU open: any except `ours`, so the daemon too. Returns true, with a sentence in
 * reason, if there is one or if that is unknown.
 */
static bool find_other(const struct bench *bench, const struct bench_gpu *gpu, pid_t ours, char *reason, size_t size) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t n = 0;
        struct holders_sight sight;

        if (holders_scan(bench->invocation->locations, &holders, &n, &sight) < 0) {
                (void)text_copy(reason, size, "unknown which processes have it open: /proc cannot be read");
                return true;
        }
        if (sight.n_hanging > 0) {
                (void)text_format(reason, size, "reading the open files of process %d hangs", (int)sight.hanging_pid);
                return true;
        }
        for (size_t i = 0; i < n; i++)
                if (holders[i].minor == gpu->gpu->info.minor && holders[i].pid != ours) {
                        (void)text_format(reason, size, "%s (pid %d) had it open", holders[i].name,
                                          (int)holders[i].pid);
                        return true;
                }
        return false;
}

static bool is_initialised(const struct bench *bench, const struct bench_gpu *gpu) {
        const struct pci_address *address = &gpu->gpu->info.address;
        bool initialised;

        if (initialised_read(bench->invocation->locations, address, &initialised) == 0)
                return initialised;
        return initialised_has_interrupts(bench->invocation->locations, address);
}

/*
 * Perhaps no process has the GPU open any more, but its teardown is not over: a closing process' descriptor leaves
 * /proc first. So this waits: up to COLD_USEC, or until a signal.
 */
static bool wait_cold(const struct bench *bench, const struct bench_gpu *gpu, char *reason, size_t size) {
        uint64_t deadline_usec = clock_monotonic_usec() + COLD_USEC;

        do {
                if (find_other(bench, gpu, 0, reason, size))
                        return false;
                if (!is_initialised(bench, gpu))
                        return true;
                clock_sleep(COLD_POLL_USEC);
        } while (child_signal_kept() == 0 && clock_monotonic_usec() < deadline_usec);
        (void)text_copy(reason, size,
                        "it was initialised although nobody had it open: the kernel's own persistence flag, nvidia-drm "
                        "or a UVM client kept it so");
        return false;
}

static int begin_sample(const struct bench *bench, const struct bench_gpu *gpu, enum bench_what what,
                        struct sample *ret_sample) {
        const struct locations *locations = bench->invocation->locations;
        const char *uuid = gpu->gpu->info.uuid;
        char node[256];

        if (what == BENCH_CUDA)
                return sample_begin(ret_sample, sample_take_cuda, bench->library, uuid[0] != '\0' ? uuid : NULL);
        if (text_format(node, sizeof(node), "%s/dev/nvidia%d", locations->root, gpu->gpu->info.minor) < 0)
                return -ENAMETOOLONG;
        return sample_begin(ret_sample, sample_take_open, node, NULL);
}

static void describe_failure(int error, char *reason, size_t size) {
        if (error == -ETIMEDOUT)
                (void)text_copy(reason, size, "the driver did not answer in time; see the kernel log");
        else if (error != -EIO) /* -EIO: sample_wait() has written the reason */
                (void)text_format(reason, size, "cannot start a process: %s", strerror(-error));
}

static void end_sample(struct sample *sample, const struct bench_gpu *gpu) {
        if (sample_end(sample) < 0)
                complain_detail("GPU %s: a process of this command is stuck in the driver, and is left behind",
                                gpu->gpu->address);
}

/* Leaves the child in *sample running, with the GPU open. */
static void take(const struct bench *bench, struct bench_gpu *gpu, enum bench_what what, enum bench_state state,
                 struct sample *sample) {
        struct bench_series *series = &gpu->series[what][state];
        char reason[sizeof(series->reason)] = "";
        uint64_t nsec;
        int r;

        r = begin_sample(bench, gpu, what, sample);
        if (r == 0)
                r = sample_wait(sample, bench->signal_fd, bench->yield.timeout_usec, &nsec, reason, sizeof(reason));
        if (r == -EINTR)
                return;
        if (r < 0)
                describe_failure(r, reason, sizeof(reason));
        if (r < 0 || (state == BENCH_COLD && find_other(bench, gpu, sample->pid, reason, sizeof(reason))))
                discard(series, reason);
        else
                series->nsec[series->n++] = nsec;
}

static void measure_once(const struct bench *bench, struct bench_gpu *gpu, enum bench_what what,
                         enum bench_state state) {
        struct sample sample = {.keep_fd = -1, .answer_fd = -1};
        char reason[256];

        if (child_signal_kept() != 0)
                return;
        if (state == BENCH_COLD && !wait_cold(bench, gpu, reason, sizeof(reason))) {
                if (child_signal_kept() == 0)
                        discard(&gpu->series[what][state], reason);
                return;
        }
        take(bench, gpu, what, state, &sample);
        end_sample(&sample, gpu);
}

static void measure_all(const struct bench *bench, struct bench_gpu *gpu, enum bench_state state) {
        show_progress(bench, gpu, bench_state_names[state]);
        measure_once(bench, gpu, BENCH_OPEN, state);
        if (bench->library)
                measure_once(bench, gpu, BENCH_CUDA, state);
}

/* ---- cold, held ------------------------------------------------------------------------------------------------ */

/* Without a daemon, a child of ours keeps the GPU open as a daemon would. */
static void measure_held_by_us(const struct bench *bench, struct bench_gpu *gpu) {
        CLEANUP(sample_done) struct sample keeper = {.keep_fd = -1, .answer_fd = -1};
        char reason[256] = "";
        uint64_t nsec;
        int r;

        r = begin_sample(bench, gpu, BENCH_OPEN, &keeper);
        if (r == 0)
                r = sample_wait(&keeper, bench->signal_fd, bench->yield.timeout_usec, &nsec, reason, sizeof(reason));
        if (r == 0)
                measure_all(bench, gpu, BENCH_HELD);
        else if (r != -EINTR) {
                describe_failure(r, reason, sizeof(reason));
                discard(&gpu->series[BENCH_OPEN][BENCH_HELD], reason);
        }
}

/*
 * Since bench began, a client may have set the GPU's persistence mode to off, or the GPU may have been removed. Then
 * yield_end() has not waited for it, and an open would find it cold.
 */
static bool is_held_now(const struct bench *bench, const struct bench_gpu *gpu) {
        CLEANUP(snapshot_done) struct snapshot *now = NULL;
        const struct snapshot_gpu *row;

        if (command_look(bench->invocation, SNAPSHOT_DAEMON | SNAPSHOT_QUICK, COMMAND_ANSWER_USEC, &now) != STATUS_DONE)
                return false;
        row = snapshot_find(now, &gpu->gpu->info.address);
        return row && row->held == HF_YES;
}

static void measure_held(const struct bench *bench, struct bench_gpu *gpu) {
        if (bench->yield.snapshot->daemon == DAEMON_NONE)
                measure_held_by_us(bench, gpu);
        else if (gpu->gpu->held != HF_YES)
                discard(&gpu->series[BENCH_OPEN][BENCH_HELD], "the daemon does not hold it: 'holdfast set on' first");
        else if (!is_held_now(bench, gpu))
                discard(&gpu->series[BENCH_OPEN][BENCH_HELD], "the daemon does not hold it any more");
        else
                measure_all(bench, gpu, BENCH_HELD);
}

/* NULL: all. */
static void select_only(struct bench *bench, const struct bench_gpu *gpu) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                bench->gpus[i].gpu->selected = !gpu || gpu == &bench->gpus[i];
}

static int measure_turn(struct bench *bench, struct bench_gpu *gpu) {
        int status;

        select_only(bench, gpu);
        if (!bench->held_only) {
                status = yield_begin(&bench->yield);
                if (status != STATUS_DONE)
                        return status;
                measure_all(bench, gpu, BENCH_COLD);
                show_progress(bench, gpu, "holding again");
                status = yield_end(&bench->yield);
                if (status != STATUS_DONE)
                        return status;
        }
        measure_held(bench, gpu);
        return STATUS_DONE;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static int measure_turns(struct bench *bench) {
        for (size_t i = 0; i < bench->n_gpus; i++)
                for (bench->turn = 0; bench->turn < bench->count; bench->turn++) {
                        int status = measure_turn(bench, &bench->gpus[i]);

                        if (status != STATUS_DONE || child_signal_kept() != 0)
                                return status;
                }
        return STATUS_DONE;
}

/* Has all GPUs held again and waits for that, whatever came before. As `repeated` is off, yield_end() unblocks signals
 * when nothing is left to undo. A signal then ends this process. */
static int take_hold_of_all(struct bench *bench) {
        select_only(bench, NULL);
        bench->yield.repeated = false;
        return yield_end(&bench->yield);
}

static int summarise(struct bench *bench) {
        int r = 0;

        for (size_t i = 0; i < bench->n_gpus; i++)
                for (size_t j = 0; j < BENCH_WHATS * BENCH_STATES && r == 0; j++) {
                        struct bench_series *series = &bench->gpus[i].series[j / BENCH_STATES][j % BENCH_STATES];

                        r = statistics_of(series->nsec, series->n, &series->statistics);
                }
        return r == 0 ? STATUS_DONE : complain_memory(bench->invocation);
}

int bench_measure(struct bench *bench) {
        int status, again = STATUS_DONE, number;

        bench->yield.repeated = true;
        status = measure_turns(bench);
        clear_progress();
        number = child_take_signal();
        if (number != 0)
                status = complain(bench->invocation, CHILD_SIGNALLED + number, "stopped by %s", strsignal(number));
        if (!bench->held_only && status != STATUS_TIMEOUT) /* STATUS_TIMEOUT: yield_end() has waited already */
                again = take_hold_of_all(bench);
        if (summarise(bench) != STATUS_DONE)
                status = STATUS_FAILED;
        return again != STATUS_DONE ? again : status; /* GPUs that are not held again matter most */
}
