/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/locations.h"
#include "base/text.h"
#include "gpu/backend.h"

static const char program[] = "nvidia-persistenced";

enum option_id {
        OPTION_VERSION = 'v',
        OPTION_HELP = 'h',
        OPTION_VERBOSE = 'V',
        OPTION_USER = 'u',
        OPTION_GROUP = 'g',
        OPTION_FOREGROUND = 'f',
        OPTION_PERSISTENCE = 256,
        OPTION_NO_PERSISTENCE,
        OPTION_UVM,
        OPTION_NO_UVM,
        OPTION_NVIDIA_CFG_PATH,
        OPTION_BACKEND,
        OPTION_ROOT,
        OPTION_STUCK_TIMEOUT,
        OPTION_REQUIRE_GPU,
        OPTION_FD_STORE,
        OPTION_KEEPER,
        OPTION_KEEPER_FROM,
        OPTION_KEEPER_TIMEOUT,
        OPTION_KEEP_SOCKET,
        OPTION_NO_SANDBOX,
        OPTION_ADMIN_GROUP,
        OPTION_ALLOW_CONTAINERS,
        OPTION_CONFIG,
        OPTION_CHECK_CONFIG,
        OPTION_MAKE_NODES,
        OPTION_PASS_KERNEL_LOG,
};

static const struct {
        enum option_id id;
        const char *name;
        const char *argument; /* "[NAME]": may be left out */
        const char *help;
} table[] = {
        {OPTION_VERSION, "version", NULL, "print the version and exit"},
        {OPTION_HELP, "help", NULL, "print this and exit"},
        {OPTION_VERBOSE, "verbose", NULL, "log what happens to each GPU, not only warnings and errors"},
        {OPTION_USER, "user", "USERNAME", "run as this user; it must be able to write to the runtime directory"},
        {OPTION_GROUP, "group", "GROUPNAME", "run with this group; otherwise the primary group of --user"},
        {OPTION_PERSISTENCE, "persistence-mode", NULL, "hold all GPUs from the start (the default)"},
        {OPTION_NO_PERSISTENCE, "no-persistence-mode", NULL, "hold none until asked to, GPU by GPU"},
        {OPTION_UVM, "uvm-persistence-mode", NULL, "keep UVM's state of each held GPU as well (blocks runtime D3)"},
        {OPTION_NO_UVM, "no-uvm-persistence-mode", NULL, "do not (the default)"},
        {OPTION_NVIDIA_CFG_PATH, "nvidia-cfg-path", "PATH",
         "hold GPUs through libnvidia-cfg.so.1 in this folder (--backend=nvidia-cfg)"},
        {OPTION_BACKEND, "backend", "NAME", "how GPUs are held: kernel (the default) or nvidia-cfg"},
        {OPTION_FOREGROUND, "foreground", NULL,
         "stay in the foreground and log to standard error; also when NOTIFY_SOCKET is set"},
        {OPTION_ROOT, "root", "DIR",
         "look for /dev, /proc, /sys and /run below DIR (a simulated driver, a driver root)"},
        {OPTION_STUCK_TIMEOUT, "stuck-timeout", "SECONDS",
         "report a GPU that the driver does not answer for within so long (45)"},
        {OPTION_REQUIRE_GPU, "require-gpu", NULL, "fail when there is no GPU at the start, instead of waiting for one"},
        {OPTION_KEEPER_FROM, "keeper-from", "WHICH",
         "auto (the default): the keeper at /run/holdfast/keeper, or one that is forked; socket: only the former; "
         "none"},
        {OPTION_KEEPER_TIMEOUT, "keeper-timeout", "SECONDS",
         "how long the keeper waits for the next daemon before it releases the GPUs (60)"},
        {OPTION_KEEPER, "keeper", NULL, "be the keeper: hold copies of a daemon's descriptors while it restarts"},
        {OPTION_FD_STORE, "fd-store", NULL, "accepted and ignored: the keeper does what this did in version 0.1.0"},
        {OPTION_KEEP_SOCKET, "keep-socket", NULL, "leave the socket's path at the end, for containers that mount it"},
        {OPTION_NO_SANDBOX, "no-sandbox", NULL, "do without the filter of system calls"},
        {OPTION_ADMIN_GROUP, "admin-group", "GROUPNAME", "let members of this group change persistence, besides root"},
        {OPTION_ALLOW_CONTAINERS, "allow-containers", NULL, "let root of other PID namespaces do so as well"},
        {OPTION_CONFIG, "config", "FILE", "read this configuration instead of /etc/holdfast/holdfast.conf"},
        {OPTION_CHECK_CONFIG, "check-config", NULL, "say whether the configuration is right, and exit 0 or 1"},
        {OPTION_MAKE_NODES, "make-nodes", "[GPU|uvm]",
         "make the device nodes that are missing (of this GPU, of UVM), as root, and exit 0 or 1"},
        {OPTION_PASS_KERNEL_LOG, "pass-kernel-log", NULL,
         "as root, before the daemon: leave the kernel log with systemd for it, and exit"},
};

