/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/locations.h"
#include "base/options.h"
#include "base/standard.h"
#include "base/text.h"
#include "config/config.h"
#include "gpu/backend.h"

static const char program[] = "nvidia-persistenced";

/* ---- values ---- */

static int set_root(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value) {
        static char root[PATH_MAX];

        if (!realpath(value, root))
                return options_refuse(parser, spec, "%.80s: %s; give an existing directory", value, strerror(errno));
        *(const char **)member = root;
        return 0;
}

/*
 * Makes the path absolute, because the daemon changes its folder. Links are not resolved: on SIGHUP they may lead to
 * another file.
 */
static int set_config(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value) {
        static char config[PATH_MAX];
        char folder[PATH_MAX] = "";

        if (value[0] != '/' && !getcwd(folder, sizeof(folder)))
                return options_refuse(parser, spec, "'%.80s' cannot be found, because the current folder was removed",
                                      value);
        if (text_format(config, sizeof(config), "%s%s%s", folder, folder[0] == '\0' ? "" : "/", value) < 0)
                return options_refuse(parser, spec, "'%.80s...' is too long for a path", value);
        *(const char **)member = config;
        return 0;
}

static int set_backend(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value) {
        if (!gpu_ops_find(value))
                return options_refuse(parser, spec, "'%.80s' is neither kernel nor nvidia-cfg", value);
        *(const char **)member = value;
        return 0;
}

static int set_nodes(struct options_parser *parser, const struct option_spec *spec, void *member, const char *value) {
        struct options *options = member;

        options->make_nodes = true;
        if (!value)
                options->nodes.kind = NODES_ALL;
        else if (text_equal(value, "uvm"))
                options->nodes.kind = NODES_OF_UVM;
        else if (pci_address_parse(value, &options->nodes.gpu) == 0)
                options->nodes.kind = NODES_OF_GPU;
        else
                return options_refuse(parser, spec, "'%.80s' is neither a GPU's PCI address nor uvm", value);
        return 0;
}

/* ---- the table ---- */

static const char *const keeper_choices[] = {
        [KEEPER_AUTO] = "auto",
        [KEEPER_SOCKET] = "socket",
        [KEEPER_NONE] = "none",
        [KEEPER_NONE + 1] = NULL,
};

#define AT(member) .offset = offsetof(struct options, member)
#define TEXT .kind = OPTION_TEXT
#define OFF .kind = OPTION_OFF
#define WHOLE_SECONDS .kind = OPTION_NUMBER, .minimum = 1, .maximum = CONFIG_NUMBER_MAX
#define CALL(function) .kind = OPTION_CALL, .set = (function)

static const struct option_spec table[] = {
        {"version", 'v', .help = "print the version and exit", .kind = OPTION_STOP},
        {"help", 'h', .help = "print this help and exit", .kind = OPTION_STOP},
        {"verbose", 'V', .help = "log what happens to each GPU, not only warnings and errors", AT(verbose)},
        {"user", 'u', "USERNAME", "run as this user; it must be able to write to the runtime directory", TEXT,
         AT(user)},
        {"group", 'g', "GROUPNAME", "run with this group; otherwise the primary group of --user", TEXT, AT(group)},
        {"persistence-mode", .help = "hold all GPUs from the start (the default)", AT(persistence)},
        {"no-persistence-mode", .help = "hold a GPU only after a client has asked for it", OFF, AT(persistence)},
        {"uvm-persistence-mode", .help = "keep UVM's state of each held GPU as well (blocks runtime D3)", AT(uvm)},
        {"no-uvm-persistence-mode", .help = "do not keep UVM's state (the default)", OFF, AT(uvm)},
        {"nvidia-cfg-path", 0, "PATH",
         "hold GPUs through libnvidia-cfg.so.1 in this folder; implies --backend=nvidia-cfg", TEXT,
         AT(nvidia_cfg_path)},
        {"backend", 0, "NAME", "how to hold GPUs: kernel (the default) or nvidia-cfg", CALL(set_backend), AT(backend)},
        {"foreground", 'f',
         .help = "stay in the foreground and log to standard error; a set NOTIFY_SOCKET has the same effect",
         AT(foreground)},
        {"root", 0, "DIR", "use /dev, /proc, /sys and /run below DIR (of a simulated driver or a container)",
         CALL(set_root), AT(locations.root)},
        {"stuck-timeout", 0, "SECONDS", "report a GPU as stuck when a driver call takes longer than this (45)",
         WHOLE_SECONDS, AT(stuck_sec)},
        {"require-gpu", .help = "fail if there is no GPU at the start, instead of waiting for one", AT(require_gpu)},
        {"keeper-from", 0, "WHICH",
         "auto (the default): the keeper at /run/holdfast/keeper, or else one that the daemon forks; socket: only the "
         "keeper at that path; none: no keeper",
         .kind = OPTION_CHOICE, .choices = keeper_choices, AT(keeper_from)},
        {"keeper-timeout", 0, "SECONDS",
         "how long the keeper waits for the next daemon before it releases the GPUs (60)", WHOLE_SECONDS,
         AT(keeper_sec)},
        {"keeper", .help = "run as the keeper: hold copies of a daemon's descriptors while it restarts", AT(keeper)},
        {"fd-store", .help = "accepted and ignored; the keeper replaces this option of version 0.1.0", AT(fd_store)},
        {"keep-socket", .help = "leave the socket's path in place at the end, for containers that mount it",
         AT(keep_socket)},
        {"no-sandbox", .help = "run without the system call filter and without Landlock", OFF, AT(sandbox)},
        {"admin-group", 0, "GROUPNAME", "let members of this group change persistence, in addition to root", TEXT,
         AT(admin_group)},
        {"allow-containers", .help = "let root in other PID namespaces (containers) change persistence, too",
         AT(allow_containers)},
        {"config", 0, "FILE", "read this configuration instead of /etc/holdfast/holdfast.conf", CALL(set_config),
         AT(config)},
        {"check-config", .help = "check the configuration, and exit with 0 or 1", AT(check_config)},
        {"make-nodes", 0, "[GPU|uvm]",
         "as root: create missing device nodes (of this GPU, of UVM), and exit with 0 or 1", CALL(set_nodes)},
        {"pass-kernel-log",
         .help = "as root, before the daemon starts: open the kernel log, store the descriptor with systemd, and exit",
         AT(pass_kernel_log)},
        {0},
};

