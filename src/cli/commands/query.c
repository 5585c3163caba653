/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast query: chosen fields of each GPU, in nvidia-smi's CSV or in JSON. */

#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/gpu_values.h"
#include "cli/report/report.h"

enum { QUERY_FIELDS_MAX = 64 };

static struct query_options {
        const char *fields;
        const char *format;
        struct ids gpus;
        bool json;
        bool list_fields;
} chosen = {
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
        OPTION_VALUE(struct query_options, format, OPTION_TEXT, "format", "csv[,noheader][,nounits]",
                     "noheader: without the line of names; nounits: without units (default: csv)"),
        OPTION_JSON(struct query_options, "print JSON (docs/schemas/query.json)"),
        OPTION_SWITCH(struct query_options, list_fields, "list-fields", "print all fields and their meanings"),
        {0},
};

static const struct command_exit exits[] = {
        {STATUS_DONE, "the fields are printed"},
        {STATUS_FAILED, "no information: there is neither a driver nor a daemon"},
        {STATUS_USAGE, "wrong usage, an unknown field"},
        {STATUS_NO_GPU, "no such GPU"},
        {0},
};

/* ---- the fields: nvidia-smi's names and meanings, and our own below "holdfast." ---- */

struct field {
        const char *name;
        const char *alias; /* another name of it, or NULL */
        const char *help;
        const char *unit;  /* "ms", or NULL */
        unsigned snapshot; /* enum snapshot_flags that it needs */
        gpu_value *get;
};

