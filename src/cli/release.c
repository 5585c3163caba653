/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast release: lets go of GPUs while a command works on them, and takes hold again whatever happens.
 *
 *      look: who else is there? --> let go --> COMMAND --> take hold --> wait until it is so
 *
 * With our daemon it is a lease, which ends with our connection and so with us, however we end. NVIDIA's daemon knows
 * none: there persistence mode is switched off and on again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/child.h"
#include "cli/command.h"
#include "cli/ids.h"
#include "cli/process.h"
#include "cli/report.h"
#include "client/client.h"

#define POLL_USEC (50 * USEC_PER_MSEC)
#define ANSWER_USEC (5 * USEC_PER_SEC) /* for one question; the whole has its own limit */

/* As timeout(1), env(1) and others that run a command: numbers that commands rarely use themselves. */
enum {
        RELEASE_NOT_HELD_AGAIN = 124,
        RELEASE_FAILED = 125,
};

static struct release_options {
        struct ids gpus;
        bool force;
        bool dry_run;
        uint64_t timeout_usec;
} release_options = {
        .timeout_usec = 120 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct release_options, "only this GPU; may be given several times (default: all)"),
        {
                .name = "dry-run",
                .help = "only say what would be done, and whether it could be",
                .kind = OPTION_FLAG,
                .offset = offsetof(struct release_options, dry_run),
        },
        {
                .name = "force",
                .help = "also while other processes have the GPUs open",
                .kind = OPTION_FLAG,
                .offset = offsetof(struct release_options, force),
        },
        OPTION_TIMEOUT(struct release_options,
                       "wait that long for the GPUs to be released, and to be held again (default 120)"),
        {0},
};

static const struct command_exit exits[] = {
        {0, "COMMAND did well, and the GPUs are held again; any other number below 124: COMMAND's own"},
        {RELEASE_NOT_HELD_AGAIN, "COMMAND did well, but the GPUs are not held again within the time"},
        {RELEASE_FAILED, "COMMAND was not run: wrong usage, not permitted, other processes are in the way, the daemon "
                         "refused"},
        {CHILD_NOT_EXECUTABLE, "COMMAND cannot be run"},
        {CHILD_NOT_FOUND, "COMMAND is not found"},
        {CHILD_SIGNALLED, "and a signal's number on top: that ended COMMAND"},
        {0},
};

struct release {
        const struct invocation *invocation;
        struct snapshot *snapshot; /* before */
        bool *selected;
        size_t n_selected;
        struct client *lease;
        char addresses[IDS_MAX * PCI_ADDRESS_SIZE]; /* "0000:17:00.0,0000:3a:00.0" */
};

static void release_done(struct release *release) {
        client_done(&release->lease);
        snapshot_done(&release->snapshot);
        free(release->selected);
}

static uint64_t deadline_of(const struct release *release) {
        const struct release_options *chosen = release->invocation->options;
        uint64_t now_usec = clock_monotonic_usec();

        return chosen->timeout_usec > UINT64_MAX - now_usec ? UINT64_MAX : now_usec + chosen->timeout_usec;
}

static const char *plural(size_t n) {
        return n == 1 ? "" : "s";
}

/* ---- who is in the way ---------------------------------------------------------------------------------------- */

static void name_client(const struct snapshot_gpu *gpu, const struct holder *holder) {
        struct process process;
        char label[64];

        process_read(holder->pid, &process);
        complain_detail("%s: %s (pid %d, user %s%s%s)", report_label(gpu, label, sizeof(label)),
                        process.command[0] ? process.command : holder->name, (int)holder->pid,
                        process.user[0] ? process.user : "?", process.contained ? ", container " : "",
                        process.contained ? process.container.name : "");
}

/* Calls `tell` for each other process with a selected GPU open, and returns how many there are. */
static size_t each_client(const struct release *release,
                          void (*tell)(const struct snapshot_gpu *gpu, const struct holder *holder)) {
        const struct snapshot *snapshot = release->snapshot;
        size_t n = 0;

        for (size_t i = 0; i < snapshot->n_gpus; i++)
                for (size_t j = 0; release->selected[i] && j < snapshot->gpus[i].n_clients; j++) {
                        const struct holder *holder = &snapshot->gpus[i].clients[j];

                        if (holder->pid == getpid() || holder->pid == snapshot->daemon_pid)
                                continue;
                        n++;
                        if (tell)
                                tell(&snapshot->gpus[i], holder);
                }
        return n;
}

