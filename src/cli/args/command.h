#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A command of `holdfast` as a table row: everything that main() needs to parse its options, to print its help, and to
 * run it. Each command is one file; it gathers into plain structs and lets a writer print them.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/locations.h"
#include "base/options.h"
#include "cli/args/ids.h"
#include "cli/node/snapshot.h"

/* A number means the same in all commands; each command's help lists those that it uses. */
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
        int status; /* enum exit_status, or a number of the command's own where another convention rules */
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
        void *defaults;                   /* the struct that the options go into; it has what they are without one */
        int failed_status;        /* for all that goes wrong, where the usual numbers mean something else; or 0 */
        bool status_answers;      /* the exit status is the answer: output that gets lost does not change it */
        bool words_are_a_command; /* options that follow the first word are not ours */
        int (*run)(const struct invocation *invocation);
};

/* Rows of a command's table of options: without a value, with and without a letter; and with a value. */
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
 * Options of several commands, so that one means and looks the same everywhere. They fill the members `gpus`, `json`
 * and `timeout_usec` of the command's struct; the help is the command's own.
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

/* The table, and the options that all of them take: src/cli/main.c. */
extern const struct command *const commands[];
extern const size_t n_commands;
extern const struct option_spec common_specs[];

/*
 * Says "<program>: <text>" on standard error and returns status: return complain(invocation, STATUS_NO_GPU, "...");
 * On a terminal the text is broken between words.
 */
int complain(const struct invocation *invocation, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* The same for usual troubles; they know the exit status. That of wrong usage adds where the help is. */
int complain_memory(const struct invocation *invocation);
int complain_usage(const struct invocation *invocation, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One of several things that a complaint is about: a line below it, indented. */
void complain_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * What most commands begin and end with. Each returns STATUS_DONE, or an exit status after saying what is wrong.
 */

/* Takes a snapshot of this node; flags and timeout_usec are those of struct snapshot_request. */
int command_look(const struct invocation *invocation, unsigned flags, uint64_t timeout_usec,
                 struct snapshot **ret_snapshot);

/* Selects the GPUs meant. nothing_status: for a snapshot that has nothing to tell. */
int command_select(const struct invocation *invocation, const struct ids *ids, int nothing_status,
                   struct snapshot *snapshot);

/* Prints the document on standard output, and owns the reference; NULL is out of memory. */
int command_print_json(const struct invocation *invocation, json_t *document);
