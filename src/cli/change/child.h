#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A command that runs in our place: it has the terminal and stands in our process group, so that Ctrl-C, Ctrl-Z and fg
 * reach it as if we were not there, and it gets the signals that are sent to us alone.
 */

#include <stdbool.h>
#include <sys/types.h>

enum {
        CHILD_NOT_EXECUTABLE = 126, /* as shells have it */
        CHILD_NOT_FOUND = 127,
        CHILD_SIGNALLED = 128, /* and the signal's number */
        CHILD_LEFT = 256,      /* no exit status: it goes on without us */
};

/*
 * What makes waiting for the command pointless. Once the descriptor is readable `is_over` is asked, and again every
 * fifth of a second until it says so; the command is left alone then, for ending it halfway could do harm.
 */
struct child_watch {
        int fd; /* -1: nothing does */
        bool (*is_over)(void *userdata);
        void *userdata;
        pid_t pid; /* of the command, filled in */
};

/*
 * From now on signals that would end us are kept for child_run(): what is begun is then also ended in order. Call it
 * before the first thing that needs an end.
 */
void child_keep_signals(void);

/* The first of them that came and asks us to stop, or 0. */
int child_signal_kept(void);

/* Takes it away, so that the next is the first. Returns it, or 0. */
int child_take_signal(void);

/* A descriptor that is readable while there is one, for poll(); or negative errno. */
int child_signal_fd(void);

/* As it was before: those that came meanwhile end us now. */
void child_let_signals(void);

/*
 * Runs the command (ended by NULL) to its end, with one more variable in its environment. Returns its exit status,
 * CHILD_SIGNALLED + n for a signal, one of the above when it could not be run or is left, or negative errno when there
 * was no process to be had. program begins the message for a command that cannot be run.
 */
int child_run(const char *program, char *const *command, const char *variable, const char *value,
              struct child_watch *watch);
