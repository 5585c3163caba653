/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: whether a daemon runs and which, whether there are two, and the state of its socket. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/leftover.h"
#include "base/pids.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/doctor/listeners.h"
#include "cli/doctor/mounts.h"
#include "cli/node/service.h"

#define AGAIN_USEC (2 * USEC_PER_SEC)

enum { SOCKET_EVERYBODY = 0222 };

/* ---- does one run, and whose ------------------------------------------------- */

/* Whether a daemon listens at its path, also if the path leads to another file now. False if that is unknown. */
static bool has_listener(const struct snapshot *snapshot) {
        struct socket_place place;
        size_t n = 0;

        return socket_place_find(snapshot->daemon_socket, &place) == 0 &&
               listeners_count(snapshot->daemon_socket, &place, &n) == 0 && n > 0;
}

void probe_daemon(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (snapshot_has_daemon(examination->snapshot)) {
                finding_quote(finding, "pid %d answers at %s",
                              snapshot->daemon == DAEMON_HOLDFAST ? (int)snapshot->head.pid : (int)snapshot->daemon_pid,
                              snapshot->daemon_socket);
                return;
        }
        if (snapshot->daemon == DAEMON_SILENT) {
                finding_set(finding, VERDICT_UNKNOWN,
                            "something listens at the socket but does not answer: see socket");
                return;
        }
        if (has_listener(snapshot)) {
                finding_set(
                        finding, VERDICT_UNKNOWN,
                        "a daemon listens, but connecting to its socket failed: run doctor again, or see socket-inode");
                return;
        }
        finding_set(finding, VERDICT_PROBLEM, "no persistence daemon runs: each GPU is torn down after its last user");
        finding_quote(finding, "%s: %s", snapshot->daemon_socket, strerror(-snapshot->daemon_errno));
        finding_cure_unit(finding, examination, service_start_cure(examination->service));
}

void probe_daemon_kind(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (snapshot->daemon == DAEMON_HOLDFAST)
                finding_quote(finding, "Holdfast %s, %s backend", snapshot->head.version, snapshot->head.backend);
        else if (snapshot->daemon != DAEMON_NVIDIA)
                finding_set(finding, VERDICT_UNKNOWN, "no daemon answers");
        if (snapshot->daemon != DAEMON_NVIDIA)
                return;
        finding_set(finding, VERDICT_NOTE,
                    "NVIDIA's daemon runs: it does not retry failed GPUs, and reports neither failures nor reasons");
        finding_quote(finding, "pid %d at %s does not serve Holdfast's own RPC program", (int)snapshot->daemon_pid,
                      snapshot->daemon_socket);
        finding_cure(finding, "holdfast takeover --dry-run");
}

/* ---- are there two ----------------------------------------------------------- */

/*
 * The pid of the daemon that answers now; 0: none. The node was looked at before the other probes, so a daemon that was
 * started since is not in that snapshot.
 */
static int32_t find_daemon_again(const struct examination *examination) {
        const struct snapshot_request request = {
                .locations = examination->locations,
                .flags = SNAPSHOT_DAEMON | SNAPSHOT_QUICK,
                .timeout_usec = AGAIN_USEC,
        };
        CLEANUP(snapshot_done) struct snapshot *now = NULL;

        return snapshot_read(&request, &now) == 0 && snapshot_has_daemon(now) ? snapshot_find_daemon(now) : 0;
}

