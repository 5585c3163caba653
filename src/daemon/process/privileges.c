/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/process/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "config/account.h"

enum {
        CAPABILITIES_MAX = 64, /* capset(2) has two words of 32 bits for each set */
        GROUPS_MAX = 256,
};

#define PRIVILEGES_UNCHANGED ((struct privileges){.uid = (uid_t)-1, .gid = (gid_t)-1})

/* ---- who ---- */

static int find_user(const char *name, struct privileges *privileges) {
        const struct passwd *user = account_find_user(name);

        if (!user) {
                log_write(LOG_ERR, "there is no user '%s' on this system; make it, or give another with --user", name);
                return -ENOENT;
        }
        (void)text_copy(privileges->user, sizeof(privileges->user), user->pw_name);
        privileges->uid = user->pw_uid;
        privileges->gid = user->pw_gid;
        return 0;
}

int privileges_find_group(const char *option, const char *name, gid_t *ret_gid) {
        int r = account_find_group(name, ret_gid);

        if (r < 0)
                log_write(LOG_ERR, "there is no group '%s' on this system; make it, or give another with %s", name,
                          option);
        return r;
}

static bool is_user(uid_t uid) {
        uid_t real, effective, saved;

        return getresuid(&real, &effective, &saved) == 0 && real == uid && effective == uid && saved == uid;
}

static bool is_group(gid_t gid) {
        gid_t real, effective, saved;

        return getresgid(&real, &effective, &saved) == 0 && real == gid && effective == gid && saved == gid;
}

/*
 * Does not request ids that the process already has: a unit's system call filter (~@privileged) refuses even a change
 * that has no effect. If --user names the current user and there is no --group, the group from the service manager
 * (Group=) stays.
 */
static void leave_what_is_right(struct privileges *privileges, bool group_asked) {
        bool may_change = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETGID);

        if (privileges->uid == (uid_t)-1 && privileges->gid == (gid_t)-1)
                return;
        if (privileges->uid != (uid_t)-1 && is_user(privileges->uid)) {
                privileges->uid = (uid_t)-1;
                if (!group_asked && !may_change)
                        privileges->gid = (gid_t)-1;
        }
        if (privileges->gid != (gid_t)-1 && is_group(privileges->gid))
                privileges->gid = (gid_t)-1;
        if (privileges->uid == (uid_t)-1 && !may_change)
                privileges->user[0] = '\0'; /* its supplementary groups cannot be changed either */
}

/* What to change. In a unit, User= and Group= matter as well as the options in ExecStart=. */
static const char *advice(bool in_unit) {
        return in_unit ? "in the unit, set User= and Group= to what the options of ExecStart= ask for, or remove "
                         "--user and --group from ExecStart= (systemctl edit --full shows both)"
                       : "start as root, as that user and group, or without --user and --group";
}

/* Checked here because errors before the fork are easier to see. */
static int check_permitted(const struct privileges *privileges, bool in_unit) {
        if (privileges->uid != (uid_t)-1 && !capng_have_capability(CAPNG_EFFECTIVE, CAP_SETUID)) {
                log_write(LOG_ERR, "cannot become user '%s' (--user): started as uid %u without CAP_SETUID; %s",
                          privileges->user, (unsigned)geteuid(), advice(in_unit));
                return -EPERM;
        }
        if (privileges->gid != (gid_t)-1 && !capng_have_capability(CAPNG_EFFECTIVE, CAP_SETGID)) {
                log_write(LOG_ERR,
                          "cannot take group id %u (of --user or --group): started with group id %u and without "
                          "CAP_SETGID; %s",
                          (unsigned)privileges->gid, (unsigned)getegid(), advice(in_unit));
                return -EPERM;
        }
        return 0;
}

/*
 * NVIDIA's Ansible role puts a command line with --user root into any unit, including ours, which has User=. Running
 * with fewer rights than requested is safe.
 */
static void do_without_root(struct privileges *privileges) {
        if (privileges->uid != 0 || geteuid() == 0)
                return;
        log_write(LOG_WARNING, "--user root is given, but the daemon was started as uid %u: keeping that user",
                  (unsigned)geteuid());
        *privileges = PRIVILEGES_UNCHANGED;
}

int privileges_resolve(struct privileges *ret_privileges, const char *user, const char *group, bool in_unit) {
        struct privileges privileges = PRIVILEGES_UNCHANGED;
        int r = 0;

        if (user)
                r = find_user(user, &privileges);
        if (r == 0)
                do_without_root(&privileges);
        if (r == 0 && group)
                r = privileges_find_group("--group", group, &privileges.gid);
        if (r == 0 && capng_get_caps_process() < 0)
                r = log_errno(LOG_ERR, -EIO, "cannot read the process' capabilities");
        if (r == 0) {
                leave_what_is_right(&privileges, group != NULL);
                r = check_permitted(&privileges, in_unit);
        }
        privileges.user_given = user != NULL;
        if (r == 0)
                *ret_privileges = privileges;
        return r;
}

