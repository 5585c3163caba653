#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Runs a command in our process group, with our terminal, so that Ctrl-C, Ctrl-Z and fg reach it directly. Signals sent
 * to us alone are passed on to it.
 */

#include <stdbool.h>
#include <sys/types.h>

enum {
        CHILD_NOT_EXECUTABLE = 126, /* as shells have it */
        CHILD_NOT_FOUND = 127,
        CHILD_SIGNALLED = 128, /* and the signal's number */
        CHILD_LEFT = 256,      /* no exit status: it was left running */
};

/*
 * When to stop waiting for the command. Once the descriptor is readable, `is_over` is called five times a second until
 * it returns true. The command is then left running, since ending it halfway could do harm.
 */
struct child_watch {
        int fd; /* -1: never */
        bool (*is_over)(void *userdata);
        void *userdata;
        pid_t pid; /* of the command, filled in */
};

/*
 * Blocks the signals that would end us, until child_let_signals(); child_run() passes them on to the command. Call it
 * before the first change that must be undone.
 */
void child_keep_signals(void);

/* A pending signal that asks us to stop, or 0. */
int child_signal_kept(void);

/* Takes one such signal off the pending ones and returns it, or 0. */
int child_take_signal(void);

/* A descriptor for poll(), readable while such a signal is pending; or negative errno. */
int child_signal_fd(void);

/* Unblocks them: a pending signal ends us now. */
void child_let_signals(void);

/*
 * Runs the command (ended by NULL) with one more variable in its environment, and waits for its end. Returns its exit
 * status, CHILD_SIGNALLED + n after signal n, another of the numbers above, or negative errno if no process could be
 * started. program is the prefix of the message about a command that cannot be executed.
 */
int child_run(const char *program, char *const *command, const char *variable, const char *value,
              struct child_watch *watch);
