/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Probes: the unit, its program, its result, and the directory that its user needs. */

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/leftover.h"
#include "base/locations.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"
#include "cli/node/service.h"
#include "config/account.h"

enum {
        EXIT_EXEC = 203, /* systemd.exec(5), "Process Exit Codes" */
        GROUPS_MAX = 256,
};

/* Whether there is no unit to examine; sets the finding then. */
static bool is_unknown(const struct service *service, struct finding *finding) {
        if (!service->known)
                finding_set(finding, VERDICT_UNKNOWN, "%s", service->reason);
        else if (!text_equal(service->load_state, "loaded"))
                finding_set(finding, VERDICT_UNKNOWN, "there is no unit to check (LoadState=%s)", service->load_state);
        return finding->verdict == VERDICT_UNKNOWN;
}

/* ---- the unit file ----------------------------------------------------------- */

static const struct {
        const char *load_state;
        const char *summary; /* before the unit's name */
        const char *cure;
} load_states[] = {
        {"bad-setting", "systemd rejects a line of", "systemd-analyze verify UNIT.service"},
        {"error", "systemd cannot read", "systemd-analyze verify UNIT.service"},
        {"masked", "nothing starts the masked unit",
         "systemctl unmask UNIT; systemctl enable UNIT; systemctl start UNIT"},
        {"not-found", "there is no unit",
         "install the package that has it, then: systemctl daemon-reload && systemctl enable --now UNIT"},
};

static void judge_load_state(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;
        const char *state = service->load_state;

        for (size_t i = 0; i < ARRAY_SIZE(load_states); i++)
                if (text_equal(load_states[i].load_state, state)) {
                        bool elsewhere = text_equal(state, "not-found") && snapshot_has_daemon(examination->snapshot);

                        finding_set(finding, elsewhere ? VERDICT_NOTE : VERDICT_PROBLEM, "%s %.100s%s",
                                    load_states[i].summary, service->unit,
                                    elsewhere ? "; the daemon was started by something else" : "");
                        finding_cure_unit(finding, examination, load_states[i].cure);
                }
}

/* Notes a unit of the administrator that hides ours. */
static void note_hidden(const struct examination *examination, struct finding *finding) {
        static const char *const folders[] = {"/usr/lib/systemd/system", "/lib/systemd/system"};
        const struct service *service = examination->service;
        char packaged[SERVICE_UNIT_SIZE + 32], path[PATH_MAX];

        if (!text_starts_with(service->fragment_path, "/etc/systemd/system/") || service_is_ours(service))
                return;
        for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
                text_set(packaged, "%s/%s", folders[i], service->unit);
                if (locations_path(path, examination->locations, packaged) < 0 || access(path, F_OK) < 0)
                        continue;
                finding_set(finding, VERDICT_NOTE,
                            "a unit in /etc hides the package's unit: the user, sandbox and restart settings of the "
                            "package's unit are not in effect");
                finding_quote(finding, "%s hides %s", service->fragment_path, path);
                finding_cure_unit(finding, examination, /* revert also disables the unit */
                                  "systemctl revert UNIT; systemctl enable UNIT; systemctl restart UNIT");
                return;
        }
}

/* Finds the file's last line with a value for that setting. Returns false if there is none. */
static bool find_setting(const char *path, const char *setting, char *buffer, size_t size) {
        char text[16384], *rest = text;
        bool found = false;

        if (file_read(path, text, sizeof(text)) < 0)
                return false;
        for (char *line; (line = strsep(&rest, "\n"));)
                if (text_starts_with(line, setting) && line[strlen(setting)] != '\0')
                        found = text_format(buffer, size, "%.200s", line) == 0;
        return found;
}

/* Notes a drop-in that starts the daemon with another command line. */
static void note_drop_in(const struct examination *examination, const char *drop_in, struct finding *finding) {
        const char *user = examination->service->user;
        char path[PATH_MAX], line[256];

        if (strstr(drop_in, "/50-holdfast.conf") || locations_path(path, examination->locations, drop_in) < 0 ||
            !find_setting(path, "ExecStart=", line, sizeof(line)))
                return;
        if (finding->verdict == VERDICT_OK)
                finding_set(finding, VERDICT_NOTE,
                            "a drop-in replaces the unit's command line; the daemon runs as user %.60s, and the unit's "
                            "sandbox still applies",
                            user[0] != '\0' ? user : "root");
        finding_quote(finding, "%s: %s", path, line);
}

