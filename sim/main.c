/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast-sim: the simulated NVIDIA driver. `run` serves it, `ctl` queries and controls a running one, `exec` runs a
 * command with simulated GPUs. */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/options.h"
#include "base/standard.h"
#include "base/text.h"
#include "sim/control/ctl.h"
#include "sim/control/server.h"
#include "sim/exec/exec.h"
#include "sim/fronts/cuse.h"
#include "sim/fronts/fuse.h"
#include "sim/fronts/mount.h"
#include "sim/fronts/uevents.h"
#include "sim/model/model.h"
#include "sim/tree/kernel_log.h"

enum { GPUS_DEFAULT = 8, EXIT_MISUSE = 2 };

struct run_options {
        const char *root;
        const char *socket;
        const char *scenario;
        uint64_t n_gpus;
        bool cuse;
};

/* The running parts, in the order of their start. */
struct simulator {
        struct model *model;
        struct fuse_front *front;
        struct cuse_front *devices;
        struct control_server *server;
        struct uevents *uevents;
        int run_fd;
        struct kernel_log *kernel_log;
};

#define complain(...) standard_complain("holdfast-sim", __VA_ARGS__)

/* ---- what `run` starts and stops ---- */

static int read_scenario(const struct run_options *options, struct scenario *scenario) {
        char error[512];
        int r;

        scenario_default(scenario, options->n_gpus);
        if (!options->scenario)
                return 0;
        r = scenario_read(scenario, options->scenario, error, sizeof(error));
        if (r == -EINVAL)
                return complain(r, "%s", error);
        if (r < 0)
                return complain(r, "cannot read the scenario %s: %s", options->scenario, strerror(-r));
        return 0;
}

static int start_model(struct simulator *simulator, const struct run_options *options) {
        CLEANUP(free_ptr) struct scenario *scenario = malloc(sizeof(*scenario));
        int r;

        if (!scenario)
                return complain(-ENOMEM, "out of memory");
        r = read_scenario(options, scenario);
        if (r < 0)
                return r;
        r = model_new(&simulator->model, scenario);
        if (r == 0)
                r = server_new(&simulator->server, simulator->model);
        return r < 0 ? complain(r, "cannot start the model: %s", strerror(-r)) : 0;
}

static int listen_at(struct simulator *simulator, const char *path) {
        int r = server_listen(simulator->server, path);

        if (r == -EADDRINUSE)
                return complain(r, "another simulator serves %s; stop it, or choose another path", path);
        if (r < 0)
                return complain(r, "cannot listen at %s: %s", path, strerror(-r));
        return 0;
}

static int check_fuse(const char *root) {
        if (geteuid() != 0)
                return complain(-EPERM, "--root mounts a file system, which needs root; "
                                        "without it use --socket PATH and the nvidia-cfg library");
        if (access("/dev/fuse", R_OK | W_OK) < 0)
                return complain(-errno, "cannot use /dev/fuse: %s; use --socket PATH and the nvidia-cfg library",
                                strerror(errno));
        return 0;
}

static int prepare_root(struct simulator *simulator, const char *root) {
        int r = check_fuse(root);

        if (r < 0)
                return r;
        r = mount_prepare(root, &simulator->run_fd);
        if (r == -EBUSY)
                return complain(r, "another simulator serves %s; stop it, or choose another folder", root);
        if (r < 0)
                return complain(r, "cannot prepare %s: %s", root, strerror(-r));
        return 0;
}

static int listen_in_run(struct simulator *simulator, const char *root) {
        char path[PATH_MAX];
        char *last;

        if (file_rooted(path, root, SERVER_DEFAULT_SOCKET) < 0)
                return complain(-ENAMETOOLONG, "the path %s is too long", root);
        last = strrchr(path, '/');
        *last = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return complain(-errno, "cannot create %s: %s", path, strerror(errno));
        *last = '/';
        return listen_at(simulator, path);
}

static int start_front(struct simulator *simulator, const char *root) {
        int r = prepare_root(simulator, root);

        if (r < 0)
                return r;
        r = fuse_front_start(&simulator->front, simulator->model, root);
        if (r < 0)
                return complain(r, "cannot mount at %s: %s", root, strerror(-r));
        r = mount_show_run(root, simulator->run_fd);
        if (r < 0)
                return complain(r, "cannot mount %s/run: %s", root, strerror(-r));
        r = listen_in_run(simulator, root);
        if (r < 0)
                return r;
        r = uevents_new(&simulator->uevents, simulator->model, simulator->run_fd);
        if (r < 0)
                return complain(r, "cannot send uevents: %s", strerror(-r));
        r = kernel_log_new(&simulator->kernel_log, simulator->model, simulator->run_fd);
        if (r < 0)
                return complain(r, "cannot create the kernel log: %s", strerror(-r));
        uevents_send_loaded(simulator->uevents);
        return 0;
}

static int start_devices(struct simulator *simulator) {
        int r = cuse_front_start(&simulator->devices, fuse_front_devices(simulator->front),
                                 model_scenario(simulator->model)->n_gpus);

        if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
                return complain(r, "cannot use /dev/cuse: %s; --cuse needs a kernel with CONFIG_CUSE: modprobe cuse",
                                strerror(-r));
        if (r == -EBUSY)
                return complain(r, "cannot create the character devices 195:N: another driver has these numbers; "
                                   "unload it, or leave out --cuse");
        if (r < 0)
                return complain(r, "cannot create the character devices /dev/nvidia*: %s", strerror(-r));
        return 0;
}

static int start(struct simulator *simulator, const struct run_options *options) {
        int r = start_model(simulator, options);

        if (r == 0 && options->root)
                r = start_front(simulator, options->root);
        if (r == 0 && options->cuse)
                r = start_devices(simulator);
        if (r == 0 && options->socket)
                r = listen_at(simulator, options->socket);
        return r;
}

