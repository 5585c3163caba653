#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Options from tables: the same rows parse the command line and print the help. Written --name VALUE, --name=VALUE,
 * -x VALUE or -xVALUE, before and after words; letters without a value may stand together; "--" ends them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
        OPTION_FLAG,    /* bool, becomes true */
        OPTION_OFF,     /* bool, becomes false */
        OPTION_TEXT,    /* const char * */
        OPTION_CHOICE,  /* int: which of the row's choices */
        OPTION_NUMBER,  /* uint64_t, in the row's range */
        OPTION_SECONDS, /* uint64_t, microseconds; "infinity" is UINT64_MAX */
        OPTION_CALL,    /* the row's `set` is called */
        OPTION_STOP,    /* parsing ends, and returns the row's letter */
};

struct options_parser;

struct option_spec {
        const char *name;
        char letter;          /* -x, or 0 */
        const char *argument; /* the value in the help; "[NAME]": optional, only as --x=NAME or -xNAME; NULL: none */
        const char *help;
        const char *alias; /* another spelling that is accepted, or NULL */
        enum option_kind kind;
        size_t offset;              /* of the member in the struct that the table fills */
        const char *const *choices; /* OPTION_CHOICE: its words, ended by NULL */
        uint64_t minimum, maximum;  /* OPTION_NUMBER; maximum 0: UINT32_MAX */
        /* OPTION_CALL: returns 0, or what options_refuse() does. member: at offset; without one, the whole struct. */
        int (*set)(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value);
        const void *data; /* for it */
};

/* A table, which ends with a row without name, and the struct that it fills. */
struct option_group {
        const struct option_spec *specs;
        void *target;
};

struct options_parser {
        struct option_group groups[2]; /* a command's own and those of all commands; or only one */
        bool takes_beginnings;         /* --verb is --verbose where no other option begins so */
        bool stop_at_word;  /* the first word and all that follows are not parsed: they belong to a command to run */
        bool leave_unknown; /* an unknown option is such a word, too, and no error */
        char error[256];    /* the sentence for -EINVAL */
};

/*
 * Parses arguments[0..n), which NULL ends, as it does main()'s. Words are moved to the front of arguments, in their
 * order, and ended by NULL again; *ret_n_words says how many. With stop_at_word everything from the first word on,
 * options included, counts as words. Returns 0, -EINVAL, or the letter of an OPTION_STOP.
 */
int options_parse(struct options_parser *parser, char **arguments, int n, int *ret_n_words);

/* Makes "--name: <reason>" the parser's error. Returns -EINVAL. */
int options_refuse(struct options_parser *parser, const struct option_spec *spec, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Prints a table's rows for a help text, to a width of 80 columns. */
void options_print_help(FILE *stream, const struct option_spec *specs);

/* Prints name and text in two columns, the text wrapped to 80 columns; a name too wide has a line of its own. */
void options_print_row(FILE *stream, const char *name, const char *text);
