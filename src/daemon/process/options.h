#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The command line: the options of NVIDIA's daemon, unchanged, and our own. */

#include <stdbool.h>
#include <stdint.h>

#include "base/locations.h"
#include "daemon/manager/keeper_link.h"
#include "gpu/nodes.h"

/* Environment variables. Only main() reads them. NULL: not set. */
struct environment {
        const char *root;          /* HOLDFAST_ROOT */
        const char *notify_socket; /* as for sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3) */
        const char *watchdog_usec;
        const char *watchdog_pid;
        const char *listen_pid;
        const char *listen_fds;
        const char *listen_names;
        const char *journal_stream; /* where standard error leads: systemd.exec(5) */
        bool in_unit;               /* INVOCATION_ID is set: a systemd unit has started us */
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
        uint64_t stuck_sec; /* a job that takes longer in the driver is reported */
        bool require_gpu;   /* no GPU at the start is an error */
        bool fd_store;      /* ignored */
        bool keep_socket;   /* do not remove the socket at the end */
        bool sandbox;
        const char *admin_group;
        bool allow_containers;
        const char *config; /* absolute path; NULL: the default file, if it exists */
        bool check_config;  /* only check the configuration */
        bool keeper;        /* run as the keeper (daemon/manager/keeper.h) */
        enum keeper_choice keeper_from;
        uint64_t keeper_sec;         /* how long the keeper waits for the next daemon; 0: not given */
        bool make_nodes;             /* only create missing device nodes */
        bool pass_kernel_log;        /* only store a descriptor of the kernel log with the service manager */
        struct node_selection nodes; /* for make_nodes: which ones */
        char *arguments;             /* the contiguous memory of all arguments; NULL: none */
        size_t arguments_size;
};

enum {
        OPTIONS_OK = 0,
        OPTIONS_DONE = 1, /* --help or --version was printed: exit 0 */
};

/*
 * Returns OPTIONS_OK, OPTIONS_DONE, or -EINVAL after one line on standard error: exit 2. The strings live as long as
 * the process, and so must argv and environment.
 */
int options_take(int argc, char *argv[], const struct environment *environment, struct options *ret_options);
