/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/control/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "sim/control/ctl_print.h"
#include "sim/control/endpoint.h"
#include "sim/control/server.h"

enum { EXIT_MISUSE = 2, OPTIONS_PER_VERB = 5 };

/* ---- the tables ---- */

/* An option of some verbs, and what it becomes in the request: member `key`, with its argument or else `value`. */
static const struct ctl_option {
        const char *name;
        const char *key;
        const char *value; /* of an option that takes no argument */
        const char *help;
} ctl_options[] = {
        {"close", "which", "close", "teardown hangs, not initialisation"},
        {"compute-mode", "compute_mode", NULL, "Default, Exclusive_Process or Prohibited"},
        {"count", "count", NULL, "so many times (1), or all"},
        {"delay", "delay", NULL, "a time such as 20s"},
        {"errno", "errno", NULL, "open gives this errno (EIO)"},
        {"event", "event", NULL, "only records of this event"},
        {"gpu", "gpu", NULL, "index, PCI address, UUID, or all"},
        {"graphics-clock", "graphics_clock_mhz", NULL, "MHz"},
        {"memory-clock", "memory_clock_mhz", NULL, "MHz"},
        {"off", "on", "false", "undoes the verb"},
        {"power-limit", "power_limit_w", NULL, "watts"},
        {"since", "since", NULL, "only records after this number"},
        {"status", "status", NULL, "NV_STATUS, by name or number"},
        {"surprise", "surprise", "true", "and the driver knows: open gives ENODEV"},
        {"timeout", "timeout", NULL, "wait so long for a record, such as 5s"},
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
        {"drain", "the GPU takes no new users", ctl_print_done, false, {"gpu", "off"}},
        {"fabric", "the NVLink fabric is not ready for so long", ctl_print_done, false, {"gpu", "delay"}},
        {"fail", "the next initialisations fail", ctl_print_done, false, {"gpu", "count", "status", "errno"}},
        {"hang", "initialisation or teardown does not end", ctl_print_done, false, {"gpu", "close", "off"}},
        {"journal", "what happened, record by record", ctl_print_journal, false, {"since", "event", "timeout"}},
        {"legacy", "sets the kernel's persistence flag, as nvidia-smi -pm", ctl_print_done, true, {"gpu"}},
        {"lose", "the GPU falls off the bus", ctl_print_done, false, {"gpu", "surprise", "off"}},
        {"remove", "takes a GPU off the bus, when its last user has let go", ctl_print_done, false, {"gpu"}},
        {"reset", "resets a GPU that nobody uses", ctl_print_message, false, {"gpu"}},
        {"set",
         "opens the GPU, sets, and closes it, as nvidia-smi does",
         ctl_print_set,
         false,
         {"gpu", "power-limit", "graphics-clock", "memory-clock", "compute-mode"}},
        {"status", "the table of GPUs and who holds them (the default)", ctl_print_status, false, {NULL}},
        {"unbind", "takes the driver off a GPU, when its last user has let go", ctl_print_done, false, {"gpu"}},
};

/* What the command line says. */
struct ctl_request {
        const char *root, *socket;
        const struct ctl_verb *verb;
        json_t *arguments;
        const char *used[ARRAY_SIZE(ctl_options)]; /* names of the options given, for the verb to allow */
        size_t n_used;
        bool json;
        bool help;
};

static int complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int complain(int status, const char *format, ...) {
        va_list arguments;

        fputs("holdfast-sim ctl: ", stderr);
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
        return status;
}

static void print_help(void) {
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
        for (size_t i = 0; i < ARRAY_SIZE(ctl_options); i++)
                printf("  --%-15s %s\n", ctl_options[i].name, ctl_options[i].help);
        puts("  --json            the answer as JSON (docs/simulator.md)\n"
             "  --root DIR        the simulator that serves DIR\n"
             "  --socket PATH     the simulator that serves PATH\n"
             "\n"
             "Exit status: 0 done, 1 refused or no simulator there, 2 misuse.");
}

/* ---- the command line ---- */

static const struct ctl_option *find_option(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(ctl_options); i++)
                if (text_equal(ctl_options[i].name, name))
                        return &ctl_options[i];
        return NULL;
}

static const struct ctl_verb *find_verb(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(ctl_verbs); i++)
                if (text_equal(ctl_verbs[i].name, name))
                        return &ctl_verbs[i];
        return NULL;
}

enum { OPTION_VERB = 1, OPTION_ROOT, OPTION_SOCKET, OPTION_JSON, OPTION_HELP, N_COMMON_OPTIONS = 4 };

static void fill_long_options(struct option options[static ARRAY_SIZE(ctl_options) + N_COMMON_OPTIONS + 1]) {
        static const struct option common[N_COMMON_OPTIONS] = {
                {"root", required_argument, NULL, OPTION_ROOT},
                {"socket", required_argument, NULL, OPTION_SOCKET},
                {"json", no_argument, NULL, OPTION_JSON},
                {"help", no_argument, NULL, OPTION_HELP},
        };
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ctl_options); i++)
                options[n++] = (struct option){
                        .name = ctl_options[i].name,
                        .has_arg = ctl_options[i].value ? no_argument : required_argument,
                        .val = OPTION_VERB,
                };
        for (size_t i = 0; i < ARRAY_SIZE(common); i++)
                options[n++] = common[i];
        options[n] = (struct option){0};
}