/* ---- what root keeps ---- */

static bool if_others(const struct privileges *privileges) {
        return privileges->opens_others;
}

static bool if_numa(const struct privileges *privileges) {
        return privileges->onlines_numa;
}

static const char *why_others(const struct privileges *privileges) {
        return privileges->override_reason;
}

static const char *why_numa(const struct privileges *privileges) {
        return "GPU memory must be brought online";
}

static const struct {
        unsigned capability;
        const char *name;
        bool (*is_needed)(const struct privileges *privileges);
        const char *(*reason)(const struct privileges *privileges);
} kept_by_root[] = {
        /* Nodes may belong to another user (NVreg_DeviceFileUID with 0660), and so may the keeper's socket. */
        {CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", if_others, why_others},
        /* For NV_ESC_SET_NUMA_STATUS. The sandbox denies almost everything else that this capability permits. */
        {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", if_numa, why_numa},
};

bool privileges_stay_root(const struct privileges *privileges) {
        return (privileges->uid == (uid_t)-1 ? geteuid() : privileges->uid) == 0;
}

static bool is_kept(const struct privileges *privileges, unsigned capability) {
        for (size_t i = 0; i < ARRAY_SIZE(kept_by_root); i++)
                if (kept_by_root[i].capability == capability)
                        return privileges_stay_root(privileges) && kept_by_root[i].is_needed(privileges);
        return false;
}

/* The running kernel may know fewer capabilities than the headers, or more. */
static bool exists(unsigned capability) {
        return capability < CAPABILITIES_MAX && prctl(PR_CAPBSET_READ, capability) >= 0;
}

/* ---- dropping ---- */

/* Selects only what we had: a container may not have given us everything. */
static void select_kept(const struct privileges *privileges, capng_type_t sets, const bool *had) {
        capng_clear(CAPNG_SELECT_BOTH);
        for (unsigned capability = 0; exists(capability); capability++)
                if (had[capability] && is_kept(privileges, capability))
                        (void)capng_update(CAPNG_ADD, sets, capability);
}

/* Must be first, because it needs CAP_SETPCAP. An ordinary user does not have that; no_new_privs is enough then. */
static int drop_bounding_set(const struct privileges *privileges, const bool *had) {
        if (!had[CAP_SETPCAP])
                return 0;
        select_kept(privileges, CAPNG_BOUNDING_SET, had);
        if (capng_apply(CAPNG_SELECT_BOUNDS) < 0)
                return log_errno(LOG_ERR, -EPERM, "cannot empty the capability bounding set");
        return 0;
}

static bool has_any(unsigned capability) {
        return capng_have_capability(CAPNG_EFFECTIVE, capability) ||
               capng_have_capability(CAPNG_PERMITTED, capability) ||
               capng_have_capability(CAPNG_INHERITABLE, capability) ||
               prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) == 1;
}

static bool has_none(void) {
        if (capng_get_caps_process() < 0)
                return false;
        for (unsigned capability = 0; exists(capability); capability++)
                if (has_any(capability))
                        return false;
        return true;
}

static int drop_capabilities(const struct privileges *privileges, const bool *had) {
        /* If there are none, do nothing: a unit's system call filter may refuse even the attempt. */
        if (has_none())
                return 0;
        /* This also empties the ambient set: the kernel removes what leaves the permitted or the inheritable set. */
        select_kept(privileges, CAPNG_EFFECTIVE | CAPNG_PERMITTED, had);
        if (capng_apply(CAPNG_SELECT_CAPS) < 0)
                return log_errno(LOG_ERR, -EPERM, "cannot drop the capabilities");
        return 0;
}

static int compare_groups(const void *a, const void *b) {
        gid_t left = *(const gid_t *)a, right = *(const gid_t *)b;

        return (left > right) - (left < right);
}

/* Whether the process already has exactly these supplementary groups, in any order. Sorts groups. */
static bool has_groups(gid_t *groups, int n) {
        gid_t own[GROUPS_MAX];
        int n_own = getgroups(ARRAY_SIZE(own), own);

        if (n_own != n)
                return false;
        qsort(own, (size_t)n, sizeof(own[0]), compare_groups);
        qsort(groups, (size_t)n, sizeof(groups[0]), compare_groups);
        return memcmp(own, groups, (size_t)n * sizeof(own[0])) == 0;
}

/* Replaces root's supplementary groups by those of the user (for example video), if one is given. */
static int take_groups(const struct privileges *privileges) {
        gid_t gid = privileges->gid == (gid_t)-1 ? getegid() : privileges->gid;
        gid_t groups[GROUPS_MAX];
        int n = 0;

        if (privileges->user[0] != '\0') {
                n = ARRAY_SIZE(groups);
                if (getgrouplist(privileges->user, gid, groups, &n) < 0)
                        return initgroups(privileges->user, gid); /* too many to compare */
        }
        return has_groups(groups, n) ? 0 : setgroups((size_t)n, groups);
}

/* We have the capability, so only a filter or a user namespace can have refused. */
static int report_refusal(int error, const char *what) {
        return log_errno(LOG_ERR, error,
                         "cannot take %s of --user or --group: the unit's SystemCallFilter= or a user namespace "
                         "refuses it (remove the option, or give the unit User= and Group=)",
                         what);
}

static int take_ids(const struct privileges *privileges, const bool *had) {
        bool asked = privileges->uid != (uid_t)-1 || privileges->gid != (gid_t)-1;
        uid_t uid = privileges->uid;
        gid_t gid = privileges->gid;

        /* A user namespace may forbid this despite the capability. That is an error only if a user or a group was
         * requested. */
        if (had[CAP_SETGID] && take_groups(privileges) < 0 && (asked || errno != EPERM))
                return report_refusal(-errno, "the supplementary groups");
        if (gid != (gid_t)-1 && setresgid(gid, gid, gid) < 0)
                return report_refusal(-errno, "the group");
        if (uid != (uid_t)-1 && setresuid(uid, uid, uid) < 0)
                return report_refusal(-errno, "the user");
        return 0;
}

/* ---- trying to get it back ---- */

static bool regains_root(const struct privileges *privileges) {
        return !privileges_stay_root(privileges) && (setuid(0) == 0 || seteuid(0) == 0);
}

static bool regains_group(const struct privileges *privileges) {
        return getegid() != 0 && (setgid(0) == 0 || setegid(0) == 0);
}

static bool regains_groups(const struct privileges *privileges) {
        const gid_t root = 0;

        return setgroups(1, &root) == 0;
}

/* Requests each capability separately, since the kernel refuses a set as a whole. */
static bool regains_capability(const struct privileges *privileges) {
        for (unsigned capability = 0; exists(capability); capability++) {
                if (is_kept(privileges, capability))
                        continue;
                if (capng_get_caps_process() < 0 || has_any(capability))
                        return true;
                (void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capability);
                if (capng_apply(CAPNG_SELECT_CAPS) == 0)
                        return true;
        }
        return false;
}

/* All of these must fail. If one succeeds, the process ends, so what it has changed does not matter. */
static const struct {
        bool (*regains)(const struct privileges *privileges);
        const char *what;
} attempts[] = {
        {regains_root, "root"},
        {regains_group, "root's group"},
        {regains_groups, "other supplementary groups"},
        {regains_capability, "a capability"},
};

static int try_to_regain(const struct privileges *privileges) {
        for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
                if (attempts[i].regains(privileges)) {
                        log_write(LOG_ERR, "%s could be regained after it was dropped; refusing to run",
                                  attempts[i].what);
                        return -EPERM;
                }
        return 0;
}

/*
 * Logs which capabilities are left. Without --user the daemon stays root, like NVIDIA's, and operators should know what
 * that means.
 */
static void report_root(const struct privileges *privileges) {
        char kept[2 * PATH_MAX] = "";

        if (!privileges_stay_root(privileges) || capng_get_caps_process() < 0)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(kept_by_root); i++)
                if (capng_have_capability(CAPNG_EFFECTIVE, kept_by_root[i].capability))
                        text_append(kept, sizeof(kept), "%s%s (%s)", kept[0] == '\0' ? "" : ", ", kept_by_root[i].name,
                                    kept_by_root[i].reason(privileges));
        log_write(LOG_NOTICE, "Running as root, because %s; capabilities: %s",
                  privileges->user_given ? "--user says so" : "--user was not given", kept[0] == '\0' ? "none" : kept);
}

int privileges_drop(const struct privileges *privileges) {
        bool had[CAPABILITIES_MAX] = {false};
        int r;

        if (capng_get_caps_process() < 0)
                return log_errno(LOG_ERR, -EIO, "cannot read the process' capabilities");
        for (unsigned capability = 0; exists(capability); capability++)
                had[capability] = capng_have_capability(CAPNG_EFFECTIVE, capability) == 1;
        r = drop_bounding_set(privileges, had);
        if (r < 0)
                return r;
        r = take_ids(privileges, had);
        if (r < 0)
                return r;
        r = drop_capabilities(privileges, had);
        if (r < 0)
                return r;
        /*
         * PR_SET_DUMPABLE stays as the kernel sets it: off after a change of user, so other processes of that user
         * cannot trace us; on for root, so operators can read /proc/PID/fd and get core files.
         */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return log_errno(LOG_ERR, -errno, "cannot set no_new_privs");
        r = try_to_regain(privileges);
        if (r == 0)
                report_root(privileges);
        return r;
}
