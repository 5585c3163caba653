#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Command-line options in tables, which are used for parsing and for the help. Options are written as --name VALUE,
 * --name=VALUE, -x VALUE or -xVALUE, before or after words. Letters without a value may be combined. "--" ends the
 * options.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
        OPTION_FLAG,    /* bool, becomes true */
        OPTION_OFF,     /* bool, becomes false */
        OPTION_TEXT,    /* const char * */
        OPTION_CHOICE,  /* int: the index in the row's choices */
        OPTION_NUMBER,  /* uint64_t, in the row's range */
        OPTION_SECONDS, /* uint64_t, microseconds; "infinity" is UINT64_MAX */
        OPTION_CALL,    /* the row's `set` is called */
        OPTION_STOP,    /* parsing ends and returns the row's letter */
};

struct options_parser;

struct option_spec {
        const char *name;
        char letter;          /* -x, or 0 */
        const char *argument; /* the value in the help; "[NAME]": optional, only as --x=NAME or -xNAME; NULL: none */
        const char *help;
        const char *alias; /* another spelling that is accepted, or NULL */
        enum option_kind kind;
        size_t offset;              /* of the member in the struct that the table sets */
        const char *const *choices; /* OPTION_CHOICE: the words; ends with NULL */
        uint64_t minimum, maximum;  /* OPTION_NUMBER; maximum 0: UINT32_MAX */
        /* OPTION_CALL: returns 0, or the result of options_refuse(). member points to the member at `offset`; if that
         * is 0, to the whole struct. */
        int (*set)(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value);
        const void *data; /* for `set` */
};

/* A table, which ends with a row without a name, and the struct that it sets. */
struct option_group {
        const struct option_spec *specs;
        void *target;
};

struct options_parser {
        struct option_group groups[2]; /* a command's own options and those of all commands; the second may be empty */
        bool takes_beginnings;         /* --verb means --verbose if no other option begins with it */
        bool stop_at_word;             /* do not parse the first word and what follows: it is a command to run */
        bool leave_unknown;            /* treat an unknown option as a word, not as an error */
        char error[256];               /* the sentence for -EINVAL */
};

/*
 * Parses arguments[0..n); arguments[n] must be NULL, as in main(). Moves the words to the front of arguments, in their
 * order, followed by NULL; *ret_n_words is their number. With stop_at_word everything from the first word on, options
 * included, counts as words. Returns 0, -EINVAL (parser->error), or the letter of an OPTION_STOP.
 */
int options_parse(struct options_parser *parser, char **arguments, int n, int *ret_n_words);

/* Sets parser->error to "--name: <reason>". Returns -EINVAL. */
int options_refuse(struct options_parser *parser, const struct option_spec *spec, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Prints a table's rows for a help text, to a width of 80 columns. */
void options_print_help(FILE *stream, const struct option_spec *specs);

/* Prints name and text in two columns. The text is wrapped to 80 columns; a name that is too wide gets its own line. */
void options_print_row(FILE *stream, const char *name, const char *text);