static void note_drop_ins(const struct examination *examination, struct finding *finding) {
        char paths[sizeof(examination->service->drop_in_paths)];
        char *rest = NULL;

        text_set(paths, "%s", examination->service->drop_in_paths);
        for (char *path = strtok_r(paths, " ", &rest); path; path = strtok_r(NULL, " ", &rest))
                note_drop_in(examination, path, finding);
}

void probe_unit(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;

        if (!service->known) {
                (void)is_unknown(service, finding);
                return;
        }
        finding_quote(finding, "systemctl show: LoadState=%s UnitFileState=%s FragmentPath=%s", service->load_state,
                      service->unit_file_state, service->fragment_path);
        judge_load_state(examination, finding);
        if (finding->verdict != VERDICT_OK)
                return;
        if (!text_equal(service->unit_file_state, "disabled") ||
            text_starts_with(service->socket_file_state, "enabled")) { /* the socket unit starts it */
                note_hidden(examination, finding);
                if (service_is_ours(service))
                        note_drop_ins(examination, finding);
                return;
        }
        finding_set(finding, VERDICT_PROBLEM, "%.100s is disabled: it does not start at boot", service->unit);
        finding_cure_unit(finding, examination, "systemctl enable --now UNIT");
}

/* ---- its program ------------------------------------------------------------- */

/* For a forking unit, only the status of the command shows this. */
static bool has_failed_at_exec(const struct service *service) {
        static const char label[] = "; status=";
        const char *status = strstr(service->exec_start, label);

        return atoi(service->exec_main_status) == EXIT_EXEC || (status && atoi(status + strlen(label)) == EXIT_EXEC);
}

/* Another program in our unit, such as NVIDIA's daemon, ends without the notification that Type=notify requires. */
static bool is_foreign(const struct examination *examination) {
        return service_is_ours(examination->service) &&
               !service_runs_ours(examination->service, examination->locations);
}

static bool has_our_daemon(const struct examination *examination) {
        char path[PATH_MAX];

        return locations_path(path, examination->locations, HOLDFAST_DAEMON) == 0 && access(path, X_OK) == 0;
}

/* A drop-in may name NVIDIA's daemon, which the driver's .run installer puts into /usr/bin. */
static void judge_foreign(const struct examination *examination, const char *program, struct finding *finding) {
        const struct service *service = examination->service;

        finding_set(finding, VERDICT_PROBLEM, "the unit starts another program than Holdfast's daemon: %s", program);
        finding_quote(finding, "ExecStart: %s is not " HOLDFAST_DAEMON "; Result=%s", program, service->result);
        finding_quote(finding, "systemctl show: DropInPaths=%s", service->drop_in_paths);
        finding_cure_unit(finding, examination,
                          "remove the drop-in's ExecStart=, or have it start " HOLDFAST_DAEMON
                          "; then: holdfast takeover && systemctl restart UNIT");
}

void probe_unit_exec(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;
        char program[PATH_MAX], path[PATH_MAX], start[sizeof(finding->cure)];
        bool failed, usable;

        if (is_unknown(service, finding))
                return;
        if (!service_program(service, program, sizeof(program)) ||
            locations_path(path, examination->locations, program) < 0) {
                finding_set(finding, VERDICT_UNKNOWN, "systemctl show names no program (ExecStart)");
                return;
        }
        if (is_foreign(examination) && has_our_daemon(examination)) {
                judge_foreign(examination, program, finding);
                return;
        }
        failed = has_failed_at_exec(service);
        usable = access(path, X_OK) == 0;
        finding_quote(finding, "ExecStart: %s: %s", path, usable ? "can be executed" : strerror(errno));
        if (failed)
                finding_quote(finding, "systemctl show: ActiveState=%s Result=%s, status 203 (EXEC)",
                              service->active_state, service->result);
        if (usable && (!failed || !text_equal(service->active_state, "failed")))
                return;
        finding_set(finding, VERDICT_PROBLEM, "the unit's program cannot be executed%s",
                    failed ? ": it failed at step EXEC" : "");
        service_command(service, "systemctl reset-failed UNIT && systemctl start UNIT", start, sizeof(start));
        if (usable)
                finding_cure(finding, "%s", start);
        else
                finding_cure(finding, "reinstall the package that has %s, then: %s", program, start);
}

/* ---- its result -------------------------------------------------------------- */

