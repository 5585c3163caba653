/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * holdfast completion bash|zsh|fish: prints the shell's completion, made from the very tables that parse the command
 * line, so that it can lack nothing. For the build, and not listed in the help.
 */

#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/args/command.h"

static const struct option_spec no_options[] = {{0}};

static const struct command_exit exits[] = {
        {STATUS_DONE, "printed"},
        {STATUS_USAGE, "wrong usage"},
        {0},
};

/* Calls `print` for the options of a command, then for those of all commands. NULL: the latter only. */
static void each_option(const struct command *command,
                        void (*print)(const struct command *command, const struct option_spec *spec)) {
        const struct option_spec *tables[] = {command ? command->options : no_options, common_specs};

        for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
                for (const struct option_spec *spec = tables[i]; spec->name; spec++)
                        print(command, spec);
}

/* What a word that is no option can be: the `words` of set are "on|off". */
static bool has_plain_words(const struct command *command) {
        return command->words && !strpbrk(command->words, " []");
}

static void print_split(const char *words, const char *separator) {
        for (; *words != '\0'; words++) {
                if (*words == '|')
                        (void)fputs(separator, stdout);
                else
                        (void)putchar(*words);
        }
}

static bool takes_file(const struct option_spec *spec) {
        return spec->argument && (text_equal(spec->argument, "PATH") || text_equal(spec->argument, "FILE"));
}

static bool takes_folder(const struct option_spec *spec) {
        return spec->argument && text_equal(spec->argument, "DIR");
}

/* ---- bash ----------------------------------------------------------------------------------------------------- */

static void bash_option(const struct command *command, const struct option_spec *spec) {
        printf(" --%s", spec->name);
        if (spec->letter != '\0')
                printf(" -%c", spec->letter);
}

/* After an option that takes a value comes the value. */
static void bash_value(const struct command *command, const struct option_spec *spec) {
        if (spec->kind == OPTION_FLAG)
                return;
        printf("                %s/--%s", command ? command->name : "", spec->name);
        if (spec->alias)
                printf("|%s/--%s", command ? command->name : "", spec->alias);
        if (spec->letter != '\0')
                printf("|%s/-%c", command ? command->name : "", spec->letter);
        (void)fputs(") ", stdout);
        if (spec->kind == OPTION_CHOICE)
                for (size_t i = 0; spec->choices[i]; i++)
                        printf("%s%s", i == 0 ? "words='" : " ", spec->choices[i]);
        else if (spec->set == ids_set)
                (void)fputs("words=$(_holdfast_gpus", stdout);
        else if (takes_folder(spec) || takes_file(spec))
                printf("compopt -o filenames; mapfile -t COMPREPLY < <(compgen -%c -- \"$current\"); return",
                       takes_folder(spec) ? 'd' : 'f');
        else
                (void)fputs("words='", stdout);
        puts(spec->set == ids_set ? ") ;;" : takes_folder(spec) || takes_file(spec) ? " ;;" : "' ;;");
}

static void bash_command(const struct command *command) {
        printf("                %s/*) words='", command->name);
        if (has_plain_words(command))
                print_split(command->words, " ");
        each_option(command, bash_option);
        puts("' ;;");
}

