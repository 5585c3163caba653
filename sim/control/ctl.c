/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/control/ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/options.h"
#include "base/standard.h"
#include "base/text.h"
#include "sim/control/ctl_print.h"
#include "sim/control/endpoint.h"
#include "sim/control/server.h"

enum { EXIT_MISUSE = 2, OPTIONS_PER_VERB = 5 };

/* ---- the tables ---- */

/* The parsed command line. */
struct ctl_request {
        const char *root, *socket;
        const struct ctl_verb *verb;
        json_t *arguments;
        bool json;
};

/* The member of the request that an option sets, and the value. NULL: the value from the command line. */
struct ctl_argument {
        const char *key;
        const char *value;
};

static int add_argument(struct options_parser *parser, const struct option_spec *spec, void *member,
                        const char *value) {
        struct ctl_request *request = member;
        const struct ctl_argument *argument = spec->data;

        (void)json_object_set_new(request->arguments, argument->key,
                                  json_string(argument->value ? argument->value : value));
        return 0;
}

#define ADD(...)                                                                                                       \
        .kind = OPTION_CALL, .set = add_argument, .data = &(const struct ctl_argument) {                               \
                __VA_ARGS__                                                                                            \
        }
#define AT(member) .offset = offsetof(struct ctl_request, member)

static const struct option_spec ctl_options[] = {
        {"close", .help = "teardown hangs, not initialisation", ADD("which", "close")},
        {"compute-mode", 0, "MODE", "Default, Exclusive_Process or Prohibited", ADD("compute_mode")},
        {"count", 0, "N", "number of failures (1), or all", ADD("count")},
        {"delay", 0, "TIME", "a time such as 20s", ADD("delay")},
        {"errno", 0, "NAME", "open gives this errno (EIO)", ADD("errno")},
        {"event", 0, "NAME", "only records of this event", ADD("event")},
        {"gpu", 0, "ID", "index, PCI address, UUID, or all", ADD("gpu")},
        {"graphics-clock", 0, "MHZ", "the clock to lock to", ADD("graphics_clock_mhz")},
        {"memory-clock", 0, "MHZ", "the clock to lock to", ADD("memory_clock_mhz")},
        {"off", .help = "undoes the verb", ADD("on", "false")},
        {"power-limit", 0, "WATTS", "the limit to set", ADD("power_limit_w")},
        {"since", 0, "NUMBER", "only records after this one", ADD("since")},
        {"status", 0, "STATUS", "NV_STATUS, by name or number", ADD("status")},
        {"surprise", .help = "the driver notices the loss: open gives ENODEV", ADD("surprise", "true")},
        {"timeout", 0, "TIME", "wait this long for a record, such as 5s", ADD("timeout")},
        {"json", .help = "the answer as JSON (docs/simulator.md)", AT(json)},
        {"root", 0, "DIR", "the simulator that serves DIR", .kind = OPTION_TEXT, AT(root)},
        {"socket", 0, "PATH", "the simulator that serves PATH", .kind = OPTION_TEXT, AT(socket)},
        {"help", 'h', .help = "print this", .kind = OPTION_STOP},
        {0},
};

static const struct ctl_verb {
        const char *name;
        const char *help;
        void (*print)(json_t *result);
        bool takes_state; /* a positional argument: on or off */
        const char *options[OPTIONS_PER_VERB];
} ctl_verbs[] = {
        {"add", "puts a removed GPU back on the bus", ctl_print_done, false, {"gpu"}},
        {"bind", "binds the driver to a GPU again", ctl_print_done, false, {"gpu"}},
        {"drain", "the GPU accepts no new users", ctl_print_done, false, {"gpu", "off"}},
        {"fabric", "the NVLink fabric is ready only after --delay", ctl_print_done, false, {"gpu", "delay"}},
        {"fail", "the next initialisations fail", ctl_print_done, false, {"gpu", "count", "status", "errno"}},
        {"hang", "initialisation or teardown hangs", ctl_print_done, false, {"gpu", "close", "off"}},
        {"journal", "the events so far, one record each", ctl_print_journal, false, {"since", "event", "timeout"}},
        {"legacy", "sets the kernel's persistence flag, as nvidia-smi -pm", ctl_print_done, true, {"gpu"}},
        {"lose", "the GPU falls off the bus", ctl_print_done, false, {"gpu", "surprise", "off"}},
        {"remove", "removes a GPU from the bus when its last user has closed it", ctl_print_done, false, {"gpu"}},
        {"reset", "resets a GPU that no process uses", ctl_print_message, false, {"gpu"}},
        {"set",
         "opens the GPU, changes settings, and closes it, as nvidia-smi does",
         ctl_print_set,
         false,
         {"gpu", "power-limit", "graphics-clock", "memory-clock", "compute-mode"}},
        {"status", "the table of GPUs and who holds them (the default)", ctl_print_status, false, {NULL}},
        {"unbind", "unbinds the driver from a GPU when its last user has closed it", ctl_print_done, false, {"gpu"}},
};

#define complain(...) standard_complain("holdfast-sim ctl", __VA_ARGS__)

static int print_help(void) {
        puts("Usage: holdfast-sim ctl (--root DIR | --socket PATH) [VERB] [ARGUMENTS] [--json]\n"
             "\n"
             "Verbs:");
        for (size_t i = 0; i < ARRAY_SIZE(ctl_verbs); i++) {
                printf("  %-8s %s\n", ctl_verbs[i].name, ctl_verbs[i].help);
                if (ctl_verbs[i].takes_state)
                        printf("             on | off\n");
                for (size_t j = 0; j < OPTIONS_PER_VERB && ctl_verbs[i].options[j]; j++)
                        printf("             --%s\n", ctl_verbs[i].options[j]);
        }
        puts("\nOptions:");
        options_print_help(stdout, ctl_options);
        puts("\nExit status: 0 done, 1 refused or no simulator is running, 2 wrong usage.");
        return EXIT_SUCCESS;
}