static int check_clients(const struct release *release) {
        const struct release_options *chosen = release->invocation->options;
        const struct snapshot *snapshot = release->snapshot;
        size_t n = each_client(release, NULL);

        if (n > 0) {
                (void)complain(release->invocation, RELEASE_FAILED,
                               chosen->force ? "other processes have the GPUs open, and keep them initialised:"
                                             : "other processes have the GPUs open; end them, or use --force:");
                (void)each_client(release, name_client);
        }
        if (n > 0 && !chosen->force)
                return RELEASE_FAILED;
        if (!chosen->force && (!snapshot->clients_known || !snapshot->clients_complete))
                return complain(release->invocation, RELEASE_FAILED,
                                "cannot see whether other users' processes have the GPUs open; this is uid %u: run it "
                                "as root",
                                (unsigned)geteuid());
        return STATUS_DONE;
}

/* ---- with Holdfast: a lease ----------------------------------------------------------------------------------- */

static size_t list_addresses(const struct release *release, struct pci_address addresses[static HF_GPUS_MAX]) {
        const struct release_options *chosen = release->invocation->options;
        size_t n = 0;

        if (chosen->gpus.n == 0)
                return 0; /* all, and those that come meanwhile too */
        for (size_t i = 0; i < release->snapshot->n_gpus && n < HF_GPUS_MAX; i++)
                if (release->selected[i])
                        addresses[n++] = release->snapshot->gpus[i].info.address;
        return n;
}

static int complain_lease(const struct release *release, uint32_t status) {
        if (status == NVPD_PERMISSIONS)
                return complain(release->invocation, RELEASE_FAILED,
                                "the daemon refused: only the host's root, or its --admin-group, may have GPUs "
                                "released; this is uid %u",
                                (unsigned)geteuid());
        if (status == NVPD_DRIVER)
                return complain(release->invocation, RELEASE_FAILED,
                                "the driver does not let go of one of the GPUs, so it would be in the way; "
                                "'holdfast status' tells which. COMMAND was not run");
        return complain(release->invocation, RELEASE_FAILED, "the daemon refused: %s", nvpd_status_text(status));
}

static int begin_lease(struct release *release) {
        const struct release_options *chosen = release->invocation->options;
        struct pci_address addresses[HF_GPUS_MAX];
        size_t n = list_addresses(release, addresses);
        char reason[384];
        uint32_t status;
        int r;

        r = client_connect(&release->lease, release->snapshot->daemon_socket, chosen->timeout_usec);
        if (r < 0) {
                client_connect_error(reason, sizeof(reason), release->snapshot->daemon_socket, r);
                return complain(release->invocation, RELEASE_FAILED, "%s", reason);
        }
        r = client_lease(release->lease, addresses, n, &status);
        if (r < 0)
                return complain(release->invocation, RELEASE_FAILED, "%s", client_error(release->lease));
        return status == NVPD_SUCCESS ? STATUS_DONE : complain_lease(release, status);
}

/* What became of the GPUs that were held before. */
struct again {
        size_t n_held;
        size_t n_waiting;
        size_t n_gone; /* from the driver, or nobody wants them held any more */
};

static const struct snapshot_gpu *find_row(const struct snapshot *snapshot, const struct pci_address *address) {
        for (size_t i = 0; i < snapshot->n_gpus; i++)
                if (pci_address_compare(&snapshot->gpus[i].info.address, address) == 0)
                        return &snapshot->gpus[i];
        return NULL;
}

static bool is_answering(const struct snapshot *snapshot) {
        return snapshot->daemon == DAEMON_HOLDFAST;
}

static bool was_held(const struct release *release, size_t i) {
        return release->selected[i] && release->snapshot->gpus[i].held == HF_YES;
}

static bool is_given_up(const struct snapshot_gpu *now) {
        return !now || !now->in_daemon || (!now->detail.wanted && !now->detail.leased);
}

