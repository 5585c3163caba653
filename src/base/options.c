/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"

enum {
        HELP_WIDTH = 80,
        HELP_INDENT = 2,
        HELP_NAME_WIDTH = 22,
        SECONDS_MAX = 1000000000,
};

/* ---- values ------------------------------------------------------------------ */

/*
 * Accepts "10", "0.5", "infinity". Checks for digits and points, because strtod() also accepts "nan", "0x1p3" and white
 * space.
 */
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

int options_refuse(struct options_parser *parser, const struct option_spec *spec, const char *format, ...) {
        char reason[sizeof(parser->error)];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(reason, sizeof(reason), format, arguments);
        va_end(arguments);
        text_set(parser->error, "--%s: %s", spec->name, reason);
        return -EINVAL;
}

static int store_choice(struct options_parser *parser, const struct option_spec *spec, const char *value,
                        int *ret_choice) {
        for (int i = 0; spec->choices[i]; i++)
                if (text_equal_nocase(spec->choices[i], value)) {
                        *ret_choice = i;
                        return 0;
                }
        (void)options_refuse(parser, spec, "'%.40s' is not one of", value);
        for (const char *const *choice = spec->choices; *choice; choice++)
                text_add(parser->error, "%s %s", choice == spec->choices ? "" : ",", *choice);
        return -EINVAL;
}

static int store_number(struct options_parser *parser, const struct option_spec *spec, const char *value,
                        uint64_t *ret_number) {
        uint64_t number;

        if (text_parse_u64(value, 10, spec->maximum != 0 ? spec->maximum : UINT32_MAX, &number) == 0 &&
            number >= spec->minimum) {
                *ret_number = number;
                return 0;
        }
        if (spec->maximum == 0)
                return options_refuse(parser, spec, "'%.40s' is not a number (such as 8)", value);
        return options_refuse(parser, spec, "'%.40s' is not a number from %" PRIu64 " to %" PRIu64, value,
                              spec->minimum, spec->maximum);
}

static int store_seconds(struct options_parser *parser, const struct option_spec *spec, const char *value,
                         uint64_t *ret_usec) {
        if (parse_seconds(value, ret_usec) == 0)
                return 0;
        return options_refuse(parser, spec, "'%.40s' is not a number of seconds (such as 30, 0.5 or infinity)", value);
}

static int store(struct options_parser *parser, const struct option_spec *spec, void *target, const char *value) {
        void *member = (char *)target + spec->offset;

        switch (spec->kind) {
        case OPTION_FLAG:
        case OPTION_OFF:
                *(bool *)member = spec->kind == OPTION_FLAG;
                return 0;
        case OPTION_TEXT:
                *(const char **)member = value;
                return 0;
        case OPTION_CHOICE:
                return store_choice(parser, spec, value, member);
        case OPTION_NUMBER:
                return store_number(parser, spec, value, member);
        case OPTION_SECONDS:
                return store_seconds(parser, spec, value, member);
        case OPTION_CALL:
                return spec->set(parser, spec, member, value);
        case OPTION_STOP:
                return spec->letter;
        }
        return -EINVAL;
}

/* ---- finding ----------------------------------------------------------------- */

struct option_found {
        const struct option_spec *spec; /* NULL: none */
        void *target;
};

enum match {
        MATCH_NONE,
        MATCH_BEGINNING,
        MATCH_WHOLE,
};

static enum match match(const char *name, const char *given, size_t length) {
        if (!name || strncmp(name, given, length) != 0)
                return MATCH_NONE;
        return name[length] == '\0' ? MATCH_WHOLE : MATCH_BEGINNING;
}

/* Finds the option with exactly that name, or the only one whose name begins with it. */
static struct option_found find_name(const struct options_parser *parser, const char *name, size_t length) {
        struct option_found found = {0};
        bool several = false;

        for (size_t i = 0; i < ARRAY_SIZE(parser->groups); i++)
                for (const struct option_spec *spec = parser->groups[i].specs; spec && spec->name; spec++) {
                        enum match matched = match(spec->name, name, length);

                        if (matched == MATCH_WHOLE || match(spec->alias, name, length) == MATCH_WHOLE)
                                return (struct option_found){spec, parser->groups[i].target};
                        if (matched == MATCH_NONE)
                                continue;
                        several = found.spec != NULL;
                        found = (struct option_found){spec, parser->groups[i].target};
                }
        return several || !parser->takes_beginnings ? (struct option_found){0} : found;
}

