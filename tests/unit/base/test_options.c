/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Options from tables. The daemon and the simulator parse as getopt_long() does: every command line of four words from
 * a vocabulary is given to both. The other tests are about values, the help, and what the command's parser does
 * differently.
 */

#include "base/options.h"

#include <errno.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"

enum { LOG_SIZE = 256, WORDS_MAX = 4 };

/* ---- as getopt_long() ---- */

/* Appends what was parsed: "user=root;verbose;" */
static int write_down(struct options_parser *parser, const struct option_spec *spec, void *log, const char *value) {
        text_append(log, LOG_SIZE, "%s%s%s;", spec->name, value ? "=" : "", value ? value : "");
        return 0;
}

#define LOGGED .kind = OPTION_CALL, .set = write_down

static const struct option_spec logged[] = {
        {"verbose", 'V', LOGGED},
        {"user", 'u', "NAME", LOGGED},
        {"uvm", LOGGED},
        {"keeper", LOGGED},
        {"keeper-from", 0, "WHICH", LOGGED},
        {"make-nodes", 0, "[GPU]", LOGGED},
        {"foreground", 'f', LOGGED},
        {0},
};

static void parse_with_ours(int n, char **words, char log[static LOG_SIZE]) {
        struct options_parser parser = {.groups = {{logged, log}}, .takes_beginnings = true};
        int n_words, r;

        r = options_parse(&parser, words, n, &n_words);
        if (r < 0)
                text_append(log, LOG_SIZE, "refused");
        for (int i = 0; r == 0 && i < n_words; i++)
                text_append(log, LOG_SIZE, "<%s>", words[i]);
}

static void parse_with_getopt(int n, char **arguments, char log[static LOG_SIZE]) {
        struct option options[ARRAY_SIZE(logged)] = {0};
        int id, index;

        for (size_t i = 0; logged[i].name; i++) {
                const char *argument = logged[i].argument;

                options[i] = (struct option){
                        .name = logged[i].name,
                        .has_arg = !argument            ? no_argument
                                   : argument[0] == '[' ? optional_argument
                                                        : required_argument,
                        .val = logged[i].letter != 0 ? logged[i].letter : 256 + (int)i,
                };
        }
        opterr = 0;
        optind = 0;
        while ((id = getopt_long(n, arguments, ":Vfu:", options, NULL)) != -1) {
                if (id == '?' || id == ':') {
                        text_append(log, LOG_SIZE, "refused");
                        return;
                }
                for (index = 0; options[index].val != id;)
                        index++;
                text_append(log, LOG_SIZE, "%s%s%s;", options[index].name, optarg ? "=" : "", optarg ? optarg : "");
        }
        for (int i = optind; i < n; i++)
                text_append(log, LOG_SIZE, "<%s>", arguments[i]);
}

static void command_lines_are_parsed_as_getopt_long_parses_them(void **state) {
        static const char *const vocabulary[] = {
                "--verbose",
                "--verb",
                "--verbose=yes",
                "--user",
                "--user=",
                "--user=root",
                "--us=root",
                "--u",
                "--keeper",
                "--keep",
                "--keeper-f",
                "--make-nodes",
                "--make-nodes=uvm",
                "--bogus",
                "-V",
                "-Vf",
                "-uroot",
                "-Vu",
                "-Vx",
                "-",
                "--",
                "root",
        };
        size_t n_lines = 1, n_refused = 0;

        for (size_t i = 0; i < WORDS_MAX; i++)
                n_lines *= ARRAY_SIZE(vocabulary);
        for (size_t line = 0; line < n_lines; line++) {
                char *ours[WORDS_MAX + 1] = {NULL}, *theirs[WORDS_MAX + 2] = {(char *)"test", NULL};
                char log[LOG_SIZE] = "", expected[LOG_SIZE] = "";

                for (size_t i = 0, rest = line; i < WORDS_MAX; i++, rest /= ARRAY_SIZE(vocabulary))
                        ours[i] = theirs[i + 1] = (char *)vocabulary[rest % ARRAY_SIZE(vocabulary)];
                parse_with_ours(WORDS_MAX, ours, log);
                parse_with_getopt(WORDS_MAX + 1, theirs, expected);
                if (!text_equal(log, expected))
                        fail_msg("%s %s %s %s: parsed as %s, by getopt_long() as %s",
                                 vocabulary[line % ARRAY_SIZE(vocabulary)], theirs[2], theirs[3], theirs[4], log,
                                 expected);
                n_refused += strstr(log, "refused") != NULL;
        }
        assert_in_range(n_refused, n_lines / 4, n_lines - n_lines / 100);
}

/* ---- values ---- */

static const char *const colours[] = {"red", "green", NULL};

struct values {
        bool flag;
        const char *text;
        int choice;
        uint64_t number, count, usec;
};

#define AT(member) .offset = offsetof(struct values, member)

static const struct option_spec table[] = {
        {"flag", 'f', .help = "a flag", AT(flag)},
        {"no-flag", .help = "none", .kind = OPTION_OFF, AT(flag)},
        {"text", 't', "TEXT", "a text", "words", OPTION_TEXT, AT(text)},
        {"choice", 0, "COLOUR", "one of some", .kind = OPTION_CHOICE, .choices = colours, AT(choice)},
        {"number", 0, "N", "a number", .kind = OPTION_NUMBER, .minimum = 1, .maximum = 8, AT(number)},
        {"count", 0, "N", "another", .kind = OPTION_NUMBER, AT(count)},
        {"time", 0, "SECONDS", "a time", .kind = OPTION_SECONDS, AT(usec)},
        {"where", 0, "[PLACE]",
         "a text that is so long that it goes on in another line, where it begins below its beginning",
         .kind = OPTION_TEXT, AT(text)},
        {"version", 'v', .help = "stops", .kind = OPTION_STOP},
        {0},
};