/* Whether the process has that pid in one of its PID namespaces: a daemon in a container writes its pid there. */
static bool has_pid(int32_t process, uint64_t pid) {
        char text[4096], *line, *word, *rest = NULL;

        if ((uint64_t)process == pid)
                return true;
        if (pids_read(process, "status", text, sizeof(text)) < 0)
                return false;
        line = strstr(text, "\nNSpid:");
        if (!line)
                return false;
        line += strlen("\nNSpid:");
        line[strcspn(line, "\n")] = '\0';
        for (word = strtok_r(line, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
                uint64_t value;

                if (text_parse_u64(word, 10, INT32_MAX, &value) == 0 && value == pid)
                        return true;
        }
        return false;
}

static bool is_daemon(uint64_t pid) {
        char name[32];

        return text_equal(pids_read_name((pid_t)pid, name, sizeof(name)), HOLDER_DAEMON_NAME);
}

static void report_other_pid(const struct examination *examination, const char *path, uint64_t pid,
                             struct finding *finding) {
        int32_t listener = snapshot_find_daemon(examination->snapshot);
        char restart[sizeof(finding->cure)];

        finding_quote(finding, "%s names pid %u, but pid %d listens at the socket", path, (unsigned)pid, (int)listener);
        if (is_daemon(pid)) {
                finding_set(finding, VERDICT_PROBLEM, "two daemons run: pid %u, and pid %d", (unsigned)pid,
                            (int)listener);
                service_command(examination->service, "systemctl restart UNIT", restart, sizeof(restart));
                finding_cure(finding, "kill %u; %s", (unsigned)pid, restart);
                return;
        }
        finding_set(finding, VERDICT_PROBLEM, "the pid file names pid %u, which is not the daemon that listens",
                    (unsigned)pid);
        finding_cure_unit(finding, examination, "systemctl restart UNIT");
}

void probe_one_daemon(const struct examination *examination, struct finding *finding) {
        int32_t listener = snapshot_find_daemon(examination->snapshot);
        char path[256], text[32];
        uint64_t pid;
        ssize_t r;

        if (!snapshot_has_daemon(examination->snapshot) || listener == 0) {
                finding_set(finding, VERDICT_UNKNOWN, "unknown: which process listens at the socket");
                return;
        }
        text_set(path, "%s/" PID_FILE_NAME, examination->runtime_directory);
        r = file_read(path, text, sizeof(text));
        if (r < 0 || text_parse_u64(text_trim(text), 10, INT32_MAX, &pid) < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "the pid file has no pid: %s: %s", path,
                            r < 0 ? strerror((int)-r) : "no number");
                return;
        }
        if (has_pid(listener, pid))
                finding_quote(finding, "%s and the socket agree: pid %d", path, (int)listener);
        else if (has_pid(find_daemon_again(examination), pid))
                finding_quote(finding, "%s names pid %u, a daemon that was started during this check", path,
                              (unsigned)pid);
        else
                report_other_pid(examination, path, pid, finding);
}

/* ---- does the socket answer -------------------------------------------------- */

static void report_mode(const char *path, unsigned found, unsigned missing, const char *cure, struct finding *finding) {
        finding_set(finding, VERDICT_PROBLEM,
                    "not every user can reach the socket, so nvidia-smi and NVML report Disabled for them");
        finding_quote(finding, "%s has mode 0%o, which lacks 0%o", path, found, missing);
        finding_cure(finding, "chmod %s %s", cure, path);
}

static void check_modes(const struct examination *examination, struct finding *finding) {
        const char *socket = examination->snapshot->daemon_socket, *directory = examination->runtime_directory;
        struct stat status;

        if (stat(directory, &status) == 0 && (status.st_mode & S_IXOTH) == 0)
                report_mode(directory, status.st_mode & 0777, S_IXOTH, "0755", finding);
        else if (stat(socket, &status) == 0 && (status.st_mode & SOCKET_EVERYBODY) != SOCKET_EVERYBODY)
                report_mode(socket, status.st_mode & 0777, SOCKET_EVERYBODY & ~status.st_mode, "0777", finding);
}

