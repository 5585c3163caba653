/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/exec/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/options.h"
#include "base/standard.h"
#include "base/text.h"
#include "sim/exec/node.h"

enum {
        EXIT_MISUSE = 2,
        EXIT_NOT_RUNNABLE = 126,
        EXIT_NOT_FOUND = 127,
        EXIT_SIGNAL = 128,
};

#define PRELOADED "libholdfast-sim-stat.so"

/* For processes that COMMAND leaves behind. */
#define AGAIN_USEC (1 * USEC_PER_SEC) /* then signal again: children of ended processes have become ours */
#define LEFT_USEC (6 * USEC_PER_SEC)  /* until they are killed: a daemon may wait 4.5 s for the driver */

struct exec_options {
        const char *root; /* of a running simulator; NULL: start one */
        const char *gpus;
        const char *scenario;
        const char *temporary; /* TMPDIR */
        const char *preloaded; /* LD_PRELOAD for the command */
        char **command;
};

/* Folder and process of the simulator that this program started, if any. */
struct own {
        char folder[PATH_MAX];
        pid_t pid;
        bool misused; /* the simulator refused its options */
};

#define complain(...) standard_complain("holdfast-sim", __VA_ARGS__)

/* ---- the simulator that this program starts ---- */

/* Waits for the end of the simulator. Returns its exit status, or -1 if a signal ended it. */
static int reap_simulator(struct own *own) {
        int status = 0;

        while (waitpid(own->pid, &status, 0) < 0 && errno == EINTR)
                ;
        own->pid = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void end_own(struct own *own) {
        if (own->pid > 0) {
                (void)kill(own->pid, SIGTERM);
                (void)reap_simulator(own);
        }
        if (own->folder[0] != '\0') {
                (void)umount2(own->folder, MNT_DETACH);
                (void)rmdir(own->folder);
        }
}

/* Runs in the child. It gets no signals from the terminal, and ends with its parent. */
static void become_simulator(const struct own *own, const struct exec_options *options, int ready_fd) {
        const char *arguments[9] = {"holdfast-sim", "run", "--root", own->folder};
        size_t n = 4;

        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (options->gpus) {
                arguments[n++] = "--gpus";
                arguments[n++] = options->gpus;
        }
        if (options->scenario) {
                arguments[n++] = "--scenario";
                arguments[n++] = options->scenario;
        }
        if (dup2(ready_fd, STDOUT_FILENO) >= 0)
                (void)execv("/proc/self/exe", (char **)arguments);
        _exit(complain(EXIT_FAILURE, "cannot start the simulator: %s", strerror(errno)));
}

/* The simulator itself prints why it failed. */
static int start_own(struct own *own, const struct exec_options *options) {
        CLEANUP(fd_done) int read_end = -1, write_end = -1;
        const char *folder = options->temporary;
        char word[sizeof("ready")] = "";
        int ends[2], r;

        if (!folder || folder[0] == '\0')
                folder = "/tmp";
        r = text_format(own->folder, sizeof(own->folder), "%s/holdfast-sim-XXXXXX", folder);
        if (r == 0 && !mkdtemp(own->folder))
                r = -errno;
        if (r < 0) {
                own->folder[0] = '\0';
                return complain(r, "cannot create a folder in %s: %s", folder, strerror(-r));
        }
        /* A separate file system, by which `holdfast doctor` distinguishes this node's socket from that of another
         * node. */
        if (mount("holdfast-sim", own->folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0)
                return complain(-errno, "cannot mount a tmpfs on %s: %s", own->folder, strerror(errno));
        if (pipe2(ends, O_CLOEXEC) < 0)
                return complain(-errno, "cannot start the simulator: %s", strerror(errno));
        read_end = ends[0];
        write_end = ends[1];
        own->pid = fork();
        if (own->pid == 0)
                become_simulator(own, options, write_end);
        if (own->pid < 0)
                return complain(-errno, "cannot start the simulator: %s", strerror(errno));
        write_end = fd_close(write_end);
        if (read(read_end, word, sizeof(word)) > 0)
                return 0;
        own->misused = reap_simulator(own) == EXIT_MISUSE;
        return -ECHILD;
}

/* ---- the node ---- */

/* The library is beside the program, as in a build folder, or installed. */
static int find_preloaded(char path[static PATH_MAX]) {
        ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - sizeof("/exec/" PRELOADED));

        if (length < 0)
                return -errno;
        path[length] = '\0';
        (void)strcpy(strrchr(path, '/'), "/exec/" PRELOADED);
        if (access(path, R_OK) == 0)
                return 0;
        return access(HOLDFAST_SIM_LIBDIR "/" PRELOADED, R_OK) == 0 &&
                               text_copy(path, PATH_MAX, HOLDFAST_SIM_LIBDIR "/" PRELOADED)
                       ? 0
                       : -ENOENT;
}

static int set_environment(const char *nodes, const char *others) {
        char path[PATH_MAX], all[2 * PATH_MAX];

        if (find_preloaded(path) < 0)
                return complain(-ENOENT,
                                "there is neither %s nor " HOLDFAST_SIM_LIBDIR "/" PRELOADED
                                ": install the simulator as a whole",
                                path);
        if (text_format(all, sizeof(all), "%s%s%s", path, others ? ":" : "", others ? others : "") < 0)
                return complain(-ENAMETOOLONG, "LD_PRELOAD is too long");
        if (setenv("LD_PRELOAD", all, 1) < 0 || setenv("HOLDFAST_SIM_NODES", nodes, 1) < 0 ||
            setenv("HOLDFAST_ROOT", "/", 1) < 0)
                return complain(-ENOMEM, "out of memory");
        return 0;
}

static int enter_node(const char *root, const struct exec_options *options) {
        CLEANUP(free_ptr) char *nodes = NULL;
        const char *path = NULL;
        int r = node_describe(root, &nodes);

        if (r < 0 || nodes[0] == '\0')
                return complain(r < 0 ? r : -ENOENT, "no simulator serves %s; start one: holdfast-sim run --root %s",
                                root, root);
        r = node_mount(root, &path);
        if (r < 0)
                return complain(r, "cannot mount the simulator's files over %s: %s", path, strerror(-r));
        return set_environment(nodes, options->preloaded);
}

static int leave_namespace(const struct exec_options *options) {
        bool is_root = geteuid() == 0;
        int r;

        if (!options->root && access("/dev/fuse", R_OK | W_OK) < 0)
                return complain(-errno, "cannot use /dev/fuse: %s%s", strerror(errno),
                                is_root ? "; modprobe fuse" : "; run it as root");
        r = node_unshare();
        if (r < 0 && !is_root)
                return complain(r, "cannot create a user namespace: %s; run it as root, or permit user namespaces",
                                strerror(-r));
        return r < 0 ? complain(r, "cannot create a mount namespace: %s", strerror(-r)) : 0;
}

/* ---- the command ---- */

static int run_command(char **command) {
        (void)execvp(command[0], command);
        return complain(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE, "cannot run %s: %s", command[0],
                        strerror(errno));
}

/* A terminal signals its whole process group, which includes the command. Other signals reach only this process, so
 * pass them on. */
static void pass_on(const siginfo_t *info, pid_t child) {
        if (info->si_code != SI_KERNEL)
                (void)kill(child, info->si_signo);
}

/* Reaps every child that has ended, including processes that COMMAND left behind. Returns whether `child` was among
 * them. */
static bool reap(struct own *own, pid_t child, int *ret_status) {
        bool ended = false;
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid == own->pid)
                        own->pid = 0;
                if (pid != child)
                        continue;
                ended = true;
                *ret_status = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
        }
        return ended;
}

