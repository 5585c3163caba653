/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/change/yield.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/change/child.h"
#include "cli/node/process.h"
#include "cli/node/settings_state.h"
#include "cli/report/report.h"

#define POLL_USEC (50 * USEC_PER_MSEC)
#define LOST_USEC (100 * USEC_PER_MSEC)
#define SETTINGS_USEC (45 * USEC_PER_SEC) /* for the settings service, which has 30 s for a GPU */
#define LISTING_USEC (2 * USEC_PER_SEC)   /* until the daemon lists a GPU that was bound just before */
#define HEARING_USEC (1 * USEC_PER_SEC)   /* until the daemon has heard of a GPU that the user has bound again */

void yield_done(struct yield *yield) {
        client_done(&yield->lease);
        snapshot_done(&yield->snapshot);
}

/* ---- looking --------------------------------------------------------------------------------------------------- */

/*
 * Waits until the daemon lists every GPU that the driver lists. Otherwise a GPU that was bound a moment ago could not
 * be named, would not be released, and would shift the numbers of the others. After LISTING_USEC, only the GPUs that
 * the daemon lists count. SNAPSHOT_QUICK, because a read of the driver's files may wait for a GPU that hangs.
 */
static int look_patiently(struct yield *yield) {
        const unsigned flags = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_QUICK;
        uint64_t deadline_usec = clock_deadline_usec(LISTING_USEC);

        for (;;) {
                bool last = clock_monotonic_usec() >= deadline_usec;
                int status = command_look(yield->invocation, last ? flags : flags | SNAPSHOT_NAMES, COMMAND_ANSWER_USEC,
                                          &yield->snapshot);

                if (status != STATUS_DONE || last || !snapshot_has_unlisted(yield->snapshot))
                        return status;
                snapshot_done(&yield->snapshot);
                clock_sleep(POLL_USEC);
        }
}

int yield_look(struct yield *yield) {
        int status = look_patiently(yield);

        if (status != STATUS_DONE)
                return status;
        if (yield->snapshot->daemon == DAEMON_SILENT)
                return complain(yield->invocation, yield->failed_status, "%s", yield->snapshot->daemon_error);
        if (snapshot_is_empty(yield->snapshot))
                return complain(yield->invocation, yield->failed_status, "the NVIDIA driver is not loaded, and %s",
                                yield->snapshot->daemon_error);
        return STATUS_DONE;
}

/* ---- other processes ------------------------------------------------------------------------------------------ */

static void name_client(const struct snapshot_gpu *gpu, const struct holder *holder) {
        struct process process = {.pid = holder->pid};

        (void)processes_read(&process, 1);
        complain_detail("%s: %s (pid %d, user %s%s%s)", gpu->label, process.command[0] ? process.command : holder->name,
                        (int)holder->pid, process.user[0] ? process.user : "?", process.contained ? ", container " : "",
                        process.contained ? process.container.name : "");
}

/* Calls `tell` for each other process with a selected GPU open, and returns how many there are. */
static size_t each_client(const struct yield *yield,
                          void (*tell)(const struct snapshot_gpu *gpu, const struct holder *holder)) {
        size_t n = 0;

        each_selected(gpu, yield->snapshot)
                for (size_t i = 0; i < gpu->n_clients; i++) {
                        const struct holder *holder = &gpu->clients[i];

                        if (!snapshot_is_client(yield->snapshot, holder))
                                continue;
                        n++;
                        if (tell)
                                tell(gpu, holder);
                }
        return n;
}

static int complain_gap(const struct yield *yield) {
        const struct snapshot *snapshot = yield->snapshot;
        char hidden[SNAPSHOT_GAP_SIZE], gap[SNAPSHOT_GAP_SIZE];
        const char *why;

        if (!snapshot->clients_known)
                return complain(yield->invocation, yield->failed_status,
                                "cannot see whether other processes have the GPUs open: /proc cannot be read");
        text_set(hidden, "cannot see whether other users' processes have the GPUs open; this is uid %u: run it as root",
                 (unsigned)geteuid());
        why = snapshot_gap(snapshot, hidden, gap, sizeof(gap));
        if (!why)
                return STATUS_DONE;
        (void)complain(yield->invocation, yield->failed_status, "%s", why);
        if (snapshot->sight.n_hanging > 0 || snapshot->sight.complete) /* root would see no more */
                complain_detail("to go on nevertheless, %s", yield->way_out);
        return yield->failed_status;
}

int yield_check_clients(const struct yield *yield, bool force) {
        size_t n = each_client(yield, NULL);

        if (n > 0 && force)
                (void)complain(yield->invocation, STATUS_DONE,
                               "other processes have the GPUs open, and keep them initialised:");
        else if (n > 0)
                (void)complain(yield->invocation, yield->failed_status,
                               "other processes have the GPUs open; end them, or %s:", yield->way_out);
        (void)each_client(yield, name_client);
        if (n > 0 && !force)
                return yield->failed_status;
        return force ? STATUS_DONE : complain_gap(yield);
}

