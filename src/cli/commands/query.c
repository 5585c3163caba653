/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast query: chosen fields of each GPU, in nvidia-smi's CSV or in JSON. */

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/commands/query_fields.h"
#include "cli/report/report.h"

enum { QUERY_FIELDS_MAX = 64 };

static struct query_options {
        const char *fields;
        const char *format;
        struct ids gpus;
        bool json;
        bool list_fields;
} query_options = {
        .format = "csv",
};

static const struct option_spec options[] = {
        {
                .name = "fields",
                .alias = "query-gpu",
                .argument = "NAME,...",
                .help = "which fields, in this order (also --query-gpu, as nvidia-smi calls it)",
                .kind = OPTION_TEXT,
                .offset = offsetof(struct query_options, fields),
        },
        OPTION_GPU(struct query_options, "only this GPU; may be given several times"),
        {
                .name = "format",
                .argument = "csv[,noheader][,nounits]",
                .help = "without the line of names, without units (default: csv)",
                .kind = OPTION_TEXT,
                .offset = offsetof(struct query_options, format),
        },
        OPTION_JSON(struct query_options, "print JSON (docs/schemas/query.json)"),
        {
                .name = "list-fields",
                .help = "print all fields and their meanings",
                .kind = OPTION_FLAG,
                .offset = offsetof(struct query_options, list_fields),
        },
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the fields are told"},
        {STATUS_FAILED, "nothing can be told: there is neither a driver nor a daemon"},
        {STATUS_USAGE, "wrong usage, an unknown field"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

struct query {
        const struct field *fields[QUERY_FIELDS_MAX];
        size_t n_fields;
        bool header;
        bool units;
};

/* ---- what is asked for ------------------------------------------------------- */

static int complain_unknown_field(const struct invocation *invocation, const char *name) {
        struct nearest nearest = nearest_to(name);
        char hint[64];

        for (size_t i = 0; i < n_fields; i++)
                nearest_try(&nearest, fields[i].name);
        if (nearest.name)
                return complain_usage(invocation, "unknown field '%s'%s --list-fields prints all", name,
                                      nearest_hint(&nearest, "", hint, sizeof(hint)));
        return complain_usage(
                invocation,
                "unknown field '%s'; --list-fields prints all. What only the GPU itself can tell, such as "
                "temperatures, ask of nvidia-smi",
                name);
}

static int parse_fields(const struct invocation *invocation, const char *list, struct query *query) {
        for (;;) {
                size_t length = strcspn(list, ",");
                char name[64];

                (void)text_format(name, sizeof(name), "%.*s", (int)(length < sizeof(name) ? length : sizeof(name) - 1),
                                  list);
                if (query->n_fields == QUERY_FIELDS_MAX)
                        return complain_usage(invocation, "more than %d fields", QUERY_FIELDS_MAX);
                query->fields[query->n_fields] = field_find(text_trim(name));
                if (!query->fields[query->n_fields++])
                        return complain_unknown_field(invocation, text_trim(name));
                if (list[length] == '\0')
                        return STATUS_DONE;
                list += length + 1;
        }
}

static int parse_format(const struct invocation *invocation, const char *list, struct query *query) {
        bool csv = false;

        query->header = query->units = true;
        for (;;) {
                size_t length = strcspn(list, ",");
                char word[32];

                (void)text_format(word, sizeof(word), "%.*s", (int)(length < sizeof(word) ? length : sizeof(word) - 1),
                                  list);
                if (text_equal(text_trim(word), "csv"))
                        csv = true;
                else if (text_equal(text_trim(word), "noheader"))
                        query->header = false;
                else if (text_equal(text_trim(word), "nounits"))
                        query->units = false;
                else
                        return complain_usage(invocation, "--format: '%s' is none of csv, noheader, nounits", word);
                if (list[length] == '\0')
                        break;
                list += length + 1;
        }
        return csv ? STATUS_DONE : complain_usage(invocation, "--format: csv is missing (csv[,noheader][,nounits])");
}

static int parse(const struct invocation *invocation, struct query *query) {
        const struct query_options *chosen = invocation->options;
        int status;

        if (!chosen->fields)
                return complain_usage(invocation, "--fields NAME,... is missing; --list-fields has all names");
        status = parse_fields(invocation, chosen->fields, query);
        if (status == STATUS_DONE)
                status = parse_format(invocation, chosen->format, query);
        return status;
}

/* ---- CSV --------------------------------------------------------------------- */

static void print_csv_header(const struct query *query) {
        for (size_t i = 0; i < query->n_fields; i++) {
                const struct field *field = query->fields[i];

                printf("%s%s", i > 0 ? ", " : "", field->name);
                if (field->unit)
                        printf(" [%s]", field->unit);
        }
        putchar('\n');
}

/* nvidia-smi quotes nothing, and none of its values needs it; sentences do (RFC 4180). */
static void print_csv_text(const char *text) {
        if (!strpbrk(text, ",\"\n")) {
                fputs(text, stdout);
                return;
        }
        putchar('"');
        for (; *text != '\0'; text++)
                printf(*text == '"' ? "\"\"" : "%c", *text);
        putchar('"');
}

static void print_csv_value(const struct query *query, const struct field *field, const struct field_value *value) {
        switch (value->kind) {
        case FIELD_TEXT:
                print_csv_text(value->text);
                break;
        case FIELD_NUMBER:
                printf("%llu", (unsigned long long)value->number);
                if (field->unit && query->units)
                        printf(" %s", field->unit);
                break;
        case FIELD_NONE:
                fputs("[N/A]", stdout);
                break;
        case FIELD_NOT_SUPPORTED:
                fputs("[Not Supported]", stdout);
                break;
        }
}

static void print_csv(const struct query *query, const struct field_context *context) {
        if (query->header)
                print_csv_header(query);
        each_selected(gpu, context->snapshot) {
                for (size_t i = 0; i < query->n_fields; i++) {
                        struct field_value value = {.kind = FIELD_NONE};

                        query->fields[i]->read(context, gpu, &value);
                        fputs(i > 0 ? ", " : "", stdout);
                        print_csv_value(query, query->fields[i], &value);
                }
                putchar('\n');
        }
}

/* ---- JSON -------------------------------------------------------------------- */

static json_t *value_json(const struct field_value *value) {
        switch (value->kind) {
        case FIELD_TEXT:
                return json_string(value->text);
        case FIELD_NUMBER:
                return json_integer((json_int_t)value->number);
        case FIELD_NONE:
        case FIELD_NOT_SUPPORTED:
                break;
        }
        return json_null();
}

static json_t *row_json(const struct query *query, const struct field_context *context,
                        const struct snapshot_gpu *gpu) {
        json_t *row = json_object();

        for (size_t i = 0; i < query->n_fields; i++) {
                struct field_value value = {.kind = FIELD_NONE};

                query->fields[i]->read(context, gpu, &value);
                (void)json_object_set_new(row, query->fields[i]->name, value_json(&value));
        }
        return row;
}

static json_t *query_json(const struct query *query, const struct field_context *context) {
        json_t *rows = json_array();

        each_selected(gpu, context->snapshot)
                (void)json_array_append_new(rows, row_json(query, context, gpu));
        return json_pack("{s:s, s:o}", "schema", "holdfast.query/1", "gpus", rows);
}

/* ----------------------------------------------------------------------------- */

static int list_fields(void) {
        for (size_t i = 0; i < n_fields; i++) {
                char help[256];

                (void)text_format(help, sizeof(help), "%s%s%s%s", fields[i].help, fields[i].alias ? " (also " : "",
                                  fields[i].alias ? fields[i].alias : "", fields[i].alias ? ")" : "");
                options_print_row(stdout, fields[i].name, help);
        }
        return STATUS_DONE;
}

static int look(const struct invocation *invocation, const struct query *query, struct snapshot **ret_snapshot) {
        unsigned flags = 0;
        int status;

        for (size_t i = 0; i < query->n_fields; i++)
                flags |= query->fields[i]->snapshot;
        status = command_look(invocation, flags, 5 * USEC_PER_SEC, ret_snapshot);
        if (status != STATUS_DONE || (*ret_snapshot)->driver_loaded || (flags & SNAPSHOT_DAEMON))
                return status;
        /* Behind the nvidia-cfg backend the driver may be out of sight, and the daemon alone has the list. */
        snapshot_done(ret_snapshot);
        return command_look(invocation, flags | SNAPSHOT_DAEMON, 5 * USEC_PER_SEC, ret_snapshot);
}

static int run(const struct invocation *invocation) {
        const struct query_options *chosen = invocation->options;
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct field_context context = {.now_realtime_usec = clock_realtime_usec()};
        struct query query = {0};
        int status;

        if (chosen->list_fields)
                return list_fields();
        status = parse(invocation, &query);
        if (status == STATUS_DONE)
                status = look(invocation, &query, &snapshot);
        if (status == STATUS_DONE)
                status = command_select(invocation, &chosen->gpus, STATUS_FAILED, snapshot);
        if (status != STATUS_DONE)
                return status;
        context.snapshot = snapshot;
        if (chosen->json)
                return command_print_json(invocation, query_json(&query, &context));
        print_csv(&query, &context);
        return STATUS_DONE;
}

const struct command query_command = {
        .name = "query",
        .summary = "print fields of GPUs as nvidia-smi --query-gpu does",
        .description = "Prints fields of each GPU in CSV, with nvidia-smi's names and conventions: \", \"\n"
                       "between columns, Enabled and Disabled, [N/A] for what is not known now, [Not\n"
                       "Supported] for what this daemon cannot tell. Fields that begin with 'holdfast.'\n"
                       "are our own. Opens no GPU.",
        .examples = "  holdfast query --fields index,name,persistence_mode\n"
                    "  holdfast query --query-gpu=gpu_bus_id,persistence_mode --format=csv,noheader\n"
                    "  holdfast query --fields index,holdfast.state,holdfast.open_ms --json",
        .options = options,
        .exits = exits,
        .defaults = &query_options,
        .run = run,
};