static bool is_optional(const char *argument) {
        return argument && argument[0] == '[';
}

/* "--root=DIR", "--make-nodes[=WHAT]" */
static void format_name(char *buffer, size_t size, const char *name, const char *argument) {
        if (!argument)
                (void)text_format(buffer, size, "--%s", name);
        else if (is_optional(argument))
                (void)text_format(buffer, size, "--%s[=%s", name, argument + 1);
        else
                (void)text_format(buffer, size, "--%s=%s", name, argument);
}

static void print_help(void) {
        printf("Usage: %s [OPTION]...\n\nKeeps NVIDIA GPUs initialised while no client uses them, by holding them "
               "open.\n\n",
               program);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                char name[48], letter[8] = "    ";

                if (table[i].id < 256)
                        (void)text_format(letter, sizeof(letter), "-%c, ", table[i].id);
                format_name(name, sizeof(name), table[i].name, table[i].argument);
                printf("  %s%-28s %s\n", letter, name, table[i].help);
        }
        printf("\nExit status: 0 running (or stopped in order), 1 could not start, 2 wrong usage.\n"
               "Signals: TERM and INT release every GPU and end the daemon; USR1 ends it and leaves the GPUs with the "
               "keeper\n"
               "for the next daemon. HUP reads the configuration again.\n"
               "Socket and pid file: /var/run/nvidia-persistenced/. See also: holdfast(1), holdfast.conf(5).\n");
}

static int refuse(const char *what, const char *argument, const char *why) {
        fprintf(stderr, "%s: %s '%s'%s; see %s --help\n", program, what, argument, why, program);
        return -EINVAL;
}

static int set_root(struct options *options, const char *argument) {
        static char root[PATH_MAX];

        if (!realpath(argument, root)) {
                fprintf(stderr, "%s: --root %s: %s; give an existing directory, see %s --help\n", program, argument,
                        strerror(errno), program);
                return -EINVAL;
        }
        options->locations.root = root;
        return 0;
}

/*
 * --root, or else HOLDFAST_ROOT. The environment is not to send root's daemon to files of somebody else's: there it may
 * be "/" only, which names no other place.
 */
static int choose_locations(struct options *options, const char *variable) {
        bool at_real_paths = variable && text_equal(variable, "/");

        if (!options->locations.root && !at_real_paths && variable && variable[0] != '\0') {
                if (geteuid() == 0)
                        return refuse("HOLDFAST_ROOT", variable, " is not taken from root's environment: give --root");
                if (set_root(options, variable) < 0)
                        return -EINVAL;
        }
        options->locations = locations_of(options->locations.root, at_real_paths);
        return 0;
}

/* Absolute, for a daemon leaves its folder; but not resolved: on SIGHUP a link may lead to another file. */
static int set_config(struct options *options, const char *argument) {
        static char config[PATH_MAX];
        char folder[PATH_MAX] = "";

        if (argument[0] != '/' && !getcwd(folder, sizeof(folder)))
                return refuse("--config", argument, " cannot be found from a folder that is gone");
        if (text_format(config, sizeof(config), "%s%s%s", folder, folder[0] == '\0' ? "" : "/", argument) < 0)
                return refuse("--config", argument, " is too long for a path");
        options->config = config;
        return 0;
}

static int set_stuck_timeout(struct options *options, const char *argument) {
        uint64_t seconds;

        if (text_parse_u64(argument, 10, 86400, &seconds) < 0 || seconds == 0)
                return refuse("--stuck-timeout", argument, " is not a number of seconds from 1 to 86400");
        options->stuck_sec = (unsigned)seconds;
        return 0;
}

static int set_keeper_timeout(struct options *options, const char *argument) {
        uint64_t seconds;

        if (text_parse_u64(argument, 10, 86400, &seconds) < 0 || seconds == 0)
                return refuse("--keeper-timeout", argument, " is not a number of seconds from 1 to 86400");
        options->keeper_sec = (unsigned)seconds;
        return 0;
}