/* ---- with Holdfast: a lease ----------------------------------------------------------------------------------- */

static size_t list_addresses(const struct yield *yield, struct pci_address addresses[static HF_GPUS_MAX]) {
        size_t n = 0;

        if (yield->all)
                return 0; /* all, also those that are added meanwhile */
        each_selected(gpu, yield->snapshot)
                if (n < HF_GPUS_MAX)
                        addresses[n++] = gpu->info.address;
        return n;
}

static bool is_unreleased(const struct hf_gpu *detail) {
        return detail->leased && (detail->stuck || detail->error_text[0] != '\0');
}

/* The lease exists until its connection ends, and until then the daemon reports the reason. */
static int complain_unreleased(const struct yield *yield) {
        CLEANUP(free_ptr) struct hf_gpu *details = NULL;
        struct hf_list_head head = {0};

        (void)complain(yield->invocation, yield->failed_status,
                       "the daemon could not release every GPU; %s was not run, and the GPUs are held again",
                       yield->user);
        if (client_list(yield->lease, &head, &details) < 0)
                head.n_gpus = 0;
        for (uint32_t i = 0; i < head.n_gpus; i++) {
                const struct pci_address address = client_address(&details[i].address);
                const struct snapshot_gpu *gpu = snapshot_find(yield->snapshot, &address);

                if (gpu && is_unreleased(&details[i]))
                        complain_detail("%s: %s", gpu->label,
                                        details[i].error_text[0] != '\0' ? text_printable(details[i].error_text)
                                                                         : "stuck in the driver; see the kernel log");
        }
        return yield->failed_status;
}

static int complain_lease(const struct yield *yield, uint32_t status) {
        if (status == NVPD_PERMISSIONS)
                return complain(yield->invocation, yield->failed_status,
                                "the daemon refused: only root of the host and members of the daemon's --admin-group "
                                "may have GPUs released; this is uid %u",
                                (unsigned)geteuid());
        if (status == NVPD_DRIVER)
                return complain_unreleased(yield);
        return complain(yield->invocation, yield->failed_status, "the daemon refused: %s", nvpd_status_text(status));
}

static int begin_lease(struct yield *yield) {
        struct pci_address addresses[HF_GPUS_MAX];
        size_t n = list_addresses(yield, addresses);
        char reason[384];
        uint32_t status;
        int r;

        r = client_connect(&yield->lease, yield->snapshot->daemon_socket, yield->timeout_usec);
        if (r < 0) {
                client_connect_error(reason, sizeof(reason), yield->snapshot->daemon_socket, r);
                return complain(yield->invocation, yield->failed_status, "%s", reason);
        }
        r = client_lease(yield->lease, addresses, n, &status);
        if (r < 0)
                return complain(yield->invocation, yield->failed_status, "%s", client_error(yield->lease));
        return status == NVPD_SUCCESS ? STATUS_DONE : complain_lease(yield, status);
}

/* What became of the GPUs that were held before. */
struct again {
        size_t n_held;
        size_t n_waiting;
        size_t n_refused; /* drained by nvidia-smi drain: the driver refuses to open them, so waiting does not help */
        size_t n_gone;    /* not in the driver any more, or not wanted any more */
};

static bool is_answering(const struct snapshot *snapshot) {
        return snapshot->daemon == DAEMON_HOLDFAST;
}

bool yield_was_held(const struct snapshot_gpu *gpu) {
        return gpu->selected && gpu->held == HF_YES;
}

/*
 * The user of the GPUs may have removed or unbound one and brought it back a moment ago. Until the daemon notices, it
 * does not list the GPU (although the driver does), or lists it as not wanted. If the daemon notices the removal or
 * unbind while it opens the GPU, it first ends that open and closes the GPU, which may take longer than HEARING_USEC.
 * So if the daemon lists the GPU, this command waits for it at least until its state is released.
 */
static bool is_given_up(const struct snapshot_gpu *now, uint64_t elapsed_usec) {
        return !now || (now->in_daemon && !now->detail.wanted && !now->detail.leased &&
                        now->detail.state == HF_GPU_RELEASED && elapsed_usec >= HEARING_USEC);
}

static struct again count_again(const struct yield *yield, const struct snapshot *now, uint64_t elapsed_usec) {
        struct again again = {0};

        each_gpu(gpu, yield->snapshot) {
                const struct snapshot_gpu *row = snapshot_find(now, &gpu->info.address);

                if (!yield_was_held(gpu))
                        continue;
                if (!is_answering(now))
                        again.n_waiting++;
                else if (is_given_up(row, elapsed_usec))
                        again.n_gone++;
                else if (row->held == HF_YES)
                        again.n_held++;
                else if (row->detail.error_number == EBUSY)
                        again.n_refused++;
                else
                        again.n_waiting++;
        }
        return again;
}

