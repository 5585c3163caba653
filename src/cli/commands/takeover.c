/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast takeover: makes a driver package's nvidia-persistenced.service run our daemon, or its own program again.
 *
 *      our process:   opens the initialised GPUs ------------------------------------------ closes them
 *      unit:          NVIDIA's daemon holds --> drop-in, reload, restart --> ours holds
 *      driver:        at least one descriptor of each GPU is open throughout: no teardown
 *
 * If a step fails, the steps are undone while the GPUs are still held.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/change/child.h"
#include "cli/change/hold.h"
#include "cli/commands/takeover_links.h"
#include "cli/node/service.h"
#include "cli/report/report.h"
#include "client/nvml.h"

#define SOCKET_UNIT "nvidia-persistenced.socket"

static struct takeover_options {
        bool undo;
        bool dry_run;
        bool status;
        bool json;
        bool clear_legacy_flag;
        const char *nvml;
        uint64_t timeout_usec;
} chosen = {
        .timeout_usec = 300 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_SWITCH(struct takeover_options, clear_legacy_flag, "clear-legacy-flag",
                      "also switch off the kernel's own persistence flag, which nvidia-smi -pm 1 sets where no "
                      "daemon runs. This happens through NVML, after the old daemon has ended and before the new one "
                      "starts"),
        OPTION_SWITCH(struct takeover_options, dry_run, "dry-run",
                      "only print what would be done, and whether it is possible"),
        OPTION_JSON(struct takeover_options, "with --status: print JSON (docs/schemas/takeover.json)"),
        OPTION_VALUE(struct takeover_options, nvml, OPTION_TEXT, "nvml", "FILE",
                     "the library for --clear-legacy-flag (default: " NVML_LIBRARY "; required with --root)"),
        OPTION_SWITCH(struct takeover_options, status, "status", "only print whether the unit runs Holdfast's daemon"),
        OPTION_TIMEOUT(struct takeover_options, "wait this long for each call of systemctl (default 300)"),
        OPTION_SWITCH(struct takeover_options, undo, "undo", "make the unit run its own program again"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "done, or nothing had to be done; with --status: the unit runs Holdfast's daemon"},
        {STATUS_FAILED,
         "not done: nothing has changed, unless the message says otherwise; with --status: the unit does not run "
         "Holdfast's daemon"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NOT_PERMITTED, "not root"},
        {0},
};

enum unit_state {
        UNIT_OTHER, /* not Holdfast's and without our drop-in, or Holdfast's with another program */
        UNIT_OWN,   /* Holdfast's package owns it */
        UNIT_TAKEN, /* another package's, with our drop-in */
        UNIT_MISSING,
        UNIT_MASKED,
        UNIT_UNREADABLE, /* systemd cannot load it */
        UNIT_UNKNOWN,    /* no systemd to ask */
};

struct takeover {
        const struct invocation *invocation;
        struct snapshot *snapshot; /* before */
        struct service service;    /* before */
        enum unit_state state;     /* before */
        bool starts;               /* the unit is to run afterwards */
        bool changed;              /* a step has changed something */
        struct hold hold;
        char error[512]; /* why a step failed */
};

static void takeover_done(struct takeover *takeover) {
        hold_done(&takeover->hold);
        snapshot_done(&takeover->snapshot);
}

/* ---- how it stands -------------------------------------------------------------------------------------------- */

static enum unit_state state_of(const struct service *service, const struct locations *locations) {
        if (!service->known)
                return UNIT_UNKNOWN;
        if (text_equal(service->load_state, "masked"))
                return UNIT_MASKED;
        if (text_equal(service->load_state, "not-found"))
                return UNIT_MISSING;
        if (!text_equal(service->load_state, "loaded"))
                return UNIT_UNREADABLE;
        if (takeover_links_are_made(locations))
                return UNIT_TAKEN;
        /* Another package's unit may start our program through the link in /usr/bin, but lacks our directives. */
        return service_is_ours(service) && service_runs_ours(service, locations) ? UNIT_OWN : UNIT_OTHER;
}

static bool is_running(const struct service *service) {
        return !text_equal(service->active_state, "inactive");
}

static int gather(struct takeover *takeover) {
        const struct locations *locations = takeover->invocation->locations;
        int status = command_look(takeover->invocation, SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE,
                                  COMMAND_ANSWER_USEC, &takeover->snapshot);

        if (status != STATUS_DONE)
                return status;
        service_read(&takeover->service, locations, SERVICE_UNIT, chosen.timeout_usec);
        takeover->state = state_of(&takeover->service, locations);
        takeover->starts = is_running(&takeover->service) || chosen.clear_legacy_flag;
        return STATUS_DONE;
}