static int wait_for(pid_t child, struct own *own, const sigset_t *signals) {
        siginfo_t info;
        int status;

        for (;;) {
                if (sigwaitinfo(signals, &info) < 0)
                        continue;
                if (info.si_signo != SIGCHLD)
                        pass_on(&info, child);
                else if (reap(own, child, &status))
                        return status;
        }
}

/* Sends the signal to each child except the simulator. Returns the number of these children. */
static size_t signal_left(const struct own *own, int number) {
        char text[16384], *rest = text;
        size_t n = 0;

        if (file_read("/proc/thread-self/children", text, sizeof(text)) < 0)
                return 0;
        for (char *word; (word = strsep(&rest, " \n"));) {
                pid_t pid = (pid_t)strtol(word, NULL, 10);

                if (pid <= 0 || pid == own->pid)
                        continue;
                (void)kill(pid, number);
                n++;
        }
        return n;
}

/* Waits until a child has ended; SIGCHLD is blocked. Returns false if the time is up first. */
static bool wait_child(uint64_t until_usec) {
        const struct timespec limit = clock_timespec(clock_left_usec(until_usec));
        sigset_t signals;

        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGCHLD);
        return sigtimedwait(&signals, NULL, &limit) == SIGCHLD;
}

/* Ends all processes that COMMAND left behind, such as daemons, because their GPUs will disappear. When a process ends,
 * its children become ours and are ended next. */