static void add_argument(struct ctl_request *request, const char *name, const char *argument) {
        const struct ctl_option *option = find_option(name);

        (void)json_object_set_new(request->arguments, option->key,
                                  json_string(option->value ? option->value : argument));
        if (request->n_used < ARRAY_SIZE(request->used))
                request->used[request->n_used++] = option->name;
}

static int parse_options(int argc, char **argv, struct ctl_request *request) {
        struct option options[ARRAY_SIZE(ctl_options) + N_COMMON_OPTIONS + 1];
        int index = 0, option;

        fill_long_options(options);
        while ((option = getopt_long(argc, argv, "h", options, &index)) != -1) {
                if (option == OPTION_VERB)
                        add_argument(request, options[index].name, optarg);
                else if (option == OPTION_ROOT)
                        request->root = optarg;
                else if (option == OPTION_SOCKET)
                        request->socket = optarg;
                else if (option == OPTION_JSON)
                        request->json = true;
                else if (option == OPTION_HELP || option == 'h')
                        request->help = true;
                else
                        return complain(-EINVAL, "try --help");
        }
        return 0;
}

static int check_options(const struct ctl_request *request) {
        for (size_t i = 0; i < request->n_used; i++) {
                bool allowed = false;

                for (size_t j = 0; j < OPTIONS_PER_VERB && request->verb->options[j]; j++)
                        allowed = allowed || text_equal(request->verb->options[j], request->used[i]);
                if (!allowed)
                        return complain(-EINVAL, "%s takes no --%s; try --help", request->verb->name, request->used[i]);
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
        int n_allowed = 1, r = 0;

        request->verb = find_verb(n_words > 0 ? words[0] : "status");
        if (!request->verb)
                return complain(-EINVAL, "there is no verb '%s'; try --help", words[0]);
        if (request->verb->takes_state) {
                r = parse_state(request, n_words > 1 ? words[1] : NULL);
                n_allowed = 2;
        }
        if (r == 0 && n_words > n_allowed)
                return complain(-EINVAL, "%s takes no argument '%s'; try --help", request->verb->name,
                                words[n_allowed]);
        return r < 0 ? r : check_options(request);
}

static int parse(int argc, char **argv, struct ctl_request *request) {
        int r = parse_options(argc, argv, request);

        if (r < 0 || request->help)
                return r;
        r = parse_words(argc - optind, argv + optind, request);
        if (r == 0 && !request->root == !request->socket)
                return complain(-EINVAL, "which simulator? give --root DIR or --socket PATH; try --help");
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

/* Returns the answer, a new reference, or NULL when the simulator went away. */
static json_t *exchange(FILE *stream, json_t *arguments) {
        CLEANUP(free_ptr) char *line = NULL;
        size_t size = 0;

        if (json_dumpf(arguments, stream, JSON_COMPACT) < 0 || fputc('\n', stream) < 0 || fflush(stream) < 0)
                return NULL;
        return getline(&line, &size, stream) > 0 ? json_loads(line, 0, NULL) : NULL;
}

static void free_json(json_t **json) {
        json_decref(*json);
}

static void close_stream(FILE **stream) {
        if (*stream)
                (void)fclose(*stream);
}

static int show(const struct ctl_request *request, json_t *answer) {
        json_t *result = json_object_get(answer, "result");
        const char *error = json_string_value(json_object_get(answer, "error"));

        if (!json_is_true(json_object_get(answer, "ok")))
                return complain(EXIT_FAILURE, "%s", error ? error : "the simulator's answer makes no sense");
        if (!request->json)
                request->verb->print(result);
        else if (json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) == 0)
                putchar('\n');
        return EXIT_SUCCESS;
}

static int run(struct ctl_request *request) {
        CLEANUP(close_stream) FILE *stream = NULL;
        CLEANUP(free_json) json_t *answer = NULL;
        CLEANUP(fd_done) int fd = connect_simulator(request);

        if (fd < 0)
                return EXIT_FAILURE;
        stream = fdopen(fd, "r+");
        if (!stream)
                return complain(EXIT_FAILURE, "%s", strerror(errno));
        fd = -1; /* the stream's from here on */
        (void)json_object_set_new(request->arguments, "verb", json_string(request->verb->name));
        answer = exchange(stream, request->arguments);
        if (!answer)
                return complain(EXIT_FAILURE, "the simulator went away before it answered");
        return show(request, answer);
}

int ctl_main(int argc, char **argv) {
        CLEANUP(free_json) json_t *arguments = json_object();
        struct ctl_request request = {.arguments = arguments};

        if (parse(argc, argv, &request) < 0)
                return EXIT_MISUSE;
        if (!request.help)
                return run(&request);
        print_help();
        return EXIT_SUCCESS;
}