static const struct {
        const char *result;
        const char *meaning;
} results[] = {
        {"core-dump", "it crashed"},
        {"exit-code", "it ended with an error, which its log has"},
        {"oom-kill", "it was killed because memory was short"},
        {"protocol", "it did not send systemd the notification that Type= requires"},
        {"resources", "systemd could not set up what the unit requires (user, directories, limits)"},
        {"signal", "it was killed by a signal"},
        {"start-limit-hit", "it failed so often that systemd gave up"},
        {"timeout", "it did not start or end in time"},
        {"watchdog", "it did not report to systemd in time"},
};

static const char *meaning_of(const char *result) {
        for (size_t i = 0; i < ARRAY_SIZE(results); i++)
                if (text_equal(results[i].result, result))
                        return results[i].meaning;
        return "systemctl status has the reason";
}

static void judge_command(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;

        finding_quote(finding, "systemctl show: %s: %s", service->failed_command, service->failed_status);
        finding_set(finding, VERDICT_PROBLEM, "the unit fails because one of its commands fails: %s",
                    service->failed_command);
        finding_cure_unit(finding, examination,
                          "correct or remove that line (systemctl cat UNIT shows its file), then: "
                          "systemctl daemon-reload; systemctl reset-failed UNIT; systemctl start UNIT");
}

static void judge_result(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;

        if (service_flaps(service) && !service_has_failed(service)) {
                finding_set(finding, VERDICT_PROBLEM, "the unit fails and is started again, %s times so far",
                            service->n_restarts);
                finding_cure_unit(finding, examination, "journalctl -b -n 20 -u UNIT; systemctl cat UNIT");
                return;
        }
        finding_set(finding, VERDICT_PROBLEM, "the unit failed (%s): %s", service->result, meaning_of(service->result));
        finding_cure_unit(finding, examination,
                          "journalctl -b -n 20 -u UNIT; systemctl reset-failed UNIT && systemctl start UNIT");
}

void probe_unit_result(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;

        if (is_unknown(service, finding))
                return;
        finding_quote(finding, "systemctl show: ActiveState=%s SubState=%s Result=%s ExecMainStatus=%s NRestarts=%s",
                      service->active_state, service->sub_state, service->result, service->exec_main_status,
                      service->n_restarts);
        if (!service_has_failed(service) && !service_flaps(service))
                return;
        if (has_failed_at_exec(service)) {
                finding_set(finding, VERDICT_UNKNOWN, "the program was not even executed: see unit-exec");
                return;
        }
        if (is_foreign(examination)) {
                finding_set(finding, VERDICT_UNKNOWN, "it is not Holdfast's daemon that failed: see unit-exec");
                return;
        }
        if (service->last_words[0] != '\0')
                finding_quote(finding, "journal: %s", service->last_words);
        if (service->failed_command[0] != '\0')
                judge_command(examination, finding);
        else
                judge_result(examination, finding);
}

/* ---- the runtime directory --------------------------------------------------- */

struct user {
        char name[64];
        uid_t uid;
        gid_t groups[GROUPS_MAX];
        int n_groups;
};

/* The value of --user in ExecStart's arguments. Returns false if there is none. */
static bool find_user_option(const char *exec_start, char *buffer, size_t size) {
        static const char *const spellings[] = {" --user=", " --user ", " -u "};

        for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
                const char *option = strstr(exec_start, spellings[i]);

                if (option) {
                        option += strlen(spellings[i]);
                        return text_format(buffer, size, "%.*s", (int)strcspn(option, " ;"), option) == 0;
                }
        }
        return false;
}

/* The user as which the unit runs the daemon. Returns 0, or -ENOENT if there is no such user. */
static int find_user(const struct service *service, struct user *ret_user) {
        const struct passwd *entry;

        *ret_user = (struct user){.name = "root"};
        if (!find_user_option(service->exec_start, ret_user->name, sizeof(ret_user->name)) && service->user[0] != '\0')
                text_set(ret_user->name, "%s", service->user);
        entry = account_find_user(ret_user->name);
        if (!entry)
                return -ENOENT;
        ret_user->uid = entry->pw_uid;
        ret_user->n_groups = GROUPS_MAX;
        if (getgrouplist(entry->pw_name, entry->pw_gid, ret_user->groups, &ret_user->n_groups) < 0)
                ret_user->n_groups = GROUPS_MAX;
        return 0;
}

