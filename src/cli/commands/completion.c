/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast completion: the tables that parse the command line, in JSON, for packaging/completion, which makes the
 * shells' completion of them. For the build, and not listed in the help.
 */

#include "cli/args/command.h"

static const struct option_spec no_options[] = {{0}};

static const struct command_exit exits[] = {
        {STATUS_DONE, "printed"},
        {STATUS_USAGE, "wrong usage"},
        {0},
};

static json_t *option_json(const struct option_spec *spec) {
        const char letter[] = {spec->letter, '\0'};
        json_t *choices = json_array();

        for (const char *const *choice = spec->choices; choice && *choice; choice++)
                (void)json_array_append_new(choices, json_string(*choice));
        return json_pack("{s:s, s:s?, s:s?, s:s?, s:s, s:o, s:b}", "name", spec->name, "letter",
                         spec->letter != '\0' ? letter : NULL, "alias", spec->alias, "argument", spec->argument, "help",
                         spec->help, "choices", choices, "names_gpus", spec->set == ids_set);
}

static json_t *options_json(const struct option_spec *specs) {
        json_t *options = json_array();

        for (; specs->name; specs++)
                (void)json_array_append_new(options, option_json(specs));
        return options;
}

static int run(const struct invocation *invocation) {
        json_t *rows = json_array();

        for (size_t i = 0; i < n_commands; i++) {
                const struct command *command = commands[i];

                (void)json_array_append_new(rows, json_pack("{s:s, s:s?, s:s?, s:b, s:o}", "name", command->name,
                                                            "summary", command->summary, "words", command->words,
                                                            "runs_another", command->words_are_a_command, "options",
                                                            options_json(command->options)));
        }
        return command_print_json(invocation,
                                  json_pack("{s:o, s:o}", "commands", rows, "options", options_json(common_specs)));
}

const struct command completion_command = {
        .name = "completion",
        .description = "Prints all commands and options in JSON, for the build of the shells' completion.",
        .examples = "  holdfast completion | jq '.commands[].name'",
        .options = no_options,
        .exits = exits,
        .run = run,
};
