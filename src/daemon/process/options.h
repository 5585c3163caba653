#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The command line: the options of NVIDIA's daemon, unchanged, and ours. */

#include <stdbool.h>
#include <stdint.h>

#include "base/locations.h"
#include "daemon/manager/keeper_link.h"
#include "gpu/nodes.h"

/* What the environment says, which only main() reads. NULL: nothing. */
struct environment {
        const char *root;          /* HOLDFAST_ROOT */
        const char *notify_socket; /* the service manager's: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3) */
        const char *watchdog_usec;
        const char *watchdog_pid;
        const char *listen_pid;
        const char *listen_fds;
        const char *listen_names;
        const char *journal_stream; /* what standard error leads to: systemd.exec(5) */
        bool in_unit;               /* INVOCATION_ID: a unit has started us */
};

struct options {
        bool verbose;
        bool foreground;
        bool persistence; /* hold GPUs from the start */
        bool uvm;         /* UVM persistence */
        const char *user;
        const char *group;
        const char *nvidia_cfg_path;
        const char *backend;
        const struct environment *environment;
        struct locations locations;
        uint64_t stuck_sec; /* a GPU in the driver for longer is reported */
        bool require_gpu;   /* no GPU at the start is an error */
        bool fd_store;      /* means nothing any more */
        bool keep_socket;   /* leave the socket's path behind at the end */
        bool sandbox;
        const char *admin_group;
        bool allow_containers;
        const char *config; /* absolute; NULL: the usual one, if there is one (daemon.h) */
        bool check_config;  /* only say whether the configuration is right */
        bool keeper;        /* be the keeper (daemon/manager/keeper.h) */
        enum keeper_choice keeper_from;
        uint64_t keeper_sec;         /* how long the keeper waits for the next daemon; 0: not said */
        bool make_nodes;             /* only make the device nodes that are missing */
        bool pass_kernel_log;        /* only leave a descriptor of the kernel log with the service manager */
        struct node_selection nodes; /* of these */
        char *arguments;             /* the memory of all arguments, which follow one another */
        size_t arguments_size;
};

enum {
        OPTIONS_OK = 0,
        OPTIONS_DONE = 1, /* --help or --version was asked for and printed: exit 0 */
};

/*
 * Returns OPTIONS_OK, OPTIONS_DONE, or -EINVAL after one line on standard error: exit 2. The strings live as long as
 * the process, and so must environment.
 */
int options_take(int argc, char *argv[], const struct environment *environment, struct options *ret_options);
