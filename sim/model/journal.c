/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Records what happened in the model, for tests: a ring of records, numbered from 1. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/model/private.h"

enum { JOURNAL_RECORDS_MAX = 10000 };

struct journal_record {
        uint64_t t_usec; /* since the model's start */
        const char *event;
        bool has_gpu;
        struct pci_address address;
        struct who who;
        char detail[128];
};

struct journal {
        uint64_t last; /* number of the latest record */
        struct journal_record records[JOURNAL_RECORDS_MAX];
};

int journal_new(struct journal **ret_journal) {
        struct journal *journal = calloc(1, sizeof(*journal));

        if (!journal)
                return -ENOMEM;
        *ret_journal = journal;
        return 0;
}

void journal_free(struct journal *journal) {
        free(journal);
}

uint64_t journal_last(const struct journal *journal) {
        return journal->last;
}

/* event must be a literal, because only the pointer is stored. */
__attribute__((format(printf, 5, 0))) static void add(struct model *model, const struct model_gpu *gpu,
                                                      const struct who *who, const char *event, const char *format,
                                                      va_list arguments) {
        struct journal *journal = model->journal;
        struct journal_record *record = &journal->records[journal->last++ % JOURNAL_RECORDS_MAX];

        *record = (struct journal_record){
                .t_usec = clock_monotonic_usec() - model->started_usec,
                .event = event,
                .has_gpu = gpu,
        };
        if (gpu)
                record->address = gpu->spec.address;
        if (who)
                record->who = *who;
        (void)vsnprintf(record->detail, sizeof(record->detail), format, arguments);
        model_changed(model);
}

void journal_add(struct model *model, const struct model_gpu *gpu, const struct who *who, const char *event,
                 const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        add(model, gpu, who, event, format, arguments);
        va_end(arguments);
}

static json_t *record_json(const struct journal_record *record, uint64_t number) {
        char address[PCI_ADDRESS_SIZE];

        /* Texts from outside, such as a process's name, may not be UTF-8. jansson would then pack nothing, so check
         * first. */
        json_t *comm = json_string(record->who.comm), *detail = json_string(record->detail);

        return json_pack("{s:I, s:I, s:s, s:s?, s:i, s:o, s:o}", "seq", (json_int_t)number, "t_usec",
                         (json_int_t)record->t_usec, "event", record->event, "gpu",
                         record->has_gpu ? pci_address_format(&record->address, address) : NULL, "pid",
                         (int)record->who.pid, "comm", comm ? comm : json_string("?"), "detail",
                         detail ? detail : json_string("?"));
}

json_t *journal_read(struct model *model, uint64_t since, const char *event) {
        const struct journal *journal = model->journal;
        uint64_t lost = journal->last > JOURNAL_RECORDS_MAX ? journal->last - JOURNAL_RECORDS_MAX : 0;
        json_t *records = json_array();

        for (uint64_t i = since > lost ? since : lost; records && i < journal->last; i++) {
                const struct journal_record *record = &journal->records[i % JOURNAL_RECORDS_MAX];

                if (event && !text_equal(event, record->event))
                        continue;
                if (json_array_append_new(records, record_json(record, i + 1)) < 0) {
                        json_decref(records);
                        records = NULL;
                }
        }
        return json_pack("{s:o, s:I, s:I}", "records", records, "last", (json_int_t)journal->last, "dropped",
                         (json_int_t)lost);
}

/* ---- records from the fronts ---- */

const char *node_name(enum model_node node) {
        static const char *const names[] = {
                [MODEL_NODE_CTL] = "nvidiactl",
                [MODEL_NODE_GPU] = "gpu",
                [MODEL_NODE_UVM] = "nvidia-uvm",
        };

        return names[node];
}

void model_note(struct model *model, const struct model_caller *caller, const char *format, ...) {
        struct who who = who_is(caller);
        va_list arguments;

        MODEL_LOCKED(model);
        va_start(arguments, format);
        add(model, NULL, &who, "note", format, arguments);
        va_end(arguments);
}

static void count_unknown(struct model *model, enum model_node node, unsigned long command) {
        for (size_t i = 0; i < model->n_unknown; i++)
                if (model->unknown[i].node == node && model->unknown[i].command == command) {
                        model->unknown[i].count++;
                        return;
                }
        if (model->n_unknown < MODEL_UNKNOWN_MAX)
                model->unknown[model->n_unknown++] = (struct unknown_ioctl){node, command, 1};
        else
                model->unknown_beyond++;
}

void model_note_unknown_ioctl(struct model *model, enum model_node node, const struct model_caller *caller,
                              unsigned long command) {
        struct who who = who_is(caller);
        MODEL_LOCKED(model);

        count_unknown(model, node, command);
        journal_add(model, NULL, &who, "ioctl-unknown", "%s: 0x%lx", node_name(node), command);
}
