/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/locations.h"
#include "base/nearest.h"
#include "base/standard.h"
#include "base/text.h"
#include "cli/args/command.h"
#include "cli/report/report.h"

enum { PROGRAM_SIZE = 32 };

const struct command *const commands[] = {
        /* clang-format off */
        &status_command,
        &query_command,
        &set_command,
        &wait_command,
        &check_command,
        &clients_command,
        &metrics_command,
        &bench_command,
        &release_command,
        &settings_command,
        &doctor_command,
        &takeover_command,
        &completion_command,
        /* clang-format on */
};

const size_t n_commands = ARRAY_SIZE(commands);

/* ---- options that every command takes ---------------------------------------- */

/* Variables of the environment. NULL: not set. */
struct command_environment {
        const char *root;     /* HOLDFAST_ROOT */
        const char *programs; /* PATH */
};

struct common_options {
        const char *root; /* NULL: not given */
        bool help;
        bool version;
};

const struct option_spec common_specs[] = {
        OPTION_VALUE(struct common_options, root, OPTION_TEXT, "root", "DIR",
                     "look below DIR for /dev, /proc/driver, /sys and /run: a simulated driver, or a container's "
                     "(also from HOLDFAST_ROOT)"),
        OPTION_LETTER(struct common_options, help, "help", 'h', "print this help"),
        OPTION_SWITCH(struct common_options, version, "version", "print the version"),
        {0},
};

/* ---- help -------------------------------------------------------------------- */

static int print_version(void) {
        puts("holdfast " HOLDFAST_VERSION);
        return STATUS_DONE;
}

static void print_help(void) {
        puts("Usage: holdfast [--root DIR] [COMMAND] [OPTIONS]\n"
             "\n"
             "Shows and changes which NVIDIA GPUs are kept initialised, and by whom. It asks\n"
             "the persistence daemon (Holdfast's or NVIDIA's) and the kernel, and never opens\n"
             "a GPU to look at it. Without a command: status.\n"
             "\n"
             "Commands:");
        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary)
                        options_print_row(stdout, commands[i]->name, commands[i]->summary);
        puts("\nOptions:");
        options_print_help(stdout, common_specs);
        puts("\n"
             "A GPU is named by its index (0), PCI address (0000:17:00.0), UUID (GPU-..., or\n"
             "its beginning), or 'all'; several with commas between. 'holdfast COMMAND --help'\n"
             "says more; so does holdfast(1).");
}

static void print_command_help(const struct command *command) {
        printf(command->words_are_a_command ? "Usage: holdfast %s [OPTIONS]%s%s\n\n%s\n\nOptions:\n"
                                            : "Usage: holdfast %s%s%s [OPTIONS]\n\n%s\n\nOptions:\n",
               command->name, command->words ? " " : "", command->words ? command->words : "", command->description);
        options_print_help(stdout, command->options);
        options_print_help(stdout, common_specs);
        puts("\nExit status:");
        for (const struct command_exit *row = command->exits; row->meaning; row++) {
                char number[8];

                text_set(number, "%d", (int)row->status);
                options_print_row(stdout, number, row->meaning);
        }
        printf("\nExamples:\n%s\n", command->examples);
}

/* ---- finding and running a command ------------------------------------------- */

static const struct command *find_command(const char *name) {
        for (size_t i = 0; i < n_commands; i++)
                if (text_equal(commands[i]->name, name))
                        return commands[i];
        return NULL;
}

static int complain_unknown_command(const struct invocation *invocation, const char *name) {
        struct nearest nearest = nearest_to(name);
        char hint[64];

        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary)
                        nearest_try(&nearest, commands[i]->name);
        return complain_usage(invocation, "unknown command '%.40s'%s", name,
                              nearest_hint(&nearest, "", hint, sizeof(hint)));
}

static int run_command(const struct command *command, struct invocation *invocation, struct common_options *common,
                       const struct command_environment *environment, char **arguments, int n) {
        struct options_parser parser = {
                .groups = {{command->options, command->defaults}, {common_specs, common}},
                .stop_at_word = command->words_are_a_command,
        };
        const char *variable = environment->root;
        struct locations locations;

        if (options_parse(&parser, arguments, n, &invocation->n_words) < 0)
                return complain_usage(invocation, "%s", parser.error);
        if (common->version)
                return print_version();
        if (common->help) {
                print_command_help(command);
                return STATUS_DONE;
        }
        if (!command->words && invocation->n_words > 0)
                return complain_usage(invocation, "unexpected '%.40s'", arguments[0]);
        locations = locations_of(common->root ? common->root : variable, variable && text_equal(variable, "/"));
        locations.programs = environment->programs;
        invocation->locations = &locations;
        invocation->words = arguments;
        return command->run(invocation);
}

/* *command: the default at first, then what was run. */
static int run(int argc, char **argv, const struct command_environment *environment, const struct command **command) {
        struct common_options common = {0};
        struct invocation invocation = {.program = "holdfast"};
        struct options_parser parser = {
                .groups = {{common_specs, &common}},
                .stop_at_word = true,
                .leave_unknown = true,
        };
        char program[PROGRAM_SIZE], **arguments = argv + 1;
        int n;

        if (options_parse(&parser, arguments, argc - 1, &n) < 0)
                return complain_usage(&invocation, "%s", parser.error);
        if (common.version)
                return print_version();
        if (common.help) {
                print_help();
                return STATUS_DONE;
        }
        if (n > 0 && arguments[0][0] != '-') {
                const struct command *named = find_command(arguments[0]);

                if (!named)
                        return complain_unknown_command(&invocation, arguments[0]);
                *command = named;
                text_set(program, "holdfast %s", named->name);
                invocation.program = program;
                invocation.failed_status = named->failed_status;
                arguments++;
                n--;
        }
        return run_command(*command, &invocation, &common, environment, arguments, n);
}

/*
 * Lost output is a failure: a full disk must not look like a short answer. A reader that closes the pipe early
 * (`holdfast | head`) gets no message, but the status changes too, unless the status is the command's answer.
 */
static int close_output(const struct command *command, int status) {
        if (standard_close_output("holdfast") == 0 || command->status_answers)
                return status;
        return status == STATUS_DONE ? STATUS_FAILED : status;
}

int main(int argc, char **argv) {
        const struct command_environment environment = {
                .root = getenv("HOLDFAST_ROOT"),
                .programs = getenv("PATH"),
        };
        const struct report_environment of_terminal = {
                .columns = getenv("COLUMNS"),
                .no_color = getenv("NO_COLOR"),
                .terminal = getenv("TERM"),
        };
        const struct command *command = &status_command;
        int status;

        standard_open();
        (void)signal(SIGPIPE, SIG_IGN);
        report_init(&of_terminal);
        status = run(argc, argv, &environment, &command);
        return close_output(command, status);
}