/* GPUs are offered by index and UUID: bash takes the colons of an address for the ends of words. */
static void print_bash(void) {
        puts("# bash completion for holdfast; made by: holdfast completion bash\n"
             "\n"
             "_holdfast_gpus() {\n"
             "        printf 'all '\n"
             "        holdfast query --fields=index,uuid --format=csv,noheader 2>/dev/null | tr ',\\n' '  "
             "'\n"
             "}\n"
             "\n"
             "_holdfast() {\n"
             "        local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= words= "
             "i\n"
             "\n"
             "        for ((i = 1; i < COMP_CWORD; i++)); do\n"
             "                case ${COMP_WORDS[i]} in\n"
             "                --root) i=$((i + 1)) ;;\n"
             "                -*) ;;\n"
             "                *) command=${COMP_WORDS[i]}; break ;;\n"
             "                esac\n"
             "        done\n"
             "        if [[ $command == release ]]; then # what it runs completes as it would by itself\n"
             "                for ((i++; i < COMP_CWORD; i++)); do\n"
             "                        if [[ ${COMP_WORDS[i]} == -- ]] && declare -F _command_offset >/dev/null; then\n"
             "                                _command_offset $((i + 1))\n"
             "                                return\n"
             "                        fi\n"
             "                done\n"
             "        fi\n"
             "        case $command/$previous in");
        each_option(NULL, bash_value);
        for (size_t i = 0; i < n_commands; i++)
                for (const struct option_spec *spec = commands[i]->options; spec->name; spec++)
                        bash_value(commands[i], spec);
        puts("                */--root) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$current\"); "
             "return ;;");
        for (size_t i = 0; i < n_commands; i++)
                bash_command(commands[i]);
        (void)fputs("                /*) words='", stdout);
        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary)
                        printf("%s ", commands[i]->name);
        each_option(NULL, bash_option);
        puts("' ;;\n"
             "        esac\n"
             "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
             "}\n"
             "complete -F _holdfast holdfast");
}

/* ---- zsh ------------------------------------------------------------------------------------------------------ */

/* Within '...': a quotation mark ends it, and _arguments gives brackets and colons a meaning. */
static void zsh_text(const char *text) {
        for (; *text != '\0'; text++) {
                if (*text == '\'')
                        (void)fputs("'\\''", stdout);
                else if (*text == '[' || *text == ']' || *text == ':' || *text == '\\')
                        printf("\\%c", *text);
                else
                        (void)putchar(*text);
        }
}

static void zsh_value(const struct option_spec *spec) {
        if (spec->kind == OPTION_FLAG)
                return;
        (void)putchar(':');
        zsh_text(spec->argument);
        (void)putchar(':');
        if (spec->kind == OPTION_CHOICE) {
                for (size_t i = 0; spec->choices[i]; i++)
                        printf("%s%s", i == 0 ? "(" : " ", spec->choices[i]);
                (void)putchar(')');
        } else if (spec->set == ids_set)
                (void)fputs("_holdfast_gpus", stdout);
        else if (takes_folder(spec))
                (void)fputs("_directories", stdout);
        else if (takes_file(spec))
                (void)fputs("_files", stdout);
}

static void zsh_row(const struct option_spec *spec, const char *dashes, const char *name) {
        printf("                '%s%s%s%s[", spec->set == ids_set ? "*" : "", dashes, name,
               spec->kind == OPTION_FLAG || !dashes[1] ? "" : "=");
        zsh_text(spec->help);
        (void)putchar(']');
        zsh_value(spec);
        puts("' \\");
}

static void zsh_option(const struct command *command, const struct option_spec *spec) {
        const char letter[] = {spec->letter, '\0'};

        zsh_row(spec, "--", spec->name);
        if (spec->letter != '\0')
                zsh_row(spec, "-", letter);
}

static void zsh_command(const struct command *command) {
        printf("        (%s)\n                _arguments \\\n", command->name);
        each_option(command, zsh_option);
        if (command->words_are_a_command)
                puts("                '*::command:_normal' ;;");
        else if (has_plain_words(command)) {
                (void)fputs("                '1:what:(", stdout);
                print_split(command->words, " ");
                puts(")' ;;");
        } else
                puts("                ;;");
}

static void print_zsh(void) {
        puts("#compdef holdfast\n"
             "# zsh completion for holdfast; made by: holdfast completion zsh\n"
             "\n"
             "_holdfast_gpus() {\n"
             "        compadd all ${(f)\"$(holdfast query --fields=index --format=csv,noheader 2>/dev/null)\"} \\\n"
             "                ${(f)\"$(holdfast query --fields=pci.bus_id --format=csv,noheader 2>/dev/null)\"}\n"
             "}\n"
             "\n"
             "_holdfast() {\n"
             "        local context state state_descr line\n"
             "        typeset -A opt_args\n"
             "\n"
             "        _arguments -C \\");
        each_option(NULL, zsh_option);
        puts("                '1:command:->command' \\\n"
             "                '*::argument:->argument'\n"
             "        if [[ $state == command ]]; then\n"
             "                local -a commands=(");
        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary) {
                        printf("                        '%s:", commands[i]->name);
                        zsh_text(commands[i]->summary);
                        puts("'");
                }
        puts("                )\n"
             "                _describe command commands\n"
             "                return\n"
             "        fi\n"
             "        case $words[1] in");
        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary)
                        zsh_command(commands[i]);
        puts("        esac\n"
             "}\n"
             "\n"
             "_holdfast \"$@\"");
}