static void name_not_held(const struct yield *yield, const struct snapshot *now) {
        each_gpu(gpu, yield->snapshot) {
                const struct snapshot_gpu *row = snapshot_find(now, &gpu->info.address);

                if (!yield_was_held(gpu) || (row && row->held == HF_YES))
                        continue;
                complain_detail("%s: %s%s%s", gpu->label,
                                !row              ? "no longer present; the daemon holds it when it comes back"
                                : !row->in_daemon ? "the daemon does not list it yet; once listed, it is held again"
                                                  : snapshot_state(now, row),
                                row && row->detail.error_text[0] ? ": " : "", row ? row->detail.error_text : "");
        }
}

static int tell_again(const struct yield *yield, const struct snapshot *now, uint64_t elapsed_usec) {
        struct again again = count_again(yield, now, elapsed_usec);
        size_t n = again.n_held + again.n_waiting + again.n_refused + again.n_gone;

        if (yield->repeated && again.n_held == n)
                return STATUS_DONE;
        if (n == 0)
                return complain(yield->invocation, STATUS_DONE,
                                "the lease has ended; none of these GPUs was held before");
        (void)complain(yield->invocation, STATUS_DONE, "%zu of %zu GPU%s held again after %s%s%s", again.n_held, n,
                       text_plural(n), report_duration(elapsed_usec).text, is_answering(now) ? "" : "; ",
                       now->daemon_error);
        if (is_answering(now))
                name_not_held(yield, now);
        return again.n_waiting + again.n_refused == 0 ? STATUS_DONE : yield->not_held_status;
}

/* ---- and their settings ---------------------------------------------------------------------------------------- */

/*
 * Counts the GPUs that are held again and whose settings holdfast-settings.service, if it runs, has not applied yet.
 * ret_n_differing: how many of the others have a setting that is not as wanted.
 */
static size_t count_unset(const struct yield *yield, const struct snapshot *now, size_t *ret_n_differing) {
        size_t n = 0;

        *ret_n_differing = 0;
        each_gpu(gpu, yield->snapshot) {
                const struct snapshot_gpu *row = now->settings ? snapshot_find(now, &gpu->info.address) : NULL;

                if (!yield_was_held(gpu) || !row || row->held != HF_YES)
                        continue;
                if (!settings_state_is_applied(row->settings, now->head.started_realtime_usec, row->detail.opens))
                        n++;
                else if (settings_state_count_differing(row->settings) > 0)
                        ++*ret_n_differing;
        }
        return n;
}

static void tell_unset(const struct yield *yield, size_t n_unset, size_t n_differing) {
        if (n_unset > 0)
                (void)complain(yield->invocation, STATUS_DONE,
                               "warning: the settings of %zu GPU%s are not applied yet; see holdfast settings", n_unset,
                               text_plural(n_unset));
        if (n_differing > 0)
                (void)complain(yield->invocation, STATUS_DONE,
                               "warning: the settings of %zu GPU%s are not as wanted; see holdfast settings",
                               n_differing, text_plural(n_differing));
}

/* Waits until the GPUs are held again and have their settings, except those that the driver refuses. */
static int wait_again(const struct yield *yield, uint64_t start_usec) {
        uint64_t deadline_usec = clock_deadline_usec(yield->timeout_usec);

        for (;;) {
                CLEANUP(snapshot_done) struct snapshot *now = NULL;
                size_t n_unset, n_differing;
                uint64_t now_usec, elapsed_usec;

                /* SNAPSHOT_NAMES: the driver may list a GPU that is back before the daemon lists it. */
                if (command_look(yield->invocation, SNAPSHOT_DAEMON | SNAPSHOT_QUICK | SNAPSHOT_NAMES,
                                 COMMAND_ANSWER_USEC, &now) != STATUS_DONE)
                        return yield->not_held_status;
                now_usec = clock_monotonic_usec();
                elapsed_usec = now_usec - start_usec;
                n_unset = count_unset(yield, now, &n_differing);
                if (now_usec >= deadline_usec || (count_again(yield, now, elapsed_usec).n_waiting == 0 &&
                                                  (n_unset == 0 || elapsed_usec >= SETTINGS_USEC))) {
                        int status = tell_again(yield, now, elapsed_usec);

                        if (!yield->repeated)
                                tell_unset(yield, n_unset, n_differing);
                        return status;
                }
                clock_sleep(POLL_USEC);
        }
}

