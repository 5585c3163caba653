#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A command of `holdfast` as a table row: what main() needs to parse its options, print its help, and run it. A
 * command fills plain structs with what it finds out, and a writer prints them.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/locations.h"
#include "base/options.h"
#include "cli/args/ids.h"
#include "cli/node/snapshot.h"

/* Exit statuses that mean the same in all commands. Each command's help lists those that it uses. */
enum exit_status {
        STATUS_DONE = 0,
        STATUS_FAILED = 1,
        STATUS_USAGE = 2,
        STATUS_NO_DAEMON = 3,
        STATUS_NOT_PERMITTED = 4,
        STATUS_NO_GPU = 5,
        STATUS_TIMEOUT = 6,
};

struct command_exit {
        int status; /* enum exit_status, or a number of the command's own */
        const char *meaning;
};

/* What a command is called with. */
struct invocation {
        const char *program; /* "holdfast status": what messages begin with */
        int failed_status;   /* of struct command */
        const struct locations *locations;
        char **words;
        int n_words;
};

struct command {
        const char *name;
        const char *words;       /* what follows besides options: "on|off"; NULL: nothing */
        const char *summary;     /* NULL: not for people, so no help lists it */
        const char *description; /* a few lines */
        const char *examples;
        const struct option_spec *options;
        const struct command_exit *exits; /* ended by a meaning of NULL */
        void *defaults;                   /* the struct that receives the options; it contains their defaults */
        int failed_status;                /* not 0: replaces STATUS_FAILED and all other numbers for errors */
        bool status_answers;              /* the exit status is the answer, also if the output cannot be written */
        bool words_are_a_command;         /* options after the first word belong to that command */
        int (*run)(const struct invocation *invocation);
};

/* Rows of a command's table of options: OPTION_LETTER has a letter, OPTION_VALUE a value, OPTION_SWITCH neither. */
#define OPTION_LETTER(options_type, member, option_name, option_letter, help_text)                                     \
        {                                                                                                              \
                .name = (option_name), .letter = (option_letter), .help = (help_text), .kind = OPTION_FLAG,            \
                .offset = offsetof(options_type, member),                                                              \
        }
#define OPTION_SWITCH(options_type, member, option_name, help_text)                                                    \
        OPTION_LETTER(options_type, member, option_name, '\0', help_text)
#define OPTION_VALUE(options_type, member, value_kind, option_name, value_name, help_text)                             \
        {                                                                                                              \
                .name = (option_name), .argument = (value_name), .help = (help_text), .kind = (value_kind),            \
                .offset = offsetof(options_type, member),                                                              \
        }

/*
 * Options that several commands have, the same everywhere but for their help. They fill the members `gpus`, `json` and
 * `timeout_usec` of the command's struct.
 */
#define OPTION_GPU(options_type, help_text)                                                                            \
        {                                                                                                              \
                .name = "gpu", .letter = 'i', .argument = "ID", .help = (help_text), .alias = "id",                    \
                .kind = OPTION_CALL, .offset = offsetof(options_type, gpus), .set = ids_set,                           \
        }
#define OPTION_JSON(options_type, help_text) OPTION_SWITCH(options_type, json, "json", help_text)
#define OPTION_TIMEOUT(options_type, help_text)                                                                        \
        OPTION_VALUE(options_type, timeout_usec, OPTION_SECONDS, "timeout", "SECONDS", help_text)

extern const struct command bench_command;
extern const struct command check_command;
extern const struct command clients_command;
extern const struct command completion_command;
extern const struct command doctor_command;
extern const struct command metrics_command;
extern const struct command query_command;
extern const struct command release_command;
extern const struct command set_command;
extern const struct command settings_command;
extern const struct command status_command;
extern const struct command takeover_command;
extern const struct command wait_command;

/* All commands, and the options that all of them take: src/cli/main.c. */
extern const struct command *const commands[];
extern const size_t n_commands;
extern const struct option_spec common_specs[];

/*
 * Prints "<program>: <text>" on standard error. If that is a terminal, breaks lines between words. Returns status:
 * return complain(invocation, STATUS_NO_GPU, "...");
 */
int complain(const struct invocation *invocation, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/*
 * The same for two common errors. Both return the command's failed_status. If that is 0, complain_memory() returns
 * STATUS_FAILED, and complain_usage() returns STATUS_USAGE. complain_usage() also names the help.
 */
int complain_memory(const struct invocation *invocation);
int complain_usage(const struct invocation *invocation, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints an indented line below a complaint, for one of several objects. */
void complain_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * What most commands begin and end with. Each returns STATUS_DONE, or an exit status after a message.
 */

#define COMMAND_ANSWER_USEC (5 * USEC_PER_SEC) /* for one answer of the daemon, if there is no option for it */

/* Takes a snapshot of this node; flags and timeout_usec are those of struct snapshot_request. */
int command_look(const struct invocation *invocation, unsigned flags, uint64_t timeout_usec,
                 struct snapshot **ret_snapshot);

/* Selects the named GPUs. nothing_status: the exit status when there is neither a driver nor a daemon. */
int command_select(const struct invocation *invocation, const struct ids *ids, int nothing_status,
                   struct snapshot *snapshot);

/* Prints the document on standard output and takes its reference. NULL means out of memory. */
int command_print_json(const struct invocation *invocation, json_t *document);