/* ---- the steps ------------------------------------------------------------------------------------------------ */

static int hold(struct takeover *takeover) {
        size_t row = 0;
        int r;

        r = hold_open(&takeover->hold, takeover->snapshot, takeover->invocation->locations, &row);
        if (r == -ENOMEM)
                text_set(takeover->error, "out of memory");
        else if (r == -ETIMEDOUT)
                (void)snapshot_untold(takeover->snapshot, takeover->error, sizeof(takeover->error));
        else if (r < 0)
                text_set(takeover->error, "cannot hold %s meanwhile: %s", takeover->snapshot->gpus[row].label,
                         strerror(-r));
        return r;
}

static int link_units(struct takeover *takeover) {
        takeover->changed = true;
        return takeover_links_make(takeover->invocation->locations, takeover->error, sizeof(takeover->error));
}

static int unlink_units(struct takeover *takeover) {
        return takeover_links_remove(takeover->invocation->locations, takeover->error, sizeof(takeover->error));
}

static int control(struct takeover *takeover, const char *verb, const char *unit) {
        const char *words[] = {verb, unit, NULL};

        return service_control(takeover->invocation->locations, words, chosen.timeout_usec, takeover->error,
                               sizeof(takeover->error));
}

static int reload(struct takeover *takeover) {
        return control(takeover, "daemon-reload", NULL);
}

/* A drop-in with a later name may override ours. */
static int check_unit(struct takeover *takeover) {
        struct service now;

        service_read(&now, takeover->invocation->locations, SERVICE_UNIT, chosen.timeout_usec);
        if (service_runs_ours(&now, takeover->invocation->locations))
                return 0;
        if (!now.known) {
                text_set(takeover->error, "%s", now.reason);
                return -EIO;
        }
        text_set(takeover->error,
                 "%s would still not run Holdfast's daemon, because another drop-in overrides it; look at %s",
                 SERVICE_UNIT, now.drop_in_paths);
        return -EBUSY;
}

static int clear_flags(struct takeover *takeover) {
        CLEANUP(nvml_done) struct nvml *nvml = NULL;
        int r;

        r = nvml_open(&nvml, chosen.nvml ? chosen.nvml : NVML_LIBRARY, takeover->error, sizeof(takeover->error));
        each_gpu(gpu, takeover->snapshot)
                if (r == 0 && takeover->hold.fds[gpu->index] >= 0)
                        r = nvml_set_persistence(nvml, &gpu->info.address, false, takeover->error,
                                                 sizeof(takeover->error));
        return r;
}

/* NVML changes the kernel's flag only while no daemon answers, so the flag is cleared between stop and start. If that
 * fails, the unit is started all the same: a daemon must run again before this process closes the GPUs. */
static int restart(struct takeover *takeover) {
        int r, cleared;

        if (!takeover->starts)
                return 0;
        if (!chosen.clear_legacy_flag)
                return control(takeover, "restart", SERVICE_UNIT);
        r = control(takeover, "stop", SERVICE_UNIT);
        if (r < 0)
                return r;
        cleared = clear_flags(takeover);
        r = control(takeover, "start", SERVICE_UNIT);
        return r < 0 ? r : cleared;
}

static int restart_back(struct takeover *takeover) {
        return control(takeover, is_running(&takeover->service) ? "restart" : "stop", SERVICE_UNIT);
}

/* The driver package has no socket unit. Ours would occupy the path where NVIDIA's daemon makes its socket. */
static int stop_socket(struct takeover *takeover) {
        (void)control(takeover, "stop", SOCKET_UNIT); /* an error means that there is none */
        return 0;
}

static bool is_missing(const struct snapshot *now, const struct pci_address *address) {
        const struct snapshot_gpu *gpu = snapshot_find(now, address);

        return gpu && gpu->held != HF_YES && (snapshot_is_unlisted(now, gpu) || gpu->detail.wanted);
}

