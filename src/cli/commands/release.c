/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast release: releases GPUs while a command works on them, and has them held again whatever happens.
 *
 *      other clients? --> release --> COMMAND --> hold again --> wait for that
 */

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/change/child.h"
#include "cli/change/yield.h"
#include "cli/report/report.h"

/* Numbers that commands rarely use, as timeout(1) and env(1) have them. */
enum {
        RELEASE_LEASE_LOST = 123,
        RELEASE_NOT_HELD_AGAIN = 124,
        RELEASE_FAILED = 125,
};

static struct release_options {
        struct ids gpus;
        bool all;
        bool force;
        bool dry_run;
        bool json;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 120 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct release_options, "only this GPU; may be given several times (default: all)"),
        OPTION_SWITCH(struct release_options, all, "all", "all GPUs (the default); makes scripts explicit"),
        OPTION_SWITCH(struct release_options, dry_run, "dry-run",
                      "only print what would be done, and whether it is possible"),
        OPTION_SWITCH(struct release_options, force, "force", "run even if other processes have the GPUs open"),
        OPTION_JSON(struct release_options, "with --dry-run: print JSON (docs/schemas/release.json)"),
        OPTION_TIMEOUT(struct release_options,
                       "wait that long for the GPUs to be released, and to be held again (default 120)"),
        {0},
};

static const struct command_exit exits[] = {
        {0, "COMMAND succeeded, and the GPUs are held again; any other number below 123: COMMAND's own"},
        {RELEASE_LEASE_LOST,
         "the lease was lost: the daemon may hold the GPUs while COMMAND works on them; COMMAND continues"},
        {RELEASE_NOT_HELD_AGAIN,
         "COMMAND succeeded, but not every GPU is held again in time, or a GPU is drained (nvidia-smi drain)"},
        {RELEASE_FAILED,
         "COMMAND was not run: wrong usage, no permission, other processes have the GPUs open, or the daemon refused"},
        {CHILD_NOT_EXECUTABLE, "COMMAND cannot be executed"},
        {CHILD_NOT_FOUND, "COMMAND is not found"},
        {CHILD_SIGNALLED, "plus a signal's number: that signal ended COMMAND"},
        {0},
};

struct release {
        const struct invocation *invocation;
        struct yield yield;
        size_t n_selected;
        char addresses[IDS_MAX * PCI_ADDRESS_SIZE]; /* "0000:17:00.0,0000:3a:00.0" */
};