static struct again count_again(const struct release *release, const struct snapshot *now) {
        struct again again = {0};

        for (size_t i = 0; i < release->snapshot->n_gpus; i++) {
                const struct snapshot_gpu *row = find_row(now, &release->snapshot->gpus[i].info.address);

                if (!was_held(release, i))
                        continue;
                if (!is_answering(now))
                        again.n_waiting++;
                else if (is_given_up(row))
                        again.n_gone++;
                else if (row->held == HF_YES)
                        again.n_held++;
                else
                        again.n_waiting++;
        }
        return again;
}

static void name_not_held(const struct release *release, const struct snapshot *now) {
        for (size_t i = 0; i < release->snapshot->n_gpus; i++) {
                const struct snapshot_gpu *gpu = &release->snapshot->gpus[i];
                const struct snapshot_gpu *row = find_row(now, &gpu->info.address);
                char label[64];

                if (!was_held(release, i) || (row && row->held == HF_YES))
                        continue;
                complain_detail("%s: %s%s%s", report_label(gpu, label, sizeof(label)),
                                !row || !row->in_daemon ? "not there any more; it is held when it comes back"
                                                        : snapshot_state(now, row),
                                row && row->detail.error_text[0] ? ": " : "", row ? row->detail.error_text : "");
        }
}

static int tell_again(const struct release *release, const struct snapshot *now, uint64_t start_usec) {
        struct again again = count_again(release, now);
        size_t n = again.n_held + again.n_waiting + again.n_gone;
        char elapsed[32];

        (void)report_duration(clock_monotonic_usec() - start_usec, elapsed, sizeof(elapsed));
        if (n == 0)
                return complain(release->invocation, STATUS_DONE,
                                "the lease has ended; none of these GPUs was held before");
        (void)complain(release->invocation, STATUS_DONE, "%zu of %zu GPU%s held again after %s%s%s", again.n_held, n,
                       plural(n), elapsed, is_answering(now) ? "" : "; ", now->daemon_error);
        if (is_answering(now))
                name_not_held(release, now);
        return again.n_waiting == 0 ? STATUS_DONE : RELEASE_NOT_HELD_AGAIN;
}

/* Looks until all are held again that were before. */
static int wait_again(const struct release *release, uint64_t start_usec) {
        const struct snapshot_request request = {
                .root = release->invocation->root,
                .flags = SNAPSHOT_DAEMON | SNAPSHOT_QUICK,
                .timeout_usec = ANSWER_USEC,
        };
        const struct timespec pause = {.tv_nsec = (long)(POLL_USEC * 1000)};
        uint64_t deadline_usec = deadline_of(release);

        for (;;) {
                CLEANUP(snapshot_done) struct snapshot *now = NULL;

                if (snapshot_read(&request, &now) < 0)
                        return complain(release->invocation, RELEASE_NOT_HELD_AGAIN, "out of memory");
                if (count_again(release, now).n_waiting == 0 || clock_monotonic_usec() >= deadline_usec)
                        return tell_again(release, now, start_usec);
                (void)nanosleep(&pause, NULL);
        }
}

static int end_lease(struct release *release) {
        CLEANUP(free_ptr) struct hf_gpu *details = NULL;
        uint64_t start_usec = clock_monotonic_usec();
        struct hf_list_head head;

        if (client_list(release->lease, &head, &details) < 0)
                (void)complain(
                        release->invocation, STATUS_DONE,
                        "warning: the lease ended before COMMAND did (%s): the GPUs may have been held meanwhile",
                        client_error(release->lease));
        client_done(&release->lease);
        child_let_signals(); /* all is undone; who waits no longer may go */
        return wait_again(release, start_usec);
}

/* ---- with NVIDIA's daemon: off and on ------------------------------------------------------------------------- */