static int end_lease(struct yield *yield) {
        CLEANUP(free_ptr) struct hf_gpu *details = NULL;
        uint64_t start_usec = clock_monotonic_usec();
        struct hf_list_head head;

        if (yield->lease && client_list(yield->lease, &head, &details) < 0)
                (void)complain(yield->invocation, STATUS_DONE,
                               "warning: the lease ended before %s did (%s): the GPUs may have been held meanwhile",
                               yield->user, client_error(yield->lease));
        client_done(&yield->lease);
        if (!yield->repeated)
                child_let_signals(); /* nothing is left to undo, so a signal may end the wait */
        return wait_again(yield, start_usec);
}

int yield_lease_fd(const struct yield *yield) {
        return yield->lease ? client_fd(yield->lease) : -1;
}

bool yield_is_lost(const struct yield *yield) {
        CLEANUP(client_done) struct client *client = NULL;
        struct hf_stats stats;
        int r;

        /* A daemon that is about to end may accept the connection, but does not answer any more. */
        r = client_connect(&client, yield->snapshot->daemon_socket, LOST_USEC);
        if (r == 0)
                r = client_stats(client, &stats);
        return r == 0 || r == -EOPNOTSUPP; /* the answer of NVIDIA's daemon */
}

/* ---- with NVIDIA's daemon: off and on ------------------------------------------------------------------------- */

static int set_mode(const struct yield *yield, const struct snapshot_gpu *gpu, bool on) {
        CLEANUP(client_done) struct client *client = NULL;
        uint32_t status = NVPD_SUCCESS;
        char reason[384];
        int r;

        r = client_connect(&client, yield->snapshot->daemon_socket, yield->timeout_usec);
        if (r < 0)
                client_connect_error(reason, sizeof(reason), yield->snapshot->daemon_socket, r);
        else if ((r = client_set_mode(client, &gpu->info.address, on, &status)) < 0)
                text_set(reason, "%s", client_error(client));
        else
                text_set(reason, "%s", nvpd_status_text(status));
        if (r == 0 && status == NVPD_SUCCESS)
                return STATUS_DONE;
        return complain(yield->invocation, yield->failed_status, "%s: persistence mode cannot be switched %s: %s",
                        gpu->label, on ? "on" : "off", reason);
}

static int switch_on(struct yield *yield) {
        uint64_t start_usec = clock_monotonic_usec();
        size_t n = 0, n_held = 0;

        each_gpu(gpu, yield->snapshot)
                if (yield_was_held(gpu)) {
                        n++;
                        n_held += set_mode(yield, gpu, true) == STATUS_DONE;
                }
        if (!yield->repeated || n_held < n)
                (void)complain(yield->invocation, STATUS_DONE, "%zu of %zu GPU%s held again after %s", n_held, n,
                               text_plural(n), report_duration(clock_monotonic_usec() - start_usec).text);
        if (!yield->repeated)
                child_let_signals();
        return n_held == n ? STATUS_DONE : yield->not_held_status;
}

static int switch_off(struct yield *yield) {
        int status = STATUS_DONE;

        if (!yield->repeated)
                (void)complain(
                        yield->invocation, STATUS_DONE,
                        "note: NVIDIA's daemon has no leases, so persistence mode is switched off, and on again after "
                        "%s. If this process is killed in between, it stays off; run 'holdfast set on' then",
                        yield->user);
        child_keep_signals();
        each_gpu(gpu, yield->snapshot)
                if (status == STATUS_DONE && yield_was_held(gpu) && child_signal_kept() == 0)
                        status = set_mode(yield, gpu, false);
        if (status == STATUS_DONE && child_signal_kept() == 0)
                return STATUS_DONE;
        (void)switch_on(yield); /* unless `repeated`, this unblocks the signal */
        return yield->failed_status;
}

/* ---- without a daemon ----------------------------------------------------------------------------------------- */

static int begin_alone(struct yield *yield) {
        if (yield->repeated)
                return STATUS_DONE;
        return complain(yield->invocation, STATUS_DONE,
                        "note: %s; so there is nothing to release, but other programs may open the GPUs meanwhile",
                        yield->snapshot->daemon_error);
}

static int end_alone(struct yield *yield) {
        return STATUS_DONE;
}

/* ---- either ---------------------------------------------------------------------------------------------------- */

static const struct {
        int (*begin)(struct yield *yield); /* STATUS_DONE, or the exit status */
        int (*end)(struct yield *yield);
} ways[] = {
        [DAEMON_NONE] = {begin_alone, end_alone},
        [DAEMON_HOLDFAST] = {begin_lease, end_lease},
        [DAEMON_NVIDIA] = {switch_off, switch_on},
};

int yield_begin(struct yield *yield) {
        return ways[yield->snapshot->daemon].begin(yield);
}

int yield_end(struct yield *yield) {
        return ways[yield->snapshot->daemon].end(yield);
}