/* ---- the command line ---- */

static const struct ctl_verb *find_verb(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(ctl_verbs); i++)
                if (text_equal(ctl_verbs[i].name, name))
                        return &ctl_verbs[i];
        return NULL;
}

static bool takes(const struct ctl_verb *verb, const char *option) {
        for (size_t i = 0; i < OPTIONS_PER_VERB && verb->options[i]; i++)
                if (text_equal(verb->options[i], option))
                        return true;
        return false;
}

/* Call this before parse_state(), which uses the key of --off for the positional argument. */
static int check_options(const struct ctl_request *request) {
        for (const struct option_spec *spec = ctl_options; spec->name; spec++) {
                const struct ctl_argument *argument = spec->data;

                if (argument && json_object_get(request->arguments, argument->key) && !takes(request->verb, spec->name))
                        return complain(-EINVAL, "%s takes no --%s; try --help", request->verb->name, spec->name);
        }
        return 0;
}

static int parse_state(struct ctl_request *request, const char *text) {
        if (!text || (!text_equal(text, "on") && !text_equal(text, "off")))
                return complain(-EINVAL, "%s needs on or off; try --help", request->verb->name);
        (void)json_object_set_new(request->arguments, "on", json_boolean(text_equal(text, "on")));
        return 0;
}

static int parse_words(int n_words, char **words, struct ctl_request *request) {
        int n_allowed = 1, r;

        request->verb = find_verb(n_words > 0 ? words[0] : "status");
        if (!request->verb)
                return complain(-EINVAL, "unknown verb '%s'; try --help", words[0]);
        r = check_options(request);
        if (r == 0 && request->verb->takes_state) {
                r = parse_state(request, n_words > 1 ? words[1] : NULL);
                n_allowed = 2;
        }
        if (r == 0 && n_words > n_allowed)
                return complain(-EINVAL, "%s takes no argument '%s'; try --help", request->verb->name,
                                words[n_allowed]);
        return r;
}

/* Returns 0, positive if --help was given, or -EINVAL after printing what is wrong. */
static int parse(int argc, char **argv, struct ctl_request *request) {
        struct options_parser parser = {.groups = {{ctl_options, request}}, .takes_beginnings = true};
        int n_words, r;

        r = options_parse(&parser, argv + 1, argc - 1, &n_words);
        if (r != 0)
                return r < 0 ? complain(r, "%s (try --help)", parser.error) : r;
        r = parse_words(n_words, argv + 1, request);
        if (!request->root && !request->socket)
                request->root = getenv("HOLDFAST_ROOT"); /* holdfast-sim exec sets it */
        if (r == 0 && !request->root == !request->socket)
                return complain(-EINVAL, "give --root DIR or --socket PATH to choose a simulator; try --help");
        return r;
}

/* ---- the exchange ---- */

static int connect_simulator(const struct ctl_request *request) {
        char path[PATH_MAX];
        int fd;

        if (!text_copy(path, sizeof(path), request->socket ? request->socket : "") ||
            (request->root && file_rooted(path, request->root, SERVER_DEFAULT_SOCKET) < 0))
                return complain(-ENAMETOOLONG, "the path is too long");
        fd = endpoint_connect(path);
        if (fd < 0)
                return complain(fd, "no simulator answers at %s: %s; start one with `holdfast-sim run`", path,
                                strerror(-fd));
        return fd;
}

/* Returns the answer, a new reference, or NULL if the simulator ended. */
static json_t *exchange(FILE *stream, json_t *arguments) {
        CLEANUP(free_ptr) char *line = NULL;
        size_t size = 0;

        if (json_dumpf(arguments, stream, JSON_COMPACT) < 0 || fputc('\n', stream) < 0 || fflush(stream) < 0)
                return NULL;
        return getline(&line, &size, stream) > 0 ? json_loads(line, 0, NULL) : NULL;
}

static int show(const struct ctl_request *request, json_t *answer) {
        json_t *result = json_object_get(answer, "result");
        const char *error = json_string_value(json_object_get(answer, "error"));

        if (!json_is_true(json_object_get(answer, "ok")))
                return complain(EXIT_FAILURE, "%s", error ? error : "the simulator's answer is invalid");
        if (!request->json)
                request->verb->print(result);
        else if (json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0)
                putchar('\n');
        return EXIT_SUCCESS;
}

static int run(struct ctl_request *request) {
        CLEANUP(stream_done) FILE *stream = NULL;
        CLEANUP(json_decrefp) json_t *answer = NULL;
        CLEANUP(fd_done) int fd = connect_simulator(request);

        if (fd < 0)
                return EXIT_FAILURE;
        stream = fdopen(fd, "r+");
        if (!stream)
                return complain(EXIT_FAILURE, "%s", strerror(errno));
        fd = -1; /* the stream now owns it */
        (void)json_object_set_new(request->arguments, "verb", json_string(request->verb->name));
        answer = exchange(stream, request->arguments);
        if (!answer)
                return complain(EXIT_FAILURE, "the simulator ended before it answered");
        return show(request, answer);
}

int ctl_main(int argc, char **argv) {
        CLEANUP(json_decrefp) json_t *arguments = json_object();
        struct ctl_request request = {.arguments = arguments};
        int r = parse(argc, argv, &request);

        if (r < 0)
                return EXIT_MISUSE;
        return r > 0 ? print_help() : run(&request);
}
