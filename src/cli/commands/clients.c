/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast clients: which processes have which GPU open. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/node/process.h"
#include "cli/report/report.h"

static struct clients_options {
        struct ids gpus;
        bool json;
} chosen;

static const struct option_spec options[] = {
        OPTION_GPU(struct clients_options, "only clients of this GPU; may be given several times"),
        OPTION_JSON(struct clients_options, "print JSON (docs/schemas/clients.json)"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "printed, whether there are clients or not"},
        {STATUS_FAILED, "no information: neither a driver nor a daemon, or /proc cannot be read"},
        {STATUS_USAGE, "wrong usage"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

/* One line: a process with a GPU open. */
struct client_row {
        const struct snapshot_gpu *gpu;
        const struct holder *holder;
        struct process *process;
        bool is_daemon;
};

struct client_rows {
        size_t n;
        struct client_row *rows;
        struct process *processes; /* one for each row */
};

static void client_rows_done(struct client_rows *list) {
        free(list->rows);
        free(list->processes);
}

/* ---- gathering ------------------------------------------------------------------------------------------------ */

static void add_gpu(struct client_rows *list, const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        for (size_t i = 0; i < gpu->n_clients; i++) {
                const struct holder *holder = &gpu->clients[i];
                struct client_row *row = &list->rows[list->n];

                row->is_daemon = snapshot_is_daemon(snapshot, holder);
                if (!row->is_daemon && !snapshot_is_client(snapshot, holder))
                        continue;
                if (holder->is_keeper && gpu->held == HF_YES) /* the daemon's row shows this GPU already */
                        continue;
                row->gpu = gpu;
                row->holder = holder;
                row->process = &list->processes[list->n];
                row->process->pid = holder->pid;
                list->n++;
        }
}

static int gather(const struct snapshot *snapshot, struct client_rows *list) {
        int r;

        list->rows = calloc(snapshot->n_holders + 1, sizeof(*list->rows));
        list->processes = calloc(snapshot->n_holders + 1, sizeof(*list->processes));
        if (!list->rows || !list->processes)
                return -ENOMEM;
        each_selected(gpu, snapshot)
                add_gpu(list, snapshot, gpu);
        r = processes_read(list->processes, list->n);
        for (size_t i = 0; i < list->n; i++) {
                struct process *process = &list->processes[i];

                if (process->command[0] == '\0') /* a zombie, a kernel thread, or a read that hangs */
                        text_set(process->command, "%s", list->rows[i].holder->name);
        }
        return r;
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

static const char *container_text(const struct process *process, char *buffer, size_t size) {
        if (process->contained)
                (void)text_format(buffer, size, "%s %s", process->container.runtime, process->container.name);
        else
                (void)text_copy(buffer, size, "-");
        return buffer;
}

/* Without the program's folder where the width is limited. */
static const char *command_text(const struct process *process, const struct report_style *style) {
        size_t first = strcspn(process->command, " ");
        const char *slash = style->width > 0 ? memrchr(process->command, '/', first) : NULL;

        return slash ? slash + 1 : process->command;
}

static void fill_row(struct table *table, const struct client_row *row, const struct report_style *style) {
        const struct process *process = row->process;
        const char *role = row->holder->is_keeper ? "(keeper) " : row->is_daemon ? "(daemon) " : "";
        char container[CONTAINER_RUNTIME_SIZE + CONTAINER_NAME_SIZE];

        table_row(table);
        table_cell(table, COLOUR_NONE, "%zu", row->gpu->index);
        table_cell(table, COLOUR_NONE, "%d", (int)process->pid);
        table_cell(table, COLOUR_NONE, "%s", process->user[0] ? process->user : "?");
        table_cell(table, COLOUR_NONE, "%s", report_time_local(process->start_realtime_usec).text);
        table_cell(table, COLOUR_NONE, "%s", container_text(process, container, sizeof(container)));
        table_cell(table, row->is_daemon ? COLOUR_GOOD : COLOUR_NONE, "%s%s", role, command_text(process, style));
}

static int print_table(const struct client_rows *list, const struct report_style *style) {
        static const struct table_column columns[] = {
                /* clang-format off */
                {.title = "GPU", .right = true},
                {.title = "PID", .right = true},
                {.title = "User", .width_min = 8},
                {.title = "Since"},
                {.title = "Container", .width_min = 9},
                {.title = "Command"},
                /* clang-format on */
        };
        CLEANUP(table_done) struct table table = {.columns = columns, .n_columns = ARRAY_SIZE(columns)};

        for (size_t i = 0; i < list->n; i++)
                fill_row(&table, &list->rows[i], style);
        return table_print(&table, stdout, style->width, style->colours);
}

/* Returns the first process of which a read hangs, or NULL. */
static const struct process *find_hanging(const struct client_rows *list) {
        for (size_t i = 0; i < list->n; i++)
                if (list->processes[i].hanging)
                        return &list->processes[i];
        return NULL;
}

static void print_notes(const struct snapshot *snapshot, const struct client_rows *list,
                        const struct report_style *style) {
        const struct process *hanging = find_hanging(list);
        char gap[SNAPSHOT_GAP_SIZE], text[SNAPSHOT_GAP_SIZE];
        const char *why;

        if (snapshot->modeset)
                text_wrap(stdout,
                          "nvidia-drm drives displays (modeset): it keeps every GPU initialised from inside the "
                          "kernel, without a process.",
                          0, 0, style->width);
        why = snapshot_gap(snapshot, "processes of other users cannot be seen; run as root to see them.", gap,
                           sizeof(gap));
        if (why)
                text_wrap(stdout, why, 0, 0, style->width);
        if (hanging) {
                text_set(text,
                         "details are missing: a read of /proc/%d hangs, so the program's name is shown instead of its "
                         "command line.",
                         (int)hanging->pid);
                text_wrap(stdout, text, 0, 0, style->width);
        }
}

static int print_text(const struct snapshot *snapshot, const struct client_rows *list) {
        struct report_style style = report_style_of(stdout);
        int r = 0;

        if (list->n > 0)
                r = print_table(list, &style);
        else
                puts(snapshot->clients_complete      ? "no process has a GPU open"
                     : snapshot->sight.n_hanging > 0 ? "no process that could be examined has a GPU open"
                                                     : "no process of yours has a GPU open");
        if (r == 0)
                print_notes(snapshot, list, &style);
        return r;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static json_t *container_json(const struct process *process) {
        if (!process->contained)
                return json_null();
        return json_pack("{s:s, s:s}", "runtime", process->container.runtime, "name", process->container.name);
}

static json_t *row_json(const struct client_row *row) {
        const struct process *process = row->process;

        return json_pack("{s:I, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:b}", "gpu", (json_int_t)row->gpu->index,
                         "address", row->gpu->address, "pid", (int)process->pid, "uid",
                         process->uid_known ? json_integer(process->uid) : json_null(), "user",
                         report_json_text(process->user), "name", report_json_text(row->holder->name), "command",
                         report_json_text(process->command), "container", container_json(process), "since",
                         report_json_time(process->start_realtime_usec), "descriptors",
                         (json_int_t)row->holder->n_descriptors, "daemon", row->is_daemon);
}

static int print_json(const struct invocation *invocation, const struct snapshot *snapshot,
                      const struct client_rows *list) {
        json_t *clients = json_array();

        for (size_t i = 0; i < list->n; i++)
                (void)json_array_append_new(clients, row_json(&list->rows[i]));
        return command_print_json(invocation, json_pack("{s:s, s:b, s:b, s:o}", "schema", "holdfast.clients/1",
                                                        "complete", snapshot->clients_complete, "modeset",
                                                        snapshot->modeset, "clients", clients));
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int tell(const struct invocation *invocation, const struct snapshot *snapshot) {
        CLEANUP(client_rows_done) struct client_rows list = {0};

        if (gather(snapshot, &list) < 0)
                return complain_memory(invocation);
        if (chosen.json)
                return print_json(invocation, snapshot, &list);
        return print_text(snapshot, &list) < 0 ? complain_memory(invocation) : STATUS_DONE;
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        int status;

        status = command_look(invocation, SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS, COMMAND_ANSWER_USEC, &snapshot);
        if (status == STATUS_DONE)
                status = command_select(invocation, &chosen.gpus, STATUS_FAILED, snapshot);
        if (status == STATUS_DONE && !snapshot->clients_known)
                return complain(invocation, STATUS_FAILED, "cannot search /proc for processes: is it mounted?");
        return status == STATUS_DONE ? tell(invocation, snapshot) : status;
}

const struct command clients_command = {
        .name = "clients",
        .summary = "show which processes have which GPU open",
        .description = "Shows each process that has a GPU's node open: its user, its start time and its\n"
                       "container. The daemon is one of them. Only root sees processes of other users.",
        .examples = "  holdfast clients --gpu 0\n"
                    "  holdfast clients --json | jq '.clients[] | select(.daemon | not) | .pid'",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