static void end_left(struct own *own) {
        uint64_t start_usec = clock_monotonic_usec();
        int status;

        (void)reap(own, -1, &status);
        while (signal_left(own, clock_monotonic_usec() - start_usec < LEFT_USEC ? SIGTERM : SIGKILL) > 0) {
                uint64_t until_usec = clock_monotonic_usec() + AGAIN_USEC;

                while (signal_left(own, 0) > 0 && wait_child(until_usec))
                        (void)reap(own, -1, &status);
        }
}

static int run_child(char **command, struct own *own) {
        static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
        sigset_t signals, saved;
        pid_t child;

        (void)sigemptyset(&signals);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                (void)sigaddset(&signals, numbers[i]);
        (void)sigprocmask(SIG_BLOCK, &signals, &saved);
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        child = fork();
        if (child == 0) {
                (void)sigprocmask(SIG_SETMASK, &saved, NULL);
                _exit(run_command(command));
        }
        return child < 0 ? complain(EXIT_FAILURE, "cannot start %s: %s", command[0], strerror(errno))
                         : wait_for(child, own, &signals);
}

static int run_with_own(const struct exec_options *options) {
        struct own own = {0};
        int status = EXIT_FAILURE;

        if (start_own(&own, options) == 0 && enter_node(own.folder, options) == 0)
                status = run_child(options->command, &own);
        end_left(&own);
        end_own(&own);
        return own.misused ? EXIT_MISUSE : status;
}

/* ---- the command line ---- */

#define TEXT(member) .kind = OPTION_TEXT, .offset = offsetof(struct exec_options, member)

static const struct option_spec table[] = {
        {"root", 0, "DIR",
         "use the running simulator at DIR (holdfast-sim run --root DIR); several exec calls with the same DIR share "
         "its GPUs. Without this option, exec starts its own simulator, and ends it when COMMAND ends, "
         "together with all processes that COMMAND left behind",
         TEXT(root)},
        {"gpus", 0, "N", "how many GPUs (8)", TEXT(gpus)},
        {"scenario", 0, "FILE", "which GPUs, and how they behave (docs/simulator.md)", TEXT(scenario)},
        {"help", 'h', .help = "print this", .kind = OPTION_STOP},
        {0},
};

static int print_help(void) {
        puts("Usage: holdfast-sim exec [--root DIR | [--gpus N] [--scenario FILE]]\n"
             "                         -- COMMAND [ARGUMENT...]\n"
             "\n"
             "Runs COMMAND on a node with simulated GPUs: only COMMAND sees the simulator's\n"
             "/dev/nvidia*, /proc/driver/nvidia, /proc/devices, /sys/bus/pci and\n"
             "/run/nvidia-persistenced. Without root this needs user namespaces.\n");
        options_print_help(stdout, table);
        puts("\nExit status: COMMAND's own, or 128 plus the number of the signal that ended it;\n"
             "127 COMMAND is not found, 126 it cannot be run, 1 the node cannot be made,\n"
             "2 wrong usage.");
        return EXIT_SUCCESS;
}

/* Returns 0, positive if --help was given, or -EINVAL after printing what is wrong. */
static int parse_options(int argc, char **argv, struct exec_options *options) {
        struct options_parser parser = {.groups = {{table, options}}, .takes_beginnings = true, .stop_at_word = true};
        int n_words, r;

        r = options_parse(&parser, argv + 1, argc - 1, &n_words);
        if (r != 0)
                return r < 0 ? complain(r, "%s (try holdfast-sim exec --help)", parser.error) : r;
        if (options->root && (options->gpus || options->scenario))
                return complain(
                        -EINVAL,
                        "the simulator of --root already has its GPUs; leave out --gpus and --scenario, or --root");
        if (n_words == 0)
                return complain(-EINVAL, "a command is missing, as in: holdfast-sim exec -- bash");
        options->command = argv + 1;
        return 0;
}

int exec_main(int argc, char **argv) {
        struct exec_options options = {.temporary = getenv("TMPDIR"), .preloaded = getenv("LD_PRELOAD")};
        int r = parse_options(argc, argv, &options);

        if (r != 0)
                return r > 0 ? print_help() : EXIT_MISUSE;
        if (leave_namespace(&options) < 0)
                return EXIT_FAILURE;
        if (!options.root)
                return run_with_own(&options);
        return enter_node(options.root, &options) < 0 ? EXIT_FAILURE : run_command(options.command);
}
