/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/settings/hooks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/report/report.h"

enum { FAILURE_SIZE = 192, NOT_RUN = 127 };

static const char *const event_names[] = {
        [HOOK_HELD] = "held",
        [HOOK_RELEASED] = "released",
        [HOOK_FAILED] = "failed",
        [HOOK_LEASE_BEGUN] = "lease-begun",
        [HOOK_LEASE_ENDED] = "lease-ended",
};

/* ---- in the hook's process ------------------------------------------------------------------------------------ */

static void set_environment(const struct hook_call *call) {
        char index[24];

        text_set(index, "%zu", call->index);
        (void)clearenv();
        (void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
        (void)setenv("GPU_ADDRESS", call->address, 1);
        (void)setenv("GPU_UUID", call->uuid, 1);
        (void)setenv("GPU_INDEX", index, 1);
        (void)setenv("EVENT", event_names[call->event], 1);
        (void)setenv("REASON", call->reason, 1);
}

/* In its own process group, so that it can be killed together with the processes that it started. */
static void become_hook(const struct hook_call *call, const char *path) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        sigset_t none;

        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        if (null_fd >= 0)
                (void)dup2(null_fd, STDIN_FILENO);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        set_environment(call);
        (void)execl(path, path, (char *)NULL);
        fprintf(stderr, "%s: cannot be run: %s\n", path, strerror(errno));
        _exit(NOT_RUN);
}

/* ---- waiting for it ------------------------------------------------------------------------------------------- */

/* Waits until the process ends, with SIGCHLD blocked. Returns whether it ended in time. */
static bool wait_for(pid_t pid, uint64_t limit_usec, int *ret_status) {
        uint64_t deadline_usec = clock_monotonic_usec() + limit_usec;
        sigset_t child;

        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        while (waitpid(pid, ret_status, WNOHANG) != pid) {
                uint64_t now_usec = clock_monotonic_usec();
                const struct timespec pause = {.tv_sec = 1};

                if (now_usec >= deadline_usec)
                        return false;
                (void)sigtimedwait(&child, NULL, &pause);
        }
        return true;
}

static void run_one(const struct hook_call *call, const char *path, char failure[static FAILURE_SIZE]) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0)
                become_hook(call, path);
        if (pid < 0) {
                (void)text_format(failure, FAILURE_SIZE, "cannot start a process: %s", strerror(errno));
                return;
        }
        (void)setpgid(pid, pid);
        if (!wait_for(pid, call->limit_usec, &status)) {
                (void)kill(-pid, SIGKILL);
                (void)waitpid(pid, &status, WNOHANG);
                (void)text_format(failure, FAILURE_SIZE, "killed after %llu s",
                                  (unsigned long long)(call->limit_usec / USEC_PER_SEC));
        } else if (WIFSIGNALED(status))
                (void)text_format(failure, FAILURE_SIZE, "ended by signal %d", WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
                (void)text_format(failure, FAILURE_SIZE, "exit status %d", WEXITSTATUS(status));
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

/* No hidden files, and no backups of editors and package managers. */
static int is_name(const struct dirent *entry) {
        static const char *const others[] = {".*", "*~*", "*.dpkg-old", "*.rpmnew"};

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                if (fnmatch(others[i], entry->d_name, 0) == 0)
                        return false;
        return true;
}

/* Whether only root, or our own user, can write to it: it runs as root. */
static bool is_trusted(const char *path, bool *ret_executable) {
        struct stat status;

        if (stat(path, &status) < 0 || !S_ISREG(status.st_mode))
                return false;
        *ret_executable = (status.st_mode & 0111) != 0;
        return (status.st_uid == 0 || status.st_uid == geteuid()) && (status.st_mode & 0022) == 0;
}

static void names_free(struct dirent **names, int n) {
        for (int i = 0; i < n; i++)
                free(names[i]);
        free(names);
}

void hooks_run(const struct hook_call *call, void (*tell)(void *userdata, json_t *row), void *userdata) {
        struct dirent **names = NULL;
        int n = scandir(call->folder, &names, is_name, alphasort);
        sigset_t child;

        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &child, NULL);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX], failure[FAILURE_SIZE] = "";
                bool executable = false, trusted;

                if (text_format(path, sizeof(path), "%s/%s", call->folder, names[i]->d_name) < 0)
                        continue;
                trusted = is_trusted(path, &executable);
                if (trusted && !executable)
                        continue; /* switched off */
                if (trusted)
                        run_one(call, path, failure);
                else
                        text_set(failure, "not run: users other than root can write to this file");
                tell(userdata, json_pack("{s:s, s:s, s:o}", "name", names[i]->d_name, "event", event_names[call->event],
                                         "failure", report_json_text(failure)));
        }
        names_free(names, n);
}