static struct option_found find_letter(const struct options_parser *parser, char letter) {
        for (size_t i = 0; i < ARRAY_SIZE(parser->groups); i++)
                for (const struct option_spec *spec = parser->groups[i].specs; spec && spec->name; spec++)
                        if (spec->letter == letter)
                                return (struct option_found){spec, parser->groups[i].target};
        return (struct option_found){0};
}

static int refuse_unknown(struct options_parser *parser, const char *argument) {
        char given[64], hint[64];
        struct nearest nearest;

        (void)text_copy(given, sizeof(given), argument);
        given[strcspn(given, "=")] = '\0';
        nearest = nearest_to(given + strspn(given, "-"));
        for (size_t i = 0; i < ARRAY_SIZE(parser->groups); i++)
                for (const struct option_spec *spec = parser->groups[i].specs; spec && spec->name; spec++)
                        nearest_try(&nearest, spec->name);
        text_set(parser->error, "unknown option '%s'%s", given, nearest_hint(&nearest, "--", hint, sizeof(hint)));
        return -EINVAL;
}

/* ---- the command line -------------------------------------------------------- */

static int refuse_value(struct options_parser *parser, const struct option_spec *spec, const char *why,
                        const char *argument) {
        text_set(parser->error, "--%s %s%s", spec->name, why, argument);
        return -EINVAL;
}

/*
 * attached: the value in the same argument as the option, or NULL. next: the next argument, or NULL; if it is used as
 * the value, *used is incremented.
 */
static int take(struct options_parser *parser, const struct option_found *found, const char *attached, const char *next,
                int *used) {
        const struct option_spec *spec = found->spec;

        if (attached && !spec->argument)
                return refuse_value(parser, spec, "takes no value", "");
        if (!attached && spec->argument && spec->argument[0] != '[') {
                if (!next)
                        return refuse_value(parser, spec, "needs a value: ", spec->argument);
                attached = next;
                ++*used;
        }
        return store(parser, spec, found->target, attached);
}

/* Handles "--name" and "--name=value". Returns -ENOENT if no table has the option. */
static int take_name(struct options_parser *parser, const char *name, const char *next, int *used) {
        size_t length = strcspn(name, "=");
        struct option_found found = find_name(parser, name, length);

        if (!found.spec)
                return -ENOENT;
        return take(parser, &found, name[length] == '=' ? name + length + 1 : NULL, next, used);
}

/* Handles "-x", "-xvalue" and "-xyz". Returns like take_name(). */
static int take_letters(struct options_parser *parser, const char *letters, const char *next, int *used) {
        for (; *letters != '\0'; letters++) {
                struct option_found found = find_letter(parser, *letters);
                bool has_value = found.spec && found.spec->argument;
                int r = -ENOENT;

                if (found.spec)
                        r = take(parser, &found, has_value && letters[1] != '\0' ? letters + 1 : NULL, next, used);
                if (r != 0 || has_value)
                        return r;
        }
        return 0;
}

int options_parse(struct options_parser *parser, char **arguments, int n, int *ret_n_words) {
        int i = 0, n_words = 0;

        while (i < n) {
                char *argument = arguments[i];
                int used = 1, r = -ENOENT;

                if (text_equal(argument, "--")) {
                        i++;
                        break;
                }
                if (argument[0] == '-' && argument[1] != '\0') {
                        r = argument[1] == '-' ? take_name(parser, argument + 2, arguments[i + 1], &used)
                                               : take_letters(parser, argument + 1, arguments[i + 1], &used);
                        if (r == -ENOENT && !parser->leave_unknown)
                                return refuse_unknown(parser, argument);
                }
                if (r == -ENOENT) {
                        if (parser->stop_at_word)
                                break;
                        arguments[n_words++] = argument;
                } else if (r != 0)
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
        text_wrap(stream, text, indent, indent, HELP_WIDTH);
}

void options_print_help(FILE *stream, const struct option_spec *specs) {
        for (const struct option_spec *spec = specs; spec && spec->name; spec++) {
                char name[64], letter[8] = "";

                if (spec->letter != '\0')
                        text_set(letter, "-%c, ", spec->letter);
                text_set(name, "%s--%s", letter, spec->name);
                if (spec->argument)
                        text_add(name, spec->argument[0] == '[' ? "[=%s" : " %s",
                                 spec->argument + (spec->argument[0] == '['));
                options_print_row(stream, name, spec->help);
        }
}
