/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/args/options.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/wrap.h"
#include "cli/args/ids.h"

enum {
        HELP_WIDTH = 80,
        HELP_INDENT = 2,
        HELP_NAME_WIDTH = 22,
        SECONDS_MAX = 1000000000,
};

/* ---- values ------------------------------------------------------------------ */

/* "10", "0.5", "infinity". Only digits and a point: strtod() alone would take "nan", "0x1p3" and white space. */
static int parse_seconds(const char *text, uint64_t *ret_usec) {
        double seconds;
        char *end;

        if (text_equal(text, "infinity")) {
                *ret_usec = UINT64_MAX;
                return 0;
        }
        if (*text == '\0' || text[strspn(text, "0123456789.")] != '\0')
                return -EINVAL;
        seconds = strtod(text, &end);
        if (*end != '\0' || seconds > SECONDS_MAX)
                return -EINVAL;
        *ret_usec = (uint64_t)(seconds * (double)USEC_PER_SEC);
        return 0;
}

/* "'yes' is none of on, off, any" */
static int complain_choice(struct options_parser *parser, const struct option_spec *spec, const char *value) {
        (void)text_format(parser->error, sizeof(parser->error), "--%s: '%.40s' is none of", spec->name, value);
        for (const char *const *choice = spec->choices; *choice; choice++)
                text_append(parser->error, sizeof(parser->error), "%s %s", choice == spec->choices ? "" : ",", *choice);
        return -EINVAL;
}

static int store_choice(struct options_parser *parser, const struct option_spec *spec, const char *value,
                        int *ret_choice) {
        for (int i = 0; spec->choices[i]; i++)
                if (text_equal_nocase(spec->choices[i], value)) {
                        *ret_choice = i;
                        return 0;
                }
        return complain_choice(parser, spec, value);
}

static int store(struct options_parser *parser, const struct option_spec *spec, void *target, const char *value) {
        void *member = (char *)target + spec->offset;
        char reason[160];

        switch (spec->kind) {
        case OPTION_FLAG:
                *(bool *)member = true;
                return 0;
        case OPTION_TEXT:
                *(const char **)member = value;
                return 0;
        case OPTION_CHOICE:
                return store_choice(parser, spec, value, member);
        case OPTION_IDS:
                if (ids_add(member, value, reason, sizeof(reason)) == 0)
                        return 0;
                (void)text_format(parser->error, sizeof(parser->error), "--%s: %s", spec->name, reason);
                return -EINVAL;
        case OPTION_NUMBER:
                if (text_parse_u64(value, 10, UINT32_MAX, member) == 0)
                        return 0;
                (void)text_format(parser->error, sizeof(parser->error), "--%s: '%.40s' is no number (such as 8)",
                                  spec->name, value);
                return -EINVAL;
        case OPTION_SECONDS:
                if (parse_seconds(value, member) == 0)
                        return 0;
                (void)text_format(parser->error, sizeof(parser->error),
                                  "--%s: '%.40s' is no number of seconds (such as 30, 0.5 or infinity)", spec->name,
                                  value);
                return -EINVAL;
        }
        return -EINVAL;
}

/* ---- finding ----------------------------------------------------------------- */

static bool is_named(const struct option_spec *spec, const char *name, size_t length) {
        return (strlen(spec->name) == length && strncmp(spec->name, name, length) == 0) ||
               (spec->alias && strlen(spec->alias) == length && strncmp(spec->alias, name, length) == 0);
}

/* argument is "--name", "--name=value" or "-x". */
static const struct option_spec *find(const struct options_parser *parser, const char *argument, void **ret_target) {
        bool is_long = argument[1] == '-';
        const char *name = argument + 1 + is_long;
        size_t length = strcspn(name, "=");

        for (size_t i = 0; i < ARRAY_SIZE(parser->groups); i++)
                for (const struct option_spec *spec = parser->groups[i].specs; spec && spec->name; spec++)
                        if (is_long ? is_named(spec, name, length)
                                    : spec->letter != '\0' && name[0] == spec->letter && name[1] == '\0') {
                                *ret_target = parser->groups[i].target;
                                return spec;
                        }
        return NULL;
}