/* ---- fish ----------------------------------------------------------------------------------------------------- */

/* Within '...': a backslash goes before a quotation mark and a backslash. */
static void fish_text(const char *text) {
        (void)putchar('\'');
        for (; *text != '\0'; text++) {
                if (*text == '\'' || *text == '\\')
                        (void)putchar('\\');
                (void)putchar(*text);
        }
        (void)putchar('\'');
}

static void fish_value(const struct option_spec *spec) {
        if (takes_folder(spec))
                (void)fputs(" -x -a '(__fish_complete_directories)'", stdout);
        else if (takes_file(spec))
                (void)fputs(" -r -F", stdout);
        else if (spec->set == ids_set)
                (void)fputs(" -x -a '(__holdfast_gpus)'", stdout);
        else if (spec->kind == OPTION_CHOICE) {
                (void)fputs(" -x -a '", stdout);
                for (size_t i = 0; spec->choices[i]; i++)
                        printf("%s%s", i == 0 ? "" : " ", spec->choices[i]);
                (void)putchar('\'');
        } else if (spec->kind != OPTION_FLAG)
                (void)fputs(" -x", stdout);
}

static void fish_option(const struct command *command, const struct option_spec *spec) {
        (void)fputs("complete -c holdfast", stdout);
        if (command)
                printf(" -n '__fish_seen_subcommand_from %s'", command->name);
        printf(" -l %s", spec->name);
        if (spec->letter != '\0')
                printf(" -s %c", spec->letter);
        fish_value(spec);
        (void)fputs(" -d ", stdout);
        fish_text(spec->help);
        (void)putchar('\n');
}

static void fish_command(const struct command *command) {
        printf("complete -c holdfast -n __fish_use_subcommand -a %s -d ", command->name);
        fish_text(command->summary);
        (void)putchar('\n');
        if (has_plain_words(command)) {
                printf("complete -c holdfast -n '__fish_seen_subcommand_from %s' -a '", command->name);
                print_split(command->words, " ");
                puts("'");
        }
        for (const struct option_spec *spec = command->options; spec->name; spec++)
                fish_option(command, spec);
}

static void print_fish(void) {
        puts("# fish completion for holdfast; made by: holdfast completion fish\n"
             "\n"
             "function __holdfast_gpus\n"
             "        echo all\n"
             "        holdfast query --fields=index,name --format=csv,noheader 2>/dev/null | string replace ', ' \\t\n"
             "        holdfast query --fields=pci.bus_id,name --format=csv,noheader 2>/dev/null | string replace ', ' "
             "\\t\n"
             "end\n"
             "\n"
             "complete -c holdfast -f");
        each_option(NULL, fish_option);
        for (size_t i = 0; i < n_commands; i++)
                if (commands[i]->summary)
                        fish_command(commands[i]);
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int run(const struct invocation *invocation) {
        static const struct {
                const char *name;
                void (*print)(void);
        } shells[] = {
                {"bash", print_bash},
                {"fish", print_fish},
                {"zsh", print_zsh},
        };

        for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
                if (invocation->n_words == 1 && text_equal(shells[i].name, invocation->words[0])) {
                        shells[i].print();
                        return STATUS_DONE;
                }
        return complain_usage(invocation, "name one shell: bash, fish or zsh");
}

const struct command completion_command = {
        .name = "completion",
        .words = "bash|fish|zsh",
        .description = "Prints the completion of holdfast's commands and options for a shell.",
        .examples = "  holdfast completion bash > /etc/bash_completion.d/holdfast",
        .options = no_options,
        .exits = exits,
        .run = run,
};