/* The unit is ready once each GPU was tried. A GPU that was initialised and is not held now would be torn down. */
static int check_daemon(struct takeover *takeover) {
        CLEANUP(snapshot_done) struct snapshot *now = NULL;

        if (!takeover->starts)
                return 0;
        if (command_look(takeover->invocation, SNAPSHOT_DAEMON, COMMAND_ANSWER_USEC, &now) != STATUS_DONE)
                return -ENOMEM;
        if (now->daemon != DAEMON_HOLDFAST) {
                text_set(takeover->error, "Holdfast's daemon does not answer: %s",
                         now->daemon == DAEMON_NVIDIA ? "NVIDIA's does" : now->daemon_error);
                return -ENOTCONN;
        }
        each_gpu(gpu, takeover->snapshot)
                if (takeover->hold.fds[gpu->index] >= 0 && is_missing(now, &gpu->info.address)) {
                        text_set(takeover->error, "%s was initialised, and Holdfast's daemon cannot hold it",
                                 gpu->label);
                        return -EIO;
                }
        return 0;
}

struct takeover_step {
        const char *what; /* for --dry-run */
        int (*run)(struct takeover *takeover);
};

static const struct takeover_step taking[] = {
        {"hold the initialised GPUs until the end", hold},
        {"link the drop-in and the socket unit", link_units},
        {"systemctl daemon-reload", reload},
        {"check that the unit runs " HOLDFAST_DAEMON, check_unit},
        {"systemctl restart " SERVICE_UNIT ", if it is running", restart},
        {"check that the unit's daemon answers and holds these GPUs", check_daemon},
        {NULL, NULL},
};

/* For a unit that is ours already. */
static const struct takeover_step clearing[] = {
        {"hold the initialised GPUs until the end", hold},
        {"systemctl stop " SERVICE_UNIT ", switch the kernel's flag off, systemctl start", restart},
        {"check that the unit's daemon answers and holds these GPUs", check_daemon},
        {NULL, NULL},
};

static const struct takeover_step giving_back[] = {
        {"hold the initialised GPUs until the end", hold},
        {"systemctl stop " SOCKET_UNIT, stop_socket},
        {"remove the links", unlink_units},
        {"systemctl daemon-reload", reload},
        {"systemctl restart " SERVICE_UNIT ", if it is running", restart_back},
        {NULL, NULL},
};

static const struct takeover_step rolling_back[] = {
        /* clang-format off */
        {NULL, stop_socket},
        {NULL, unlink_units},
        {NULL, reload},
        {NULL, restart_back},
        {NULL, NULL},
        /* clang-format on */
};