static int set_mode(const struct release *release, const struct snapshot_gpu *gpu, bool on) {
        const struct release_options *chosen = release->invocation->options;
        CLEANUP(client_done) struct client *client = NULL;
        uint32_t status = NVPD_SUCCESS;
        char label[64], reason[384];
        int r;

        r = client_connect(&client, release->snapshot->daemon_socket, chosen->timeout_usec);
        if (r < 0)
                client_connect_error(reason, sizeof(reason), release->snapshot->daemon_socket, r);
        else if ((r = client_set_mode(client, &gpu->info.address, on, &status)) < 0)
                (void)text_copy(reason, sizeof(reason), client_error(client));
        else
                (void)text_copy(reason, sizeof(reason), nvpd_status_text(status));
        if (r == 0 && status == NVPD_SUCCESS)
                return STATUS_DONE;
        return complain(release->invocation, RELEASE_FAILED, "%s: persistence mode cannot be switched %s: %s",
                        report_label(gpu, label, sizeof(label)), on ? "on" : "off", reason);
}

static int switch_on(struct release *release) {
        uint64_t start_usec = clock_monotonic_usec();
        size_t n = 0, n_held = 0;
        char elapsed[32];

        for (size_t i = 0; i < release->snapshot->n_gpus; i++)
                if (was_held(release, i)) {
                        n++;
                        n_held += set_mode(release, &release->snapshot->gpus[i], true) == STATUS_DONE;
                }
        (void)complain(release->invocation, STATUS_DONE, "%zu of %zu GPU%s held again after %s", n_held, n, plural(n),
                       report_duration(clock_monotonic_usec() - start_usec, elapsed, sizeof(elapsed)));
        child_let_signals();
        return n_held == n ? STATUS_DONE : RELEASE_NOT_HELD_AGAIN;
}

static int switch_off(struct release *release) {
        int status = STATUS_DONE;

        (void)complain(release->invocation, STATUS_DONE,
                       "note: NVIDIA's daemon knows no leases: persistence mode is switched off, and on again after "
                       "COMMAND. Should this process be killed in between, it stays off: 'holdfast set on' then");
        child_keep_signals();
        for (size_t i = 0; i < release->snapshot->n_gpus && status == STATUS_DONE; i++)
                if (was_held(release, i) && child_signal_kept() == 0)
                        status = set_mode(release, &release->snapshot->gpus[i], false);
        if (status == STATUS_DONE && child_signal_kept() == 0)
                return STATUS_DONE;
        (void)switch_on(release); /* which lets a signal that came end us */
        return RELEASE_FAILED;
}

/* ---- without a daemon ----------------------------------------------------------------------------------------- */

static int begin_alone(struct release *release) {
        return complain(release->invocation, STATUS_DONE,
                        "note: %s; so there is nothing to release, and nothing keeps the "
                        "GPUs free either",
                        release->snapshot->daemon_error);
}

