#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Long options from tables: the same rows parse the command line and print the help. Written --name VALUE or
 * --name=VALUE, before and after words; "--" ends them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum option_kind {
        OPTION_FLAG,    /* bool */
        OPTION_TEXT,    /* const char * */
        OPTION_CHOICE,  /* int: which of the row's choices */
        OPTION_IDS,     /* struct ids: each use adds */
        OPTION_NUMBER,  /* uint64_t */
        OPTION_SECONDS, /* uint64_t, microseconds; "infinity" is UINT64_MAX */
};

struct option_spec {
        const char *name;
        const char *alias;    /* another spelling that is accepted, or NULL */
        char letter;          /* -x, or 0 */
        const char *argument; /* what the help calls the value */
        const char *help;
        enum option_kind kind;
        size_t offset;              /* of the member in the struct that the table fills */
        const char *const *choices; /* OPTION_CHOICE: its words, ended by NULL */
};

/*
 * Rows that stand in several tables, so that an option means and looks the same everywhere. They fill the members
 * `gpus`, `json` and `timeout_usec` of the command's struct; the help is the command's own.
 */
#define OPTION_GPU(options_type, help_text)                                                                            \
        {                                                                                                              \
                .name = "gpu", .alias = "id", .letter = 'i', .argument = "ID", .help = (help_text),                    \
                .kind = OPTION_IDS, .offset = offsetof(options_type, gpus),                                            \
        }
#define OPTION_JSON(options_type, help_text)                                                                           \
        { .name = "json", .help = (help_text), .kind = OPTION_FLAG, .offset = offsetof(options_type, json), }
#define OPTION_TIMEOUT(options_type, help_text)                                                                        \
        {                                                                                                              \
                .name = "timeout", .argument = "SECONDS", .help = (help_text), .kind = OPTION_SECONDS,                 \
                .offset = offsetof(options_type, timeout_usec),                                                        \
        }

/* A table, which ends with a row without name, and the struct that it fills. */
struct option_group {
        const struct option_spec *specs;
        void *target;
};

struct options_parser {
        struct option_group groups[2];
        bool stop_at_word;  /* leave the first word and all that follows */
        bool leave_unknown; /* and options that no table has: they are the command's */
        char error[256];    /* the sentence for -EINVAL */
};

/*
 * Parses arguments[0..n), which NULL ends, as it does main()'s. Words are moved to the front of arguments, in their
 * order, and ended by NULL again; *ret_n_words says how many. With stop_at_word the rest, words and options, is moved
 * there. Returns 0 or -EINVAL.
 */
int options_parse(struct options_parser *parser, char **arguments, int n, int *ret_n_words);

/* Prints a table's rows for a help text, to a width of 80 columns. */
void options_print_help(FILE *stream, const struct option_spec *specs);

/* Prints name and text in two columns, the text wrapped to 80 columns; a name too wide has a line of its own. */
void options_print_row(FILE *stream, const char *name, const char *text);
