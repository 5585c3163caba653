/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/thread.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

enum { STATUS_MAX = 16384 }; /* most of it are the groups: up to 11 bytes each */

static int set_attributes(pthread_attr_t *attributes, const struct thread_options *options) {
        int r = 0;

        if (options->stack)
                r = pthread_attr_setstack(attributes, options->stack, options->stack_size);
        else if (options->stack_size > 0)
                r = pthread_attr_setstacksize(attributes, options->stack_size);
        if (r == 0 && options->detached)
                r = pthread_attr_setdetachstate(attributes, PTHREAD_CREATE_DETACHED);
        return -r;
}

/* A thread inherits the signal mask of its creator. */
static int create(pthread_t *ret_thread, const pthread_attr_t *attributes, int takes, void *(*run)(void *),
                  void *argument) {
        sigset_t mask, saved;
        int r;

        (void)sigfillset(&mask);
        if (takes != 0)
                (void)sigdelset(&mask, takes);
        (void)pthread_sigmask(SIG_SETMASK, NULL, &saved);
        if (!sigismember(&saved, SIGTERM))
                (void)sigdelset(&mask, SIGTERM);
        (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
        r = pthread_create(ret_thread, attributes, run, argument);
        (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
        return -r;
}

int thread_start(pthread_t *ret_thread, const struct thread_options *options, void *(*run)(void *argument),
                 void *argument) {
        pthread_attr_t attributes;
        int r = -pthread_attr_init(&attributes);

        if (r < 0)
                return r;
        r = set_attributes(&attributes, options);
        if (r == 0)
                r = create(ret_thread, &attributes, options->takes, run, argument);
        (void)pthread_attr_destroy(&attributes);
        return r;
}

/* The thread is an entry of /proc/self/task. One that has ended in the meantime blocks nothing. */
static bool blocks(int tasks_fd, const char *thread, int number) {
        CLEANUP(free_ptr) char *text = NULL;
        char path[32];
        uint64_t set;
        const char *line;

        if (text_format(path, sizeof(path), "%s/status", thread) < 0 ||
            file_read_text_at(tasks_fd, path, STATUS_MAX, &text) < 0)
                return false;
        line = strstr(text, "\nSigBlk:");
        return line && sscanf(line, " SigBlk: %" SCNx64, &set) == 1 && (set >> (number - 1) & 1);
}

bool thread_any_blocks(int number) {
        CLEANUP(dir_done) DIR *tasks = opendir("/proc/self/task");
        const struct dirent *entry;

        while (tasks && (entry = readdir(tasks)))
                if (entry->d_name[0] != '.' && blocks(dirfd(tasks), entry->d_name, number))
                        return true;
        return false;
}