/* From the file's mode, since we are not that user. */
static bool may_write(const struct user *user, const struct stat *status, unsigned bits) {
        if (user->uid == 0)
                return true;
        if (user->uid == status->st_uid)
                return (status->st_mode >> 6 & bits) == bits;
        for (int i = 0; i < user->n_groups; i++)
                if (user->groups[i] == status->st_gid)
                        return (status->st_mode >> 3 & bits) == bits;
        return (status->st_mode & bits) == bits;
}

static void check_writable(const char *path, const struct user *user, unsigned bits, struct finding *finding) {
        struct stat status;

        if (stat(path, &status) < 0)
                return;
        finding_quote(finding, "%s: uid %u, gid %u, mode 0%o; the daemon's user is %s (uid %u)", path,
                      (unsigned)status.st_uid, (unsigned)status.st_gid, (unsigned)status.st_mode & 07777, user->name,
                      (unsigned)user->uid);
        if (may_write(user, &status, bits))
                return;
        finding_set(finding, VERDICT_PROBLEM, "the daemon's user, %s, cannot write to its runtime directory",
                    user->name);
        finding_cure(finding, "chown -R %s %s", user->name, path);
}

/* Only root can create a missing directory. */
static void check_missing(const struct examination *examination, const struct user *user, struct finding *finding) {
        finding_quote(finding, "%s: %s", examination->runtime_directory, strerror(ENOENT));
        if (examination->service->user[0] == '\0' || user->uid == 0)
                return;
        finding_set(finding, VERDICT_PROBLEM,
                    "there is no runtime directory, and %s, the unit's user, cannot create it", user->name);
        finding_cure(finding, "install -d -m 0755 -o %s %s", user->name, examination->runtime_directory);
}

static void check_directory(const struct examination *examination, const struct user *user, struct finding *finding) {
        const char *directory = examination->runtime_directory;
        char pid_file[sizeof(examination->runtime_directory) + 32];

        if (access(directory, F_OK) < 0 && errno == ENOENT) {
                check_missing(examination, user, finding);
                return;
        }
        check_writable(directory, user, 3, finding); /* w and x */
        text_set(pid_file, "%s/" PID_FILE_NAME, directory);
        if (finding->verdict == VERDICT_OK)
                check_writable(pid_file, user, 2, finding);
}

static void report_no_user(const struct service *service, const struct user *user, struct finding *finding) {
        if (user->name[0] == '$') {
                finding_set(finding, VERDICT_UNKNOWN, "the daemon's user is set by the variable %s", user->name);
                return;
        }
        finding_set(finding, VERDICT_PROBLEM, "the unit runs the daemon as '%s', and there is no such user",
                    user->name);
        finding_quote(finding, "systemctl show: User=%s ExecStart=%.200s", service->user, service->exec_start);
        finding_cure(finding, "useradd --system --no-create-home --shell /usr/sbin/nologin %s", user->name);
}

/* systemd creates RuntimeDirectory= at each start and gives it to User=, also if it exists already. */
static bool is_made_by_systemd(const struct service *service) {
        return service->user[0] != '\0' && strstr(service->runtime_directory, "nvidia-persistenced");
}

static void check_for_user(const struct examination *examination, struct finding *finding) {
        const struct service *service = examination->service;
        struct user user;

        if (text_equal(service->dynamic_user, "yes"))
                finding_set(finding, VERDICT_UNKNOWN, "the unit's user exists only while it runs (DynamicUser=)");
        else if (find_user(service, &user) < 0)
                report_no_user(service, &user, finding);
        else if (is_made_by_systemd(service))
                finding_quote(finding, "systemctl show: RuntimeDirectory=%s User=%s", service->runtime_directory,
                              service->user);
        else
                check_directory(examination, &user, finding);
}

void probe_runtime_directory(const struct examination *examination, struct finding *finding) {
        const char *directory = examination->runtime_directory;
        struct stat status;

        if (snapshot_has_daemon(examination->snapshot))
                return; /* it made its socket there */
        if (stat(directory, &status) == 0 && !S_ISDIR(status.st_mode)) {
                finding_set(finding, VERDICT_PROBLEM, "the runtime directory is no directory");
                finding_quote(finding, "%s: %s", directory, strerror(ENOTDIR));
                finding_cure(finding, "rm %s", directory);
        } else if (!is_unknown(examination->service, finding))
                check_for_user(examination, finding);
}