/* Parses a line of words separated by spaces. */
static int parse(struct options_parser *parser, char *line, char *words[static 8], int *ret_n_words) {
        int n = 0;

        for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
                words[n++] = word;
        words[n] = NULL;
        return options_parse(parser, words, n, ret_n_words);
}

static void values_are_stored(void **state) {
        char line[] = "one --flag --words=x --choice GREEN two --number 8 -- --time";
        struct values values = {0};
        struct options_parser parser = {.groups = {{table, &values}}};
        char *words[16];
        int n_words;

        assert_int_equal(parse(&parser, line, words, &n_words), 0);
        assert_true(values.flag);
        assert_string_equal(values.text, "x");
        assert_int_equal(values.choice, 1);
        assert_int_equal(values.number, 8);
        assert_int_equal(n_words, 3);
        assert_string_equal(words[0], "one");
        assert_string_equal(words[1], "two");
        assert_string_equal(words[2], "--time");
        assert_null(words[3]);
}

static void invalid_values_are_refused_with_an_error_message(void **state) {
        static const struct {
                const char *line;
                const char *error;
        } wrong[] = {
                {"--bogus", "unknown option '--bogus'"},
                {"--chioce=red", "unknown option '--chioce'; did you mean '--choice'?"},
                {"--fla", "unknown option '--fla'; did you mean '--flag'?"},
                {"--flag=yes", "--flag takes no value"},
                {"-t", "--text needs a value: TEXT"},
                {"--choice=blue", "--choice: 'blue' is not one of red, green"},
                {"--number=0", "--number: '0' is not a number from 1 to 8"},
                {"--number=9", "--number: '9' is not a number from 1 to 8"},
                {"--count=-1", "--count: '-1' is not a number (such as 8)"},
                {"--count=4294967296", "--count: '4294967296' is not a number (such as 8)"},
                {"--time=1e3", "--time: '1e3' is not a number of seconds (such as 30, 0.5 or infinity)"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct values values = {0};
                struct options_parser parser = {.groups = {{table, &values}}};
                char line[64], *words[8];
                int n_words;

                (void)text_copy(line, sizeof(line), wrong[i].line);
                assert_int_equal(parse(&parser, line, words, &n_words), -EINVAL);
                assert_string_equal(parser.error, wrong[i].error);
                assert_memory_equal(&values, &(struct values){0}, sizeof(values));
        }
}

static void errors_behind_an_option_that_stops_parsing_are_ignored(void **state) {
        char line[] = "--no-flag -v --bogus";
        struct values values = {.flag = true};
        struct options_parser parser = {.groups = {{table, &values}}};
        char *words[8];
        int n_words;

        assert_int_equal(parse(&parser, line, words, &n_words), 'v');
        assert_false(values.flag);
}

static void the_caller_may_ask_to_stop_at_a_word_and_to_leave_unknown_options(void **state) {
        char line[] = "--flag run --text --flag", unknown[] = "--flag --other --time 1";
        struct values values = {0};
        struct options_parser parser = {
                .groups = {{NULL, NULL}, {table, &values}},
                .stop_at_word = true,
                .leave_unknown = true,
        };
        char *words[8];
        int n_words;

        assert_int_equal(parse(&parser, line, words, &n_words), 0);
        assert_int_equal(n_words, 3);
        assert_string_equal(words[0], "run");
        assert_string_equal(words[1], "--text");
        assert_int_equal(parse(&parser, unknown, words, &n_words), 0);
        assert_int_equal(n_words, 3);
        assert_string_equal(words[0], "--other");
        assert_int_equal(values.usec, 0);
}

/* ---- help ---- */

static void the_help_fits_in_80_columns(void **state) {
        static const char expected[] =
                "  -f, --flag             a flag\n"
                "  --no-flag              none\n"
                "  -t, --text TEXT        a text\n"
                "  --choice COLOUR        one of some\n"
                "  --number N             a number\n"
                "  --count N              another\n"
                "  --time SECONDS         a time\n"
                "  --where[=PLACE]        a text that is so long that it goes on in another line,\n"
                "                         where it begins below its beginning\n"
                "  -v, --version          stops\n";
        CLEANUP(free_ptr) char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        assert_non_null(stream);
        options_print_help(stream, table);
        assert_int_equal(fclose(stream), 0);
        assert_string_equal(text, expected);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                /* clang-format off */
                cmocka_unit_test(command_lines_are_parsed_as_getopt_long_parses_them),
                cmocka_unit_test(values_are_stored),
                cmocka_unit_test(invalid_values_are_refused_with_an_error_message),
                cmocka_unit_test(errors_behind_an_option_that_stops_parsing_are_ignored),
                cmocka_unit_test(the_caller_may_ask_to_stop_at_a_word_and_to_leave_unknown_options),
                cmocka_unit_test(the_help_fits_in_80_columns),
                /* clang-format on */
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
