/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

static int resolve_user(struct privileges *privileges, const char *name) {
        const struct passwd *user;
        uint64_t id;

        errno = 0;
        user = getpwnam(name);
        if (!user && text_parse_u64(name, 10, UINT32_MAX - 1, &id) == 0)
                user = getpwuid((uid_t)id);
        if (!user) {
                log_write(LOG_ERR, "there is no user '%s' on this system; make it, or give another with --user", name);
                return -ENOENT;
        }
        (void)text_copy(privileges->user, sizeof(privileges->user), user->pw_name);
        privileges->uid = user->pw_uid;
        privileges->gid = user->pw_gid;
        return 0;
}

static int resolve_group(struct privileges *privileges, const char *name) {
        const struct group *group;
        uint64_t id;

        errno = 0;
        group = getgrnam(name);
        if (!group && text_parse_u64(name, 10, UINT32_MAX - 1, &id) == 0)
                group = getgrgid((gid_t)id);
        if (!group) {
                log_write(LOG_ERR, "there is no group '%s' on this system; make it, or give another with --group",
                          name);
                return -ENOENT;
        }
        privileges->gid = group->gr_gid;
        return 0;
}

int privileges_resolve(struct privileges *ret_privileges, const char *user, const char *group) {
        struct privileges privileges = {.uid = (uid_t)-1, .gid = (gid_t)-1};
        int r = 0;

        if (user)
                r = resolve_user(&privileges, user);
        if (r == 0 && group)
                r = resolve_group(&privileges, group);
        if (r == 0)
                *ret_privileges = privileges;
        return r;
}

/* Root's supplementary groups must not survive; the user's own (video, say) are wanted. */
static int take_groups(const struct privileges *privileges) {
        if (privileges->user[0] != '\0')
                return initgroups(privileges->user, privileges->gid);
        return setgroups(1, &privileges->gid);
}

static int take_ids(const struct privileges *privileges) {
        uid_t uid = privileges->uid;
        gid_t gid = privileges->gid;

        if (gid != (gid_t)-1 && geteuid() == 0 && take_groups(privileges) < 0)
                return log_errno(LOG_ERR, -errno, "cannot set the supplementary groups");
        if (gid != (gid_t)-1 && setresgid(gid, gid, gid) < 0)
                return log_errno(LOG_ERR, -errno, "cannot take group id %u", (unsigned)gid);
        if (uid != (uid_t)-1 && setresuid(uid, uid, uid) < 0)
                return log_errno(LOG_ERR, -errno, "cannot take user id %u", (unsigned)uid);
        return 0;
}

/* What was dropped must not come back: this must fail. */
static int try_to_regain(const struct privileges *privileges) {
        if (privileges->uid != (uid_t)-1 && privileges->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0)) {
                log_write(LOG_ERR, "root could be had back after it was dropped: not safe to run");
                return -EPERM;
        }
        return 0;
}

int privileges_drop(const struct privileges *privileges) {
        int r;

        r = take_ids(privileges);
        if (r < 0)
                return r;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return log_errno(LOG_ERR, -errno, "cannot set no_new_privs");
        return try_to_regain(privileges);
}