#define FIELD_VALUE(name, expression)                                                                                  \
        static struct value name(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {                    \
                return expression;                                                                                     \
        }

FIELD_VALUE(driver_version, value_text(snapshot->driver_version))
/* The driver prints question marks until it has initialised the GPU once. */
FIELD_VALUE(vbios, value_text(gpu->info.video_bios[0] == '?' ? "" : gpu->info.video_bios))

/* Local, and the same for all rows. */
static struct value timestamp(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        time_t seconds = (time_t)(snapshot->realtime_usec / USEC_PER_SEC);
        struct value value = {.kind = VALUE_TEXT};
        struct tm parts;

        if (!localtime_r(&seconds, &parts) ||
            strftime(value.text, sizeof(value.text), "%Y/%m/%d %H:%M:%S", &parts) == 0)
                return (struct value){0};
        text_add(value.text, ".%03u", (unsigned)(snapshot->realtime_usec % USEC_PER_SEC / USEC_PER_MSEC));
        return value;
}

static struct value count(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        size_t n = 0;

        each_gpu(other, snapshot)
                n += !other->info.excluded;
        return value_number(n);
}

static struct value hex(int digits, unsigned number) {
        struct value value = {.kind = VALUE_TEXT};

        text_set(value.text, "0x%0*X", digits, number);
        return value;
}

FIELD_VALUE(domain, hex(4, gpu->info.address.domain))
FIELD_VALUE(bus, hex(2, gpu->info.address.bus))
FIELD_VALUE(device, hex(2, gpu->info.address.slot))

static struct value held_by(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        char text[TABLE_CELL_SIZE];

        (void)report_held_by(snapshot, gpu, SIZE_MAX, text, sizeof(text));
        return value_text(text_equal(text, "-") ? "" : text);
}

enum { SNAPSHOT_ALL = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE };

static const struct field fields[] = {
        {"timestamp", NULL, "time of the question, local", NULL, 0, timestamp},
        {"driver_version", NULL, "version of the kernel driver", NULL, 0, driver_version},
        {"count", NULL, "how many GPUs the driver offers", NULL, 0, count},
        {"index", NULL,
         "number in the order of PCI addresses; nvidia-smi's index, too, unless a GPU fails to initialise", NULL, 0,
         gpu_index},
        {"name", "gpu_name", "product name", NULL, 0, gpu_name},
        {"uuid", "gpu_uuid", "the GPU's own identifier", NULL, 0, gpu_uuid},
        {"pci.bus_id", "gpu_bus_id", "PCI address, domain with 8 digits", NULL, 0, gpu_bus_id},
        {"pci.domain", NULL, "PCI domain, hexadecimal", NULL, 0, domain},
        {"pci.bus", NULL, "PCI bus, hexadecimal", NULL, 0, bus},
        {"pci.device", NULL, "PCI device (slot), hexadecimal", NULL, 0, device},
        {"vbios_version", NULL, "version of the video BIOS, once the GPU was initialised", NULL, 0, vbios},
        {"persistence_mode", NULL, "Enabled: the daemon holds the GPU, or the kernel's flag is on", NULL, SNAPSHOT_ALL,
         gpu_persistence},
        {"holdfast.minor", NULL, "N of the GPU's node /dev/nvidiaN, by which Slurm counts", NULL, 0, gpu_minor},
        {"holdfast.state", NULL,
         "held, released, leased, opening, closing, failed, stuck, excluded, unknown; without "
         "a daemon: initialised, not initialised",
         NULL, SNAPSHOT_DAEMON | SNAPSHOT_MODE, gpu_state},
        {"holdfast.since", NULL, "since when it is in that state (UTC)", NULL, SNAPSHOT_DAEMON, gpu_since},
        {"holdfast.open_ms", NULL, "how long the driver took to open it", "ms", SNAPSHOT_DAEMON, gpu_open},
        {"holdfast.failures", NULL, "failed opens so far", NULL, SNAPSHOT_DAEMON, gpu_failures},
        {"holdfast.error", NULL, "why it is not held, a sentence", NULL, SNAPSHOT_DAEMON, gpu_error},
        {"holdfast.uvm", NULL, "UVM persistence: off, waiting, on", NULL, SNAPSHOT_DAEMON, gpu_uvm},
        {"holdfast.legacy_flag", NULL, "the kernel's own flag: Enabled, Disabled", NULL, SNAPSHOT_ALL, gpu_legacy},
        {"holdfast.held_by", NULL, "who keeps it initialised", NULL, SNAPSHOT_ALL, held_by},
};

static const struct field *field_find(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                if (text_equal_nocase(fields[i].name, name) ||
                    (fields[i].alias && text_equal_nocase(fields[i].alias, name)))
                        return &fields[i];
        return NULL;
}

/* ---- what is asked for ------------------------------------------------------- */

struct query {
        const struct field *fields[QUERY_FIELDS_MAX];
        size_t n_fields;
        bool header;
        bool units;
};

static int complain_unknown_field(const struct invocation *invocation, const char *name) {
        struct nearest nearest = nearest_to(name);
        char hint[64];

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                nearest_try(&nearest, fields[i].name);
        if (nearest.name)
                return complain_usage(invocation, "unknown field '%s'%s --list-fields prints all", name,
                                      nearest_hint(&nearest, "", hint, sizeof(hint)));
        return complain_usage(invocation,
                              "unknown field '%s'; --list-fields prints all. Use nvidia-smi for values that need the "
                              "GPU itself, such as temperatures",
                              name);
}

static int parse_fields(const struct invocation *invocation, const char *list, struct query *query) {
        char name[64];

        while (text_next_item(&list, name)) {
                if (query->n_fields == QUERY_FIELDS_MAX)
                        return complain_usage(invocation, "more than %d fields", QUERY_FIELDS_MAX);
                query->fields[query->n_fields] = field_find(text_trim(name));
                if (!query->fields[query->n_fields++])
                        return complain_unknown_field(invocation, text_trim(name));
        }
        return STATUS_DONE;
}

static int parse_format(const struct invocation *invocation, const char *list, struct query *query) {
        bool csv = false;
        char word[32];

        query->header = query->units = true;
        while (text_next_item(&list, word)) {
                if (text_equal(text_trim(word), "csv"))
                        csv = true;
                else if (text_equal(text_trim(word), "noheader"))
                        query->header = false;
                else if (text_equal(text_trim(word), "nounits"))
                        query->units = false;
                else
                        return complain_usage(invocation, "--format: '%s' is not one of csv, noheader, nounits", word);
        }
        return csv ? STATUS_DONE : complain_usage(invocation, "--format: csv is missing (csv[,noheader][,nounits])");
}

static int parse(const struct invocation *invocation, struct query *query) {
        int status;

        if (!chosen.fields)
                return complain_usage(invocation, "--fields NAME,... is missing; --list-fields has all names");
        status = parse_fields(invocation, chosen.fields, query);
        if (status == STATUS_DONE)
                status = parse_format(invocation, chosen.format, query);
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

static void print_csv(const struct query *query, const struct snapshot *snapshot) {
        if (query->header)
                print_csv_header(query);
        each_selected(gpu, snapshot) {
                for (size_t i = 0; i < query->n_fields; i++) {
                        const struct value value = query->fields[i]->get(snapshot, gpu);

                        fputs(i > 0 ? ", " : "", stdout);
                        value_print_csv(&value, query->units ? query->fields[i]->unit : NULL, stdout);
                }
                putchar('\n');
        }
}

/* ---- JSON -------------------------------------------------------------------- */

/* Words and units are those of CSV. */
static json_t *field_json(const struct value *value) {
        if (value->kind == VALUE_BOOLEAN)
                return json_string(value->number ? "Enabled" : "Disabled");
        if (value->kind == VALUE_DURATION)
                return json_integer((json_int_t)(value->number / USEC_PER_MSEC));
        return value_json(value);
}

static json_t *row_json(const struct query *query, const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        json_t *row = json_object();

        for (size_t i = 0; i < query->n_fields; i++) {
                const struct value value = query->fields[i]->get(snapshot, gpu);

                (void)json_object_set_new(row, query->fields[i]->name, field_json(&value));
        }
        return row;
}

static json_t *query_json(const struct query *query, const struct snapshot *snapshot) {
        json_t *rows = json_array();

        each_selected(gpu, snapshot)
                (void)json_array_append_new(rows, row_json(query, snapshot, gpu));
        return json_pack("{s:s, s:o}", "schema", "holdfast.query/1", "gpus", rows);
}

/* ----------------------------------------------------------------------------- */

static int list_fields(void) {
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                char help[256];

                text_set(help, "%s%s%s%s", fields[i].help, fields[i].alias ? " (also " : "",
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
        status = command_look(invocation, flags, COMMAND_ANSWER_USEC, ret_snapshot);
        if (status != STATUS_DONE || (*ret_snapshot)->driver_loaded || (flags & SNAPSHOT_DAEMON))
                return status;
        /* With the nvidia-cfg backend perhaps only the daemon has the list of GPUs. */
        snapshot_done(ret_snapshot);
        return command_look(invocation, flags | SNAPSHOT_DAEMON, COMMAND_ANSWER_USEC, ret_snapshot);
}

static int run(const struct invocation *invocation) {
        CLEANUP(snapshot_done) struct snapshot *snapshot = NULL;
        struct query query = {0};
        int status;

        if (chosen.list_fields)
                return list_fields();
        status = parse(invocation, &query);
        if (status == STATUS_DONE)
                status = look(invocation, &query, &snapshot);
        if (status == STATUS_DONE)
                status = command_select(invocation, &chosen.gpus, STATUS_FAILED, snapshot);
        if (status != STATUS_DONE)
                return status;
        if (chosen.json)
                return command_print_json(invocation, query_json(&query, snapshot));
        print_csv(&query, snapshot);
        return STATUS_DONE;
}

const struct command query_command = {
        .name = "query",
        .summary = "print fields of GPUs as nvidia-smi --query-gpu does",
        .description = "Prints fields of each GPU in CSV, with nvidia-smi's names and conventions: \", \"\n"
                       "between columns, Enabled and Disabled, [N/A] for unknown values, and\n"
                       "[Not Supported] for fields that this daemon does not report. Fields that begin\n"
                       "with 'holdfast.' are Holdfast's own. Opens no GPU.",
        .examples = "  holdfast query --fields index,name,persistence_mode\n"
                    "  holdfast query --query-gpu=gpu_bus_id,persistence_mode --format=csv,noheader\n"
                    "  holdfast query --fields index,holdfast.state,holdfast.open_ms --json",
        .options = options,
        .exits = exits,
        .defaults = &chosen,
        .run = run,
};
