/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast set: persistence mode on or off, through the daemon. Without a daemon it sets the kernel's own flag, which
 * the driver deprecates.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/report.h"
#include "client/client.h"
#include "client/nvml.h"

static struct set_options {
        struct ids gpus;
        bool json;
        uint64_t timeout_usec;
        const char *nvml;
} chosen = {
        .timeout_usec = 120 * USEC_PER_SEC,
};

static const struct option_spec options[] = {
        OPTION_GPU(struct set_options, "only this GPU; may be given several times"),
        OPTION_JSON(struct set_options, "print JSON (docs/schemas/set.json)"),
        OPTION_VALUE(struct set_options, nvml, OPTION_TEXT, "nvml", "FILE",
                     "the library that sets the kernel's flag when there is no daemon (default: " NVML_LIBRARY
                     "; required with --root)"),
        OPTION_TIMEOUT(struct set_options, "wait that long for each GPU (default 120)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "done for every GPU, or nothing had to be done"},
        {STATUS_FAILED, "the driver or the daemon refused; the message has the reason"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_DAEMON, "there is neither a daemon nor NVML"},
        {STATUS_NOT_PERMITTED, "not permitted: needs root"},
        {STATUS_NO_GPU, "no such GPU"},
        {STATUS_TIMEOUT, "the daemon did not answer in time; it may still carry out the request"},
        {0},
};

/* One run for all GPUs. */
struct set_run {
        const struct invocation *invocation;
        const struct snapshot *snapshot;
        struct nvml *nvml; /* NULL: through the daemon */
        bool on;
        json_t *results; /* NULL: text */
        int status;      /* of the first failure */
};

/* What came of one GPU. */
struct set_result {
        enum exit_status status;
        uint64_t duration_usec;
        char reason[HF_TEXT_SIZE + 256];
};

/* ---- through the daemon --------------------------------------------------------------------------------------- */

/* Only Holdfast's daemon reports the reason. */
static void explain_driver_failure(struct client *client, const struct snapshot_gpu *gpu, struct set_result *result) {
        CLEANUP(free_ptr) struct hf_gpu *details = NULL;
        struct hf_list_head head;

        if (client_list(client, &head, &details) < 0)
                return;
        for (uint32_t i = 0; i < head.n_gpus; i++) {
                const struct pci_address address = client_address(&details[i].address);

                if (pci_address_compare(&address, &gpu->info.address) == 0 && details[i].error_text[0] != '\0')
                        text_set(result->reason, "%s%s", text_printable(details[i].error_text),
                                 details[i].wanted ? " (the daemon keeps retrying)" : "");
        }
}

static void take_status(uint32_t status, struct set_result *result) {
        static const enum exit_status exit_statuses[] = {
                [NVPD_DEVICE_NOT_FOUND] = STATUS_NO_GPU,
                [NVPD_PERMISSIONS] = STATUS_NOT_PERMITTED,
        };
        enum exit_status mapped = status < ARRAY_SIZE(exit_statuses) ? exit_statuses[status] : STATUS_DONE;

        result->status = mapped != STATUS_DONE ? mapped : STATUS_FAILED;
        if (status == NVPD_PERMISSIONS)
                text_set(result->reason, "the daemon refused: only root of the host may change it; this is uid %u",
                         (unsigned)geteuid());
        else
                text_set(result->reason, "%s", nvpd_status_text(status));
}

static void set_by_daemon(const struct set_run *run, const struct snapshot_gpu *gpu, struct set_result *result) {
        CLEANUP(client_done) struct client *client = NULL;
        uint32_t status;
        int r;

        /* A connection for each GPU, as in NVML: a timeout then does not affect the next GPU. */
        r = client_connect(&client, run->snapshot->daemon_socket, chosen.timeout_usec);
        if (r < 0) {
                client_connect_error(result->reason, sizeof(result->reason), run->snapshot->daemon_socket, r);
                result->status = r == -EACCES ? STATUS_NOT_PERMITTED : STATUS_FAILED;
                return;
        }
        r = client_set_mode(client, &gpu->info.address, run->on, &status);
        if (r < 0) {
                result->status = r == -ETIMEDOUT ? STATUS_TIMEOUT : STATUS_FAILED;
                text_set(result->reason, "%s", client_error(client));
                return;
        }
        if (status == NVPD_SUCCESS)
                return;
        take_status(status, result);
        if (status == NVPD_DRIVER && run->snapshot->daemon == DAEMON_HOLDFAST)
                explain_driver_failure(client, gpu, result);
}

/* ---- through NVML --------------------------------------------------------------------------------------------- */

static void set_by_nvml(const struct set_run *run, const struct snapshot_gpu *gpu, struct set_result *result) {
        int r = nvml_set_persistence(run->nvml, &gpu->info.address, run->on, result->reason, sizeof(result->reason));

        if (r == 0)
                return;
        result->status = r == -EPERM ? STATUS_NOT_PERMITTED : r == -ENODEV ? STATUS_NO_GPU : STATUS_FAILED;
}

/*
 * While the socket's path exists, NVML connects to it, and sets no flag if no daemon answers ("Unknown Error"). If a
 * daemon is just starting (-EBUSY), perhaps without a socket yet, this command does not set the flag either: the flag
 * is for nodes without a daemon, and would stay set while that daemon runs.
 */
static int remove_dead_socket(const struct invocation *invocation, const struct snapshot *snapshot) {
        int r = client_remove_dead_socket(snapshot->daemon_socket);

        if (r == -EBUSY)
                return complain(invocation, STATUS_FAILED, "a persistence daemon is just starting: try again");
        if (r < 0 && snapshot->daemon_errno == -ECONNREFUSED)
                return complain(
                        invocation, r == -EACCES || r == -EPERM ? STATUS_NOT_PERMITTED : STATUS_FAILED,
                        "cannot remove %s, left behind by a killed daemon: %s. While it exists, NVML sets nothing; "
                        "run this as root, or remove it",
                        snapshot->daemon_socket, strerror(-r));
        return STATUS_DONE;
}

static int open_nvml(const struct invocation *invocation, const struct snapshot *snapshot, struct nvml **ret_nvml) {
        char error[256];

        /* The system's NVML uses the system's driver, but --root names a node with another driver. */
        if (!invocation->locations->has_nvml && !chosen.nvml)
                return complain(invocation, STATUS_NO_DAEMON,
                                "%s; to set the kernel's flag below --root %s instead, name the NVML of the driver "
                                "there with --nvml FILE",
                                snapshot->daemon_error, invocation->locations->root);
        if (nvml_open(ret_nvml, chosen.nvml ? chosen.nvml : NVML_LIBRARY, error, sizeof(error)) < 0)
                return complain(invocation, STATUS_NO_DAEMON,
                                "%s; nor can the kernel's flag be set instead: %s. Start nvidia-persistenced",
                                snapshot->daemon_error, error);
        (void)complain(
                invocation, STATUS_DONE,
                "warning: %s. Setting the kernel's own persistence flag instead, which the driver deprecates and "
                "will remove; run nvidia-persistenced",
                snapshot->daemon_error);
        return STATUS_DONE;
}

/* ---- output --------------------------------------------------------------------------------------------------- */

static void tell_text(const struct set_run *run, const struct snapshot_gpu *gpu, const struct set_result *result) {
        const char *what = run->nvml ? "kernel flag" : "persistence mode";
        const char *mode = run->on ? "on" : "off";

        if (result->status == STATUS_DONE)
                printf("%s: %s %s (%s)\n", gpu->label, what, mode, report_duration(result->duration_usec).text);
        else
                (void)complain(run->invocation, result->status, "%s: %s not %s: %s", gpu->label, what, mode,
                               result->reason);
}

static void tell_json(const struct set_run *run, const struct snapshot_gpu *gpu, const struct set_result *result) {
        bool ok = result->status == STATUS_DONE;

        (void)json_array_append_new(
                run->results,
                json_pack("{s:I, s:s, s:b, s:f, s:i, s:o}", "index", (json_int_t)gpu->index, "address", gpu->address,
                          "ok", ok, "duration_ms", (double)result->duration_usec / (double)USEC_PER_MSEC, "exit_status",
                          (int)result->status, "error", ok ? json_null() : json_string(result->reason)));
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static void set_one(struct set_run *run, const struct snapshot_gpu *gpu) {
        struct set_result result = {.status = STATUS_DONE};
        uint64_t start_usec = clock_monotonic_usec();

        if (run->nvml)
                set_by_nvml(run, gpu, &result);
        else
                set_by_daemon(run, gpu, &result);
        result.duration_usec = clock_monotonic_usec() - start_usec;

        if (run->status == STATUS_DONE)
                run->status = result.status;
        if (run->results)
                tell_json(run, gpu, &result);
        else
                tell_text(run, gpu, &result);
        (void)fflush(stdout); /* the next GPU may take seconds */
}

static int set_all(const struct invocation *invocation, const struct snapshot *snapshot, struct nvml *nvml, bool on) {
        struct set_run run = {
                .invocation = invocation,
                .snapshot = snapshot,
                .nvml = nvml,
                .on = on,
                .results = chosen.json ? json_array() : NULL,
        };

        each_selected(gpu, snapshot)
                set_one(&run, gpu);
        if (chosen.json &&
            command_print_json(invocation,
                               json_pack("{s:s, s:s, s:s, s:o}", "schema", "holdfast.set/1", "mode", on ? "on" : "off",
                                         "via", nvml ? "nvml" : "daemon", "gpus", run.results)) != STATUS_DONE)
                return STATUS_FAILED;
        return run.status;
}

static int parse_mode(const struct invocation *invocation, bool *ret_on) {
        static const struct {
                const char *word;
                bool on;
        } words[] = {
                /* clang-format off */
                {"0", false},
                {"1", true},
                {"disabled", false},
                {"enabled", true},
                {"off", false},
                {"on", true},
                /* clang-format on */
        };

        if (invocation->n_words != 1)
                return complain_usage(invocation, invocation->n_words == 0
                                                          ? "on or off is missing"
                                                          : "more than one mode; name GPUs with --gpu");
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (text_equal_nocase(words[i].word, invocation->words[0])) {
                        *ret_on = words[i].on;
                        return STATUS_DONE;
                }
        return complain_usage(invocation, "'%.40s' is not one of on, off, 1, 0, ENABLED, DISABLED",
                              invocation->words[0]);
}

static int complain_silent(const struct invocation *invocation, const struct snapshot *snapshot) {
        enum exit_status status = STATUS_FAILED;

        if (snapshot->daemon_errno == -EACCES)
                status = STATUS_NOT_PERMITTED;
        if (snapshot->daemon_errno == -ETIMEDOUT)
                status = STATUS_TIMEOUT;
        return complain(invocation, status, "%s", snapshot->daemon_error);
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        CLEANUP(nvml_done) struct nvml *nvml = NULL;
        int status;
        bool on = false;

        status = parse_mode(invocation, &on);
        if (status == STATUS_DONE)
                status = command_look(invocation, SNAPSHOT_DAEMON, chosen.timeout_usec, &snapshot);
        if (status != STATUS_DONE)
                return status;
        if (snapshot->daemon == DAEMON_SILENT)
                return complain_silent(invocation, snapshot);
        status = command_select(invocation, &chosen.gpus, STATUS_NO_DAEMON, snapshot);
        if (status == STATUS_DONE && !snapshot_next(snapshot, NULL, true))
                return complain(invocation, STATUS_NO_GPU, "there are no GPUs");
        if (status == STATUS_DONE && snapshot->daemon == DAEMON_NONE)
                status = open_nvml(invocation, snapshot, &nvml);
        if (status == STATUS_DONE && snapshot->daemon == DAEMON_NONE)
                status = remove_dead_socket(invocation, snapshot);
        return status == STATUS_DONE ? set_all(invocation, snapshot, nvml, on) : status;
}

const struct command set_command = {
        .name = "set",
        .words = "on|off",
        .summary = "switch persistence mode on or off",
        .description = "Switches persistence mode on or off, for all GPUs or those named, and returns\n"
                       "when it is done. After off, the GPU is torn down if no other process uses it.\n"
                       "Also takes 1, 0, ENABLED and DISABLED. It asks the daemon; without a daemon, it\n"
                       "sets the kernel's own flag through NVML, which the driver deprecates. If several\n"
                       "GPUs fail, the exit status is that of the first.",
        .examples = "  holdfast set on\n"
                    "  holdfast set off --gpu 0 --gpu 0000:5d:00.0",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