static int run_steps(struct takeover *takeover, const struct takeover_step *steps) {
        for (const struct takeover_step *step = steps; step->run; step++) {
                int r = step->run(takeover);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- output --------------------------------------------------------------------------------------------------- */

static const struct {
        const char *option;
        const char *instead;
} former_options[] = {
        {"--no-persistence-mode", "so every GPU is held. For the old behaviour, write 'persistence = off'"},
        {"--uvm-persistence-mode", "so UVM's state is not kept. For the old behaviour, write 'uvm-persistence = on'"},
};

static void note_options(const struct takeover *takeover) {
        for (size_t i = 0; i < ARRAY_SIZE(former_options); i++)
                if (strstr(takeover->service.exec_start, former_options[i].option))
                        report_say("note: the unit's own command line has %s, which no longer has an effect, %s below "
                                   "[gpu *] in /etc/holdfast/holdfast.conf",
                                   former_options[i].option, former_options[i].instead);
}

static void note_flag(const struct takeover *takeover) {
        size_t n = 0;

        each_gpu(gpu, takeover->snapshot)
                n += gpu->legacy == HF_YES;
        if (n > 0 && !chosen.clear_legacy_flag)
                report_say("note: the kernel's own persistence flag is on for %zu GPU%s: they stay initialised even "
                           "when the daemon releases them; 'holdfast takeover --clear-legacy-flag' switches it off",
                           n, text_plural(n));
}

static int tell_plan(const struct takeover *takeover, const struct takeover_step *steps) {
        size_t n = 0;

        puts("would:");
        for (const struct takeover_step *step = steps; step->run; step++)
                printf("  %s\n", step->what);
        if (steps == taking)
                for (size_t i = 0; i < n_takeover_links; i++)
                        report_say("link: %s -> %s", takeover_links[i].path, takeover_links[i].target);
        each_gpu(gpu, takeover->snapshot)
                n += gpu->initialised == HF_YES;
        report_say("%zu of %zu GPUs are initialised", n, takeover->snapshot->n_gpus);
        if (steps == taking)
                note_options(takeover);
        note_flag(takeover);
        return STATUS_DONE;
}

static void tell_taken(const struct takeover *takeover, uint64_t start_usec) {
        uint64_t elapsed_usec = clock_monotonic_usec() - start_usec;
        char start[256];

        service_command(&takeover->service, service_start_cure(&takeover->service), start, sizeof(start));
        if (takeover->starts)
                report_say("%s runs Holdfast's daemon (%s); %zu GPU%s stayed initialised meanwhile", SERVICE_UNIT,
                           report_duration(elapsed_usec).text, takeover->hold.n_held,
                           text_plural(takeover->hold.n_held));
        else
                report_say(SERVICE_UNIT " is not running; when it is started, it runs Holdfast's daemon: %s", start);
        if (takeover->state == UNIT_OTHER)
                note_options(takeover);
        note_flag(takeover);
}

/* Notes that NVIDIA's daemon holds fewer GPUs than before. With --no-persistence-mode it holds none by itself. */
static void tell_given_back(const struct takeover *takeover) {
        CLEANUP(snapshot_done) struct snapshot *now = NULL;
        size_t n_held;

        puts(SERVICE_UNIT " has its own program back");
        if (!is_running(&takeover->service) || command_look(takeover->invocation, SNAPSHOT_DAEMON | SNAPSHOT_PROOF,
                                                            COMMAND_ANSWER_USEC, &now) != STATUS_DONE)
                return;
        n_held = snapshot_count_held(now);
        if (n_held < takeover->hold.n_held)
                report_say("note: NVIDIA's daemon holds only %zu of the %zu GPUs that were initialised; run 'holdfast "
                           "set on' to hold the others",
                           n_held, takeover->hold.n_held);
}

/* ---- --status ------------------------------------------------------------------------------------------------- */

static const struct {
        const char *word;     /* in JSON */
        const char *sentence; /* about SERVICE_UNIT */
        int status;
} states[] = {
        [UNIT_OTHER] = {"not-taken-over",
                        "does not run Holdfast's daemon, or lacks the directives of Holdfast's unit; 'holdfast "
                        "takeover' changes this",
                        STATUS_FAILED},
        [UNIT_OWN] = {"own", "is Holdfast's own: there is nothing to take over", STATUS_DONE},
        [UNIT_TAKEN] = {"taken-over", "is another package's, and taken over", STATUS_DONE},
        [UNIT_MISSING] = {"missing",
                          "does not exist: no driver package owns it. Install holdfast-nvidia-persistenced, or: "
                          "systemctl enable --now holdfast",
                          STATUS_FAILED},
        [UNIT_MASKED] = {"masked", "is masked: nothing starts it. First: systemctl unmask nvidia-persistenced",
                         STATUS_FAILED},
        [UNIT_UNREADABLE] = {"unreadable", "cannot be read by systemd: systemd-analyze verify " SERVICE_UNIT,
                             STATUS_FAILED},
        [UNIT_UNKNOWN] = {"unknown", "cannot be examined", STATUS_FAILED},
};

static int tell_status_json(const struct takeover *takeover, const char *program) {
        const struct service *service = &takeover->service;
        int status = command_print_json(
                takeover->invocation,
                json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "schema", "holdfast.takeover/1", "unit",
                          SERVICE_UNIT, "state", states[takeover->state].word, "unit_file", service->fragment_path,
                          "active_state", service->active_state, "program", program, "drop_ins", service->drop_in_paths,
                          "daemon", snapshot_daemon_word(takeover->snapshot)));

        return status == STATUS_DONE ? states[takeover->state].status : status;
}

static int tell_status(const struct takeover *takeover) {
        const struct service *service = &takeover->service;
        char program[PATH_MAX] = "";

        (void)service_program(service, program, sizeof(program));
        if (chosen.json)
                return tell_status_json(takeover, program);
        report_say("%s %s", SERVICE_UNIT, states[takeover->state].sentence);
        if (!service->known)
                report_say("why: %s", service->reason);
        if (service->fragment_path[0] != '\0')
                report_say("unit: %s (%s)", service->fragment_path, service->active_state);
        if (service->drop_in_paths[0] != '\0')
                report_say("drop-ins: %s", service->drop_in_paths);
        if (program[0] != '\0')
                report_say("program: %s", program);
        return states[takeover->state].status;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int roll_back(struct takeover *takeover) {
        char first[sizeof(takeover->error)];

        text_set(first, "%s", takeover->error);
        if (run_steps(takeover, rolling_back) < 0)
                return complain(takeover->invocation, STATUS_FAILED,
                                "%s. The unit's own program could not be restored either (%s): GPUs may not be held; "
                                "'holdfast takeover --undo' tries again",
                                first, takeover->error);
        return complain(takeover->invocation, STATUS_FAILED,
                        "%s. The unit runs its own program again, and the previous state is restored", first);
}

static int carry_out(struct takeover *takeover, const struct takeover_step *steps) {
        uint64_t start_usec = clock_monotonic_usec();
        int r;

        if (chosen.dry_run)
                return tell_plan(takeover, steps);
        child_keep_signals(); /* it must not stop halfway */
        r = run_steps(takeover, steps);
        if (r < 0 && steps == taking && !takeover->changed) /* an undo would restart the old daemon */
                return complain(takeover->invocation, STATUS_FAILED, "%s. Nothing was changed", takeover->error);
        if (r < 0 && steps == taking)
                return roll_back(takeover);
        if (r < 0)
                return complain(takeover->invocation, STATUS_FAILED, "%s. Look at: holdfast takeover --status",
                                takeover->error);
        if (steps == giving_back)
                tell_given_back(takeover);
        else
                tell_taken(takeover, start_usec);
        return STATUS_DONE;
}

static int give_back(struct takeover *takeover) {
        if (takeover_links_are_made(takeover->invocation->locations) && takeover->service.known)
                return carry_out(takeover, giving_back);
        if (!takeover->service.known)
                return complain(takeover->invocation, STATUS_FAILED, "%s", takeover->service.reason);
        puts(SERVICE_UNIT " is not taken over: there is nothing to undo");
        return STATUS_DONE;
}

static int take(struct takeover *takeover) {
        bool ours_runs = takeover->snapshot->daemon == DAEMON_HOLDFAST || !is_running(&takeover->service);

        if (takeover->state == UNIT_UNKNOWN)
                return complain(takeover->invocation, STATUS_FAILED, "%s", takeover->service.reason);
        if (takeover->state > UNIT_TAKEN)
                return complain(takeover->invocation, STATUS_FAILED, "%s %s", SERVICE_UNIT,
                                states[takeover->state].sentence);
        if (takeover->state == UNIT_OTHER || !ours_runs)
                return carry_out(takeover, taking);
        if (chosen.clear_legacy_flag)
                return carry_out(takeover, clearing);
        report_say("%s runs Holdfast's daemon already", SERVICE_UNIT);
        note_flag(takeover);
        return STATUS_DONE;
}

static int check_usage(const struct invocation *invocation) {
        if (chosen.status && (chosen.undo || chosen.dry_run || chosen.clear_legacy_flag))
                return complain_usage(invocation,
                                      "--status changes nothing: it can be combined with --json and --timeout only");
        if (chosen.json && !chosen.status)
                return complain_usage(invocation, "--json needs --status");
        if (chosen.undo && chosen.clear_legacy_flag)
                return complain_usage(invocation, "--clear-legacy-flag cannot be combined with --undo");
        /* The system's NVML uses the system's driver, but --root names a node with another driver. */
        if (chosen.clear_legacy_flag && !invocation->locations->has_nvml && !chosen.nvml)
                return complain_usage(invocation, "below --root %s, --clear-legacy-flag needs --nvml FILE",
                                      invocation->locations->root);
        return STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        CLEANUP(takeover_done) struct takeover takeover = {.invocation = invocation};
        int status;

        status = check_usage(invocation);
        if (status != STATUS_DONE)
                return status;
        if (!chosen.status && !chosen.dry_run && geteuid() != 0)
                return complain(invocation, STATUS_NOT_PERMITTED,
                                "run this as root: it changes a unit and restarts it");
        status = gather(&takeover);
        if (status != STATUS_DONE)
                return status;
        if (chosen.status)
                return tell_status(&takeover);
        return chosen.undo ? give_back(&takeover) : take(&takeover);
}

const struct command takeover_command = {
        .name = "takeover",
        .summary = "make a driver package's unit run Holdfast's daemon",
        .description = "Makes a driver package's nvidia-persistenced.service (Ubuntu's\n"
                       "nvidia-compute-utils) run Holdfast's daemon: links a drop-in into\n"
                       "/etc/systemd/system, which survives upgrades of either package, and restarts the\n"
                       "unit if it runs. Initialised GPUs stay initialised: this process keeps them open\n"
                       "until the new daemon holds them. If that fails, the unit gets its own program\n"
                       "back. Needs root.",
        .examples = "  holdfast takeover --dry-run\n"
                    "  holdfast takeover\n"
                    "  holdfast takeover --status\n"
                    "  holdfast takeover --undo",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