void probe_socket(const struct examination *examination, struct finding *finding) {
        const struct snapshot *snapshot = examination->snapshot;

        if (snapshot->daemon == DAEMON_SILENT) {
                finding_set(finding, VERDICT_PROBLEM, "the socket gives an invalid answer");
                finding_quote(finding, "%s", snapshot->daemon_error);
                finding_cure_unit(finding, examination, service_new_socket_cure(examination->service));
        } else if (snapshot->daemon == DAEMON_NONE && snapshot->daemon_errno == -ECONNREFUSED) {
                finding_set(finding, VERDICT_PROBLEM, "the socket is stale: its daemon has ended without removing it");
                finding_quote(finding, "connect to %s: %s", snapshot->daemon_socket, strerror(ECONNREFUSED));
                finding_cure_unit(finding, examination, service_new_socket_cure(examination->service));
        } else if (snapshot->daemon == DAEMON_NONE) {
                finding_set(finding, VERDICT_UNKNOWN, "there is no socket");
        } else
                check_modes(examination, finding);
}

/* ---- is it the same socket everywhere ---------------------------------------- */

static void report_lost_listeners(const struct examination *examination, size_t n, struct finding *finding) {
        const char *path = examination->snapshot->daemon_socket;

        finding_set(finding, VERDICT_PROBLEM, "a daemon listens at a socket that was removed or replaced since");
        finding_quote(finding, "the kernel has %zu listener%s of %s, and %s", n, text_plural(n), path,
                      snapshot_has_daemon(examination->snapshot) ? "only one can be reached"
                                                                 : "none can be reached there");
        finding_cure_unit(finding, examination, service_new_socket_cure(examination->service));
}

/* Any user can have an old socket in a user namespace of its own, which is no problem of the node. */
static void report_stale_mounts(const struct stale_mounts *mounts, struct finding *finding) {
        finding_set(finding, mounts->n_foreign < mounts->n ? VERDICT_PROBLEM : VERDICT_NOTE,
                    "%zu container%s an old socket: nvidia-smi and NVML do not reach the daemon from there", mounts->n,
                    mounts->n == 1 ? " has" : "s have");
        for (size_t i = 0; i < mounts->n && i < STALE_MOUNTS_MAX; i++)
                finding_quote(finding, "pid %d (%s): /proc/%d/mountinfo: %s on %s%s", (int)mounts->items[i].pid,
                              mounts->items[i].name, (int)mounts->items[i].pid, mounts->items[i].source,
                              mounts->items[i].target,
                              mounts->items[i].foreign ? ", in a user namespace of its own" : "");
        finding_cure(finding, "restart the container of pid %d (docker restart, kubectl delete pod)",
                     (int)mounts->items[0].pid);
}

static void report_mounts(const struct socket_place *place, struct finding *finding) {
        struct stale_mounts mounts;

        stale_mounts_find(&mounts, place);
        if (mounts.n > 0)
                report_stale_mounts(&mounts, finding);
        else if (mounts.hanging_pid > 0)
                finding_set(finding, VERDICT_UNKNOWN,
                            "containers may have an old socket: reading the mounts of process %d hangs",
                            (int)mounts.hanging_pid);
        else if (!mounts.complete)
                finding_set(finding, VERDICT_UNKNOWN,
                            "the mounts of other users' containers cannot be seen; run as root");
        else
                finding_quote(finding, "no process has a removed socket mounted (/proc/*/mountinfo)");
}

/* The only listener is a daemon that was started after the snapshot. */
static bool is_new_daemon(const struct examination *examination, size_t n_listeners) {
        return n_listeners == 1 && examination->snapshot->daemon == DAEMON_NONE && find_daemon_again(examination) != 0;
}

void probe_socket_inode(const struct examination *examination, struct finding *finding) {
        const char *path = examination->snapshot->daemon_socket;
        size_t n_reached = examination->snapshot->daemon == DAEMON_NONE ? 0 : 1;
        struct socket_place place;
        size_t n = 0;
        int r;

        r = socket_place_find(path, &place);
        if (r < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "/proc/self/mountinfo cannot be read: %s", strerror(-r));
                return;
        }
        r = listeners_count(path, &place, &n);
        if (r < 0)
                finding_set(finding, VERDICT_UNKNOWN, "the kernel does not report who listens (sock_diag): %s",
                            strerror(-r));
        else if (n > n_reached && !is_new_daemon(examination, n))
                report_lost_listeners(examination, n, finding);
        else
                report_mounts(&place, finding);
}