/* ---- the command line ---- */

static void print_version(void) {
        printf("%s:  version %s (Holdfast)\n", program, HOLDFAST_VERSION);
}

static void print_help(void) {
        printf("Usage: %s [OPTION]...\n\n"
               "Keeps NVIDIA GPUs initialised while no client uses them, by holding them open.\n\n",
               program);
        options_print_help(stdout, table);
        puts("\nExit status: 0 running (or stopped cleanly), 1 could not start, 2 wrong usage,\n"
             "4 a permission is missing, 6 the configuration is wrong.\n"
             "Signals: TERM and INT release every GPU and end the daemon; USR1 ends it and\n"
             "leaves the GPUs with the keeper for the next daemon. HUP reads the configuration\n"
             "again. Socket and pid file: /var/run/nvidia-persistenced/.\n"
             "See also: holdfast(1), holdfast.conf(5).");
}

static int refuse(const char *why) {
        return standard_complain(program, -EINVAL, "%s (see %s --help)", why, program);
}

/*
 * Uses --root, or else HOLDFAST_ROOT. For a daemon that runs as root, the variable may only be "/", the real paths: the
 * environment must not make it use files of another user.
 */
static int choose_locations(struct options *options, struct options_parser *parser, const char *variable) {
        static const struct option_spec spec = {.name = "root (from HOLDFAST_ROOT)"};
        bool at_real_paths = variable && text_equal(variable, "/");

        if (!options->locations.root && !at_real_paths && variable && variable[0] != '\0') {
                if (geteuid() == 0)
                        return refuse("HOLDFAST_ROOT is not accepted from root's environment; use --root instead");
                if (set_root(parser, &spec, &options->locations.root, variable) < 0)
                        return refuse(parser->error);
        }
        options->locations = locations_of(options->locations.root, at_real_paths);
        return 0;
}

int options_take(int argc, char *argv[], const struct environment *environment, struct options *ret_options) {
        struct options options = {
                .environment = environment,
                .persistence = true,
                .stuck_sec = 45,
                .sandbox = true,
        };
        struct options_parser parser = {.groups = {{table, &options}}, .takes_beginnings = true};
        int n_words, r;

        if (argc > 1) {
                options.arguments = argv[1];
                options.arguments_size = (size_t)(argv[argc - 1] - argv[1]) + strlen(argv[argc - 1]) + 1;
        }
        r = options_parse(&parser, argv + 1, argc - 1, &n_words);
        if (r < 0)
                return refuse(parser.error);
        if (r > 0) {
                (r == 'v' ? print_version : print_help)();
                return OPTIONS_DONE;
        }
        if (n_words > 0)
                return standard_complain(program, -EINVAL, "unexpected argument '%s' (see %s --help)", argv[1],
                                         program);
        if (!options.backend)
                options.backend = options.nvidia_cfg_path ? "nvidia-cfg" : "kernel";
        if (environment->notify_socket) /* a unit of Type=notify: forking would break it */
                options.foreground = true;
        if (choose_locations(&options, &parser, environment->root) < 0)
                return -EINVAL;
        *ret_options = options;
        return OPTIONS_OK;
}