static int complain_unknown(struct options_parser *parser, const char *argument) {
        char given[64], hint[64];
        struct nearest nearest;

        (void)text_copy(given, sizeof(given), argument);
        given[strcspn(given, "=")] = '\0';
        nearest = nearest_to(given + strspn(given, "-"));
        for (size_t i = 0; i < ARRAY_SIZE(parser->groups); i++)
                for (const struct option_spec *spec = parser->groups[i].specs; spec && spec->name; spec++)
                        nearest_try(&nearest, spec->name);
        (void)text_format(parser->error, sizeof(parser->error), "unknown option '%s'%s", given,
                          nearest_hint(&nearest, "--", hint, sizeof(hint)));
        return -EINVAL;
}

/* ---- the command line -------------------------------------------------------- */

/* Takes the option at arguments[0], and its value if that is the next argument; *ret_used says how many it took. */
static int take_option(struct options_parser *parser, char **arguments, int n, const struct option_spec *spec,
                       void *target, int *ret_used) {
        const char *equals = arguments[0][1] == '-' ? strchr(arguments[0], '=') : NULL;
        const char *value = equals ? equals + 1 : NULL;

        *ret_used = 1;
        if (spec->kind == OPTION_FLAG && value) {
                (void)text_format(parser->error, sizeof(parser->error), "--%s takes no value", spec->name);
                return -EINVAL;
        }
        if (spec->kind != OPTION_FLAG && !value) {
                if (n < 2) {
                        (void)text_format(parser->error, sizeof(parser->error), "--%s needs a value: %s", spec->name,
                                          spec->argument);
                        return -EINVAL;
                }
                value = arguments[1];
                *ret_used = 2;
        }
        return store(parser, spec, target, value);
}

static bool is_option(const char *argument) {
        return argument[0] == '-' && argument[1] != '\0';
}

int options_parse(struct options_parser *parser, char **arguments, int n, int *ret_n_words) {
        int i = 0, n_words = 0;

        while (i < n) {
                const struct option_spec *spec = NULL;
                void *target = NULL;
                int used, r;

                if (text_equal(arguments[i], "--")) {
                        i++;
                        break;
                }
                if (is_option(arguments[i])) {
                        spec = find(parser, arguments[i], &target);
                        if (!spec && !parser->leave_unknown)
                                return complain_unknown(parser, arguments[i]);
                }
                if (!spec) {
                        if (parser->stop_at_word)
                                break;
                        arguments[n_words++] = arguments[i++];
                        continue;
                }
                r = take_option(parser, arguments + i, n - i, spec, target, &used);
                if (r < 0)
                        return r;
                i += used;
        }
        while (i < n)
                arguments[n_words++] = arguments[i++];
        arguments[n_words] = NULL;
        *ret_n_words = n_words;
        return 0;
}

/* ---- help -------------------------------------------------------------------- */

void options_print_row(FILE *stream, const char *name, const char *text) {
        size_t indent = HELP_INDENT + HELP_NAME_WIDTH + 1;

        if (strlen(name) <= HELP_NAME_WIDTH)
                (void)fprintf(stream, "%*s%-*s ", HELP_INDENT, "", HELP_NAME_WIDTH, name);
        else
                (void)fprintf(stream, "%*s%s\n%*s", HELP_INDENT, "", name, (int)indent, "");
        wrap_print(stream, text, indent, indent, HELP_WIDTH);
}

void options_print_help(FILE *stream, const struct option_spec *specs) {
        for (const struct option_spec *spec = specs; spec && spec->name; spec++) {
                char name[64], letter[8] = "";

                if (spec->letter != '\0')
                        (void)text_format(letter, sizeof(letter), "-%c, ", spec->letter);
                (void)text_format(name, sizeof(name), "%s--%s%s%s", letter, spec->name, spec->argument ? " " : "",
                                  spec->argument ? spec->argument : "");
                options_print_row(stream, name, spec->help);
        }
}