static int end_alone(struct release *release) {
        return STATUS_DONE;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static const struct {
        int (*begin)(struct release *release); /* STATUS_DONE, or the exit status */
        int (*end)(struct release *release);
} ways[] = {
        [DAEMON_NONE] = {begin_alone, end_alone},
        [DAEMON_HOLDFAST] = {begin_lease, end_lease},
        [DAEMON_NVIDIA] = {switch_off, switch_on},
};

static int run_released(struct release *release) {
        const struct invocation *invocation = release->invocation;
        uint64_t start_usec = clock_monotonic_usec();
        int status, again;
        char elapsed[32];

        status = ways[release->snapshot->daemon].begin(release);
        if (status != STATUS_DONE)
                return status;
        if (release->snapshot->daemon != DAEMON_NONE)
                (void)complain(invocation, STATUS_DONE, "%zu GPU%s released in %s: %s", release->n_selected,
                               plural(release->n_selected),
                               report_duration(clock_monotonic_usec() - start_usec, elapsed, sizeof(elapsed)),
                               release->addresses);
        child_keep_signals();
        status = child_run(invocation->program, invocation->words, "HOLDFAST_GPUS", release->addresses);
        if (status < 0)
                status = complain(invocation, RELEASE_FAILED, "cannot start a process: %s", strerror(-status));
        again = ways[release->snapshot->daemon].end(release);
        return status != STATUS_DONE ? status : again;
}

static int tell_plan(const struct release *release) {
        static const char *const means[] = {
                [DAEMON_NONE] = "no daemon runs, so there is nothing to release",
                [DAEMON_HOLDFAST] = "by a lease of Holdfast's daemon, which ends with this process",
                [DAEMON_NVIDIA] = "by switching persistence mode off and on again with NVIDIA's daemon",
        };
        char label[64];

        printf("would release %zu GPU%s, %s:\n", release->n_selected, plural(release->n_selected),
               means[release->snapshot->daemon]);
        for (size_t i = 0; i < release->snapshot->n_gpus; i++)
                if (release->selected[i])
                        printf("  %s: %s\n", report_label(&release->snapshot->gpus[i], label, sizeof(label)),
                               was_held(release, i) ? "held, and would be again" : "not held");
        if (release->invocation->n_words == 0)
                return STATUS_DONE;
        (void)fputs("would run:", stdout);
        for (int i = 0; i < release->invocation->n_words; i++)
                printf(" %s", release->invocation->words[i]);
        printf("\n     with: HOLDFAST_GPUS=%s\n", release->addresses);
        return STATUS_DONE;
}

static void note_address(struct release *release, const struct snapshot_gpu *gpu) {
        size_t length = strlen(release->addresses);
        char address[PCI_ADDRESS_SIZE];

        (void)text_format(release->addresses + length, sizeof(release->addresses) - length, "%s%s",
                          length > 0 ? "," : "", pci_address_format(&gpu->info.address, address));
}

static int select_gpus(struct release *release) {
        const struct release_options *chosen = release->invocation->options;
        char error[192];

        if (ids_resolve(&chosen->gpus, release->snapshot, release->selected, error, sizeof(error)) < 0)
                return complain(release->invocation, RELEASE_FAILED, "%s", error);
        for (size_t i = 0; i < release->snapshot->n_gpus; i++)
                if (release->selected[i]) {
                        release->n_selected++;
                        note_address(release, &release->snapshot->gpus[i]);
                }
        return release->n_selected > 0 ? STATUS_DONE
                                       : complain(release->invocation, RELEASE_FAILED, "there are no GPUs");
}

static int gather(struct release *release) {
        const struct snapshot_request request = {
                .root = release->invocation->root,
                .flags = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS,
                .timeout_usec = ANSWER_USEC,
        };
        const struct snapshot *snapshot;

        if (snapshot_read(&request, &release->snapshot) < 0 ||
            !(release->selected = calloc(release->snapshot->n_gpus + 1, sizeof(bool))))
                return complain(release->invocation, RELEASE_FAILED, "out of memory");
        snapshot = release->snapshot;
        if (snapshot->daemon == DAEMON_SILENT)
                return complain(release->invocation, RELEASE_FAILED, "%s", snapshot->daemon_error);
        if (snapshot_is_empty(snapshot))
                return complain(release->invocation, RELEASE_FAILED, "the NVIDIA driver is not loaded, and %s",
                                snapshot->daemon_error);
        return STATUS_DONE;
}

static int check_words(const struct invocation *invocation) {
        const struct release_options *chosen = invocation->options;

        if (invocation->n_words == 0 && !chosen->dry_run)
                return complain_usage(invocation, "COMMAND is missing");
        return STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        const struct release_options *chosen = invocation->options;
        CLEANUP(release_done) struct release release = {.invocation = invocation};
        int status;

        status = check_words(invocation);
        if (status == STATUS_DONE)
                status = gather(&release);
        if (status == STATUS_DONE)
                status = select_gpus(&release);
        if (status == STATUS_DONE)
                status = check_clients(&release);
        if (status != STATUS_DONE)
                return status;
        return chosen->dry_run ? tell_plan(&release) : run_released(&release);
}

const struct command release_command = {
        .name = "release",
        .words = "-- COMMAND [ARGUMENT...]",
        .summary = "let go of GPUs while a command works on them",
        .description = "Lets go of the GPUs, runs COMMAND, and takes hold again whatever becomes of it or of\n"
                       "this process. COMMAND finds their addresses in HOLDFAST_GPUS. Needs root.",
        .examples = "  holdfast release --gpu 0 -- nvidia-smi --gpu-reset -i 0\n"
                    "  holdfast release -- sh -c 'rmmod nvidia_uvm nvidia && modprobe nvidia'",
        .options = options,
        .exits = exits,
        .defaults = &release_options,
        .usage_status = RELEASE_FAILED,
        .words_are_a_command = true,
        .run = run,
};