static void release_done(struct release *release) {
        yield_done(&release->yield);
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static bool is_lost(void *userdata) {
        return yield_is_lost(userdata);
}

static int complain_lost(const struct release *release, pid_t pid) {
        return complain(release->invocation, RELEASE_LEASE_LOST,
                        "the lease is lost: the daemon has closed the connection, and may hold the GPUs again while "
                        "COMMAND (pid %d) works on them. COMMAND was left running. See the daemon's log",
                        (int)pid);
}

static int run_released(struct release *release) {
        const struct invocation *invocation = release->invocation;
        struct child_watch watch = {.is_over = is_lost, .userdata = &release->yield};
        uint64_t start_usec = clock_monotonic_usec();
        int status, again;

        status = yield_begin(&release->yield);
        if (status != STATUS_DONE)
                return status;
        if (release->yield.snapshot->daemon != DAEMON_NONE)
                (void)complain(invocation, STATUS_DONE, "%zu GPU%s released in %s: %s", release->n_selected,
                               text_plural(release->n_selected),
                               report_duration(clock_monotonic_usec() - start_usec).text, release->addresses);
        child_keep_signals();
        watch.fd = yield_lease_fd(&release->yield);
        status = child_run(invocation->program, invocation->words, "HOLDFAST_GPUS", release->addresses, &watch);
        if (status == CHILD_LEFT)
                return complain_lost(release, watch.pid);
        if (status < 0)
                status = complain(invocation, RELEASE_FAILED, "cannot start a process: %s", strerror(-status));
        again = yield_end(&release->yield);
        return status != STATUS_DONE ? status : again;
}

static void plan_in_text(const struct release *release) {
        static const char *const means[] = {
                [DAEMON_NONE] = "although no daemon holds any",
                [DAEMON_HOLDFAST] = "by a lease that ends with this process",
                [DAEMON_NVIDIA] = "by setting persistence mode off, and on afterwards",
        };
        const struct snapshot *snapshot = release->yield.snapshot;

        printf("would release %zu GPU%s, %s:\n", release->n_selected, text_plural(release->n_selected),
               means[snapshot->daemon]);
        each_selected(gpu, snapshot)
                printf("  %s: %s\n", gpu->label, yield_was_held(gpu) ? "held, and would be held again" : "not held");
        if (release->invocation->n_words == 0)
                return;
        (void)fputs("would run:", stdout);
        for (int i = 0; i < release->invocation->n_words; i++)
                printf(" %s", release->invocation->words[i]);
        printf("\n     with: HOLDFAST_GPUS=%s\n", release->addresses);
}

static json_t *gpus_json(const struct release *release) {
        json_t *gpus = json_array();

        each_selected(gpu, release->yield.snapshot)
                (void)json_array_append_new(gpus, json_pack("{s:I, s:s, s:b}", "index", (json_int_t)gpu->index,
                                                            "address", gpu->address, "held", (int)yield_was_held(gpu)));
        return gpus;
}

static int plan_in_json(const struct release *release) {
        static const char *const ways[] = {
                [DAEMON_NONE] = "none",
                [DAEMON_HOLDFAST] = "lease",
                [DAEMON_NVIDIA] = "mode",
        };
        json_t *words = json_array();

        for (int i = 0; i < release->invocation->n_words; i++) {
                json_t *word = json_string(release->invocation->words[i]);

                (void)json_array_append_new(words, word ? word : json_string("?")); /* it is not UTF-8 */
        }
        return command_print_json(release->invocation, json_pack("{s:s, s:s, s:o, s:o}", "schema", "holdfast.release/1",
                                                                 "by", ways[release->yield.snapshot->daemon], "gpus",
                                                                 gpus_json(release), "command", words));
}

static int tell_plan(const struct release *release) {
        if (chosen.json)
                return plan_in_json(release);
        plan_in_text(release);
        return STATUS_DONE;
}

static int select_gpus(struct release *release) {
        int status = command_select(release->invocation, &chosen.gpus, RELEASE_FAILED, release->yield.snapshot);

        if (status != STATUS_DONE)
                return status;
        each_selected(gpu, release->yield.snapshot) {
                release->n_selected++;
                text_add_item(release->addresses, ",", "%s", gpu->address);
        }
        return release->n_selected > 0 ? STATUS_DONE
                                       : complain(release->invocation, RELEASE_FAILED, "there are no GPUs");
}

static int check_words(const struct invocation *invocation) {
        if (chosen.json && !chosen.dry_run)
                return complain_usage(invocation, "--json needs --dry-run: standard output belongs to COMMAND");
        if (chosen.all && chosen.gpus.n > 0)
                return complain_usage(invocation, "--all and --gpu contradict each other");
        if (invocation->n_words == 0 && !chosen.dry_run)
                return complain_usage(invocation, "COMMAND is missing");
        return STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        CLEANUP(release_done)
        struct release release = {
                .invocation = invocation,
                .yield =
                        {
                                .invocation = invocation,
                                .user = "COMMAND",
                                .way_out = "use --force",
                                .failed_status = RELEASE_FAILED,
                                .not_held_status = RELEASE_NOT_HELD_AGAIN,
                                .timeout_usec = chosen.timeout_usec,
                                .all = chosen.gpus.n == 0,
                        },
        };
        int status;

        status = check_words(invocation);
        if (status == STATUS_DONE)
                status = yield_look(&release.yield);
        if (status == STATUS_DONE)
                status = select_gpus(&release);
        if (status == STATUS_DONE)
                status = yield_check_clients(&release.yield, chosen.force);
        if (status != STATUS_DONE)
                return status;
        return chosen.dry_run ? tell_plan(&release) : run_released(&release);
}

const struct command release_command = {
        .name = "release",
        .words = "-- COMMAND [ARGUMENT...]",
        .summary = "release GPUs while a command works on them",
        .description = "Releases the GPUs, runs COMMAND, and then has them held again, even if COMMAND\n"
                       "or this process fails. COMMAND finds their addresses in HOLDFAST_GPUS. Needs\n"
                       "root.",
        .examples = "  holdfast release --gpu 0 -- sh -c 'nvidia-smi --gpu-reset -i $HOLDFAST_GPUS'\n"
                    "  holdfast release -- sh -c 'rmmod nvidia_uvm nvidia && modprobe nvidia'",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .failed_status = RELEASE_FAILED,
        .words_are_a_command = true,
        .run = run,
};