static int set_keeper_from(struct options *options, const char *argument) {
        static const char *const names[] = {
                [KEEPER_AUTO] = "auto",
                [KEEPER_SOCKET] = "socket",
                [KEEPER_NONE] = "none",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (text_equal(names[i], argument)) {
                        options->keeper_from = (enum keeper_choice)i;
                        return 0;
                }
        return refuse("--keeper-from", argument, " is neither auto nor socket nor none");
}

static int set_backend(struct options *options, const char *argument) {
        if (!gpu_ops_find(argument))
                return refuse("--backend", argument, " is neither kernel nor nvidia-cfg");
        options->backend = argument;
        return 0;
}

static int set_nodes(struct options *options, const char *argument) {
        options->make_nodes = true;
        if (!argument)
                options->nodes.kind = NODES_ALL;
        else if (text_equal(argument, "uvm"))
                options->nodes.kind = NODES_OF_UVM;
        else if (pci_address_parse(argument, &options->nodes.gpu) == 0)
                options->nodes.kind = NODES_OF_GPU;
        else
                return refuse("--make-nodes", argument, " is neither a GPU's PCI address nor uvm");
        return 0;
}

/* The options without an argument. */
static void set_flag(struct options *options, int id) {
        switch (id) {
        case OPTION_VERBOSE:
                options->verbose = true;
                break;
        case OPTION_FOREGROUND:
                options->foreground = true;
                break;
        case OPTION_REQUIRE_GPU:
                options->require_gpu = true;
                break;
        case OPTION_KEEPER:
                options->keeper = true;
                break;
        case OPTION_KEEP_SOCKET:
                options->keep_socket = true;
                break;
        case OPTION_NO_SANDBOX:
                options->sandbox = false;
                break;
        case OPTION_ALLOW_CONTAINERS:
                options->allow_containers = true;
                break;
        case OPTION_CHECK_CONFIG:
                options->check_config = true;
                break;
        case OPTION_PASS_KERNEL_LOG:
                options->pass_kernel_log = true;
                break;
        case OPTION_PERSISTENCE:
        case OPTION_NO_PERSISTENCE:
                options->persistence = id == OPTION_PERSISTENCE;
                break;
        case OPTION_UVM:
        case OPTION_NO_UVM:
                options->uvm = id == OPTION_UVM;
                break;
        default:
                break;
        }
}

static int set_option(struct options *options, int id, const char *argument) {
        switch (id) {
        case OPTION_VERSION:
                printf("%s:  version %s (Holdfast)\n", program, HOLDFAST_VERSION);
                return OPTIONS_DONE;
        case OPTION_HELP:
                print_help();
                return OPTIONS_DONE;
        case OPTION_USER:
                options->user = argument;
                break;
        case OPTION_GROUP:
                options->group = argument;
                break;
        case OPTION_NVIDIA_CFG_PATH:
                options->nvidia_cfg_path = argument;
                break;
        case OPTION_BACKEND:
                return set_backend(options, argument);
        case OPTION_ROOT:
                return set_root(options, argument);
        case OPTION_ADMIN_GROUP:
                options->admin_group = argument;
                break;
        case OPTION_CONFIG:
                return set_config(options, argument);
        case OPTION_KEEPER_FROM:
                return set_keeper_from(options, argument);
        case OPTION_KEEPER_TIMEOUT:
                return set_keeper_timeout(options, argument);
        case OPTION_STUCK_TIMEOUT:
                return set_stuck_timeout(options, argument);
        case OPTION_MAKE_NODES:
                return set_nodes(options, argument);
        default:
                set_flag(options, id);
                break;
        }
        return OPTIONS_OK;
}

static int kind_of(const char *argument) {
        if (!argument)
                return no_argument;
        return is_optional(argument) ? optional_argument : required_argument;
}

/* getopt's two views of the table. letters has room for ":", and a letter and a colon each. */
static void fill_getopt(struct option *long_options, char *letters) {
        *letters++ = ':';
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                long_options[i] = (struct option){
                        .name = table[i].name,
                        .has_arg = kind_of(table[i].argument),
                        .val = table[i].id,
                };
                if (table[i].id >= 256)
                        continue;
                *letters++ = (char)table[i].id;
                if (table[i].argument)
                        *letters++ = ':';
        }
        *letters = '\0';
        long_options[ARRAY_SIZE(table)] = (struct option){0};
}

int options_parse(int argc, char *argv[], const struct environment *environment, struct options *ret_options) {
        struct option long_options[ARRAY_SIZE(table) + 1];
        char letters[2 * ARRAY_SIZE(table) + 2];
        struct options options = {
                .environment = environment,
                .persistence = true,
                .stuck_sec = 45,
                .sandbox = true,
        };
        int id, r;

        fill_getopt(long_options, letters);
        opterr = 0;
        while ((id = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
                if (id == '?')
                        return refuse("unknown option", argv[optind - 1], "");
                if (id == ':')
                        return refuse("option", argv[optind - 1], " needs an argument");
                r = set_option(&options, id, optarg);
                if (r != OPTIONS_OK)
                        return r;
        }
        if (optind < argc)
                return refuse("unexpected argument", argv[optind], "");
        if (!options.backend)
                options.backend = options.nvidia_cfg_path ? "nvidia-cfg" : "kernel";
        if (environment->notify_socket) /* a unit of Type=notify, whatever its ExecStart says: forking would break it */
                options.foreground = true;
        if (choose_locations(&options, environment->root) < 0)
                return -EINVAL;
        if (argc > 1) {
                options.arguments = argv[1];
                options.arguments_size = (size_t)(argv[argc - 1] - argv[1]) + strlen(argv[argc - 1]) + 1;
        }
        *ret_options = options;
        return OPTIONS_OK;
}