static void stop(struct simulator *simulator) {
        if (simulator->model)
                model_stop(simulator->model);
        server_free(simulator->server);
        uevents_free(simulator->uevents);
        kernel_log_free(simulator->kernel_log);
        cuse_front_stop(simulator->devices);
        fuse_front_stop(simulator->front);
        cuse_front_free(simulator->devices);
        if (simulator->model)
                model_free(simulator->model);
        (void)fd_close(simulator->run_fd);
}

/* The main thread waits for signals with sigwait(), so there are no signal handlers. */
static void block_signals(sigset_t *ret_signals) {
        (void)sigemptyset(ret_signals);
        (void)sigaddset(ret_signals, SIGTERM);
        (void)sigaddset(ret_signals, SIGINT);
        (void)pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
}

static int run(const struct run_options *options) {
        struct simulator simulator = {.run_fd = -1};
        sigset_t signals;
        int r, taken;

        block_signals(&signals);
        (void)umask(022);
        r = start(&simulator, options);
        if (r == 0) {
                puts("ready");
                (void)fflush(stdout);
                (void)sigwait(&signals, &taken);
        }
        stop(&simulator);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the command line ---- */

#define AT(member) .offset = offsetof(struct run_options, member)

static const struct option_spec run_table[] = {
        {"root", 0, "DIR",
         "mount DIR/dev/nvidia*, DIR/proc/driver/nvidia, DIR/sys (needs root and /dev/fuse); the control socket is "
         "DIR/run/holdfast-sim/socket",
         .kind = OPTION_TEXT, AT(root)},
        {"cuse", .help = "also create real character devices /dev/nvidia* (needs /dev/cuse: modprobe cuse)", AT(cuse)},
        {"socket", 0, "PATH", "serve the simulated libnvidia-cfg.so.1 and ctl at PATH (needs no privileges)",
         .kind = OPTION_TEXT, AT(socket)},
        {"gpus", 0, "N", "number of GPUs (8)", .kind = OPTION_NUMBER, .minimum = 1, .maximum = SCENARIO_GPUS_MAX,
         AT(n_gpus)},
        {"scenario", 0, "FILE", "the GPUs and their behaviour (docs/simulator.md)", .kind = OPTION_TEXT, AT(scenario)},
        {"help", 'h', .help = "print this", .kind = OPTION_STOP},
        {0},
};

static int help_main(int argc, char **argv) {
        puts("Usage: holdfast-sim run (--root DIR [--cuse] | --socket PATH) [--gpus N]\n"
             "                        [--scenario FILE]\n"
             "       holdfast-sim ctl (--root DIR | --socket PATH) VERB [ARGUMENTS] [--json]\n"
             "       holdfast-sim exec [--root DIR | [--gpus N] [--scenario FILE]]\n"
             "                         -- COMMAND [ARGUMENT...]\n"
             "\n"
             "A simulated NVIDIA driver: GPUs that initialise at the first open and are torn\n"
             "down at the last close.\n"
             "\n"
             "run:");
        options_print_help(stdout, run_table);
        puts("  Prints `ready` when programs can use it. SIGTERM or SIGINT ends it.\n"
             "\n"
             "ctl: see `holdfast-sim ctl --help`.\n"
             "exec: see `holdfast-sim exec --help`.");
        return EXIT_SUCCESS;
}

/* Returns 0, positive if --help was given, or -EINVAL after printing what is wrong. */
static int parse_options(int argc, char **argv, struct run_options *options) {
        struct options_parser parser = {.groups = {{run_table, options}}, .takes_beginnings = true};
        int n_words, r;

        r = options_parse(&parser, argv + 1, argc - 1, &n_words);
        if (r != 0)
                return r < 0 ? complain(r, "%s (try --help)", parser.error) : r;
        if (n_words > 0)
                return complain(-EINVAL, "run takes no argument '%s'; try --help", argv[1]);
        if (!options->root && !options->socket)
                return complain(-EINVAL, "run needs --root DIR (as root, with FUSE) or --socket PATH; try --help");
        if (options->cuse && !options->root)
                return complain(-EINVAL, "--cuse needs --root DIR, which provides the files of /proc; try --help");
        return 0;
}

static int run_main(int argc, char **argv) {
        struct run_options options = {.n_gpus = GPUS_DEFAULT};
        int r = parse_options(argc, argv, &options);

        if (r < 0)
                return EXIT_MISUSE;
        return r > 0 ? help_main(argc, argv) : run(&options);
}

static int version_main(int argc, char **argv) {
        puts("holdfast-sim " HOLDFAST_VERSION);
        return EXIT_SUCCESS;
}

static const struct {
        const char *name;
        int (*main)(int argc, char **argv);
} commands[] = {
        /* clang-format off */
        {"run", run_main},
        {"ctl", ctl_main},
        {"exec", exec_main},
        {"--help", help_main},
        {"-h", help_main},
        {"--version", version_main},
        /* clang-format on */
};

static int run_command(int argc, char **argv) {
        if (argc < 2)
                return complain(EXIT_MISUSE, "a command is missing: run, ctl or exec; try --help");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (text_equal(argv[1], commands[i].name))
                        return commands[i].main(argc - 1, argv + 1);
        return complain(EXIT_MISUSE, "unknown command '%s'; the commands are run, ctl and exec; try --help", argv[1]);
}

int main(int argc, char **argv) {
        int status;

        standard_open();
        status = run_command(argc, argv);
        return standard_close_output("holdfast-sim") < 0 && status == EXIT_SUCCESS ? EXIT_FAILURE : status;
}
