/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "config/account.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/text.h"

/* Room for the group of --admin-group and that of the configuration. A new one replaces the oldest. */
static struct known_group {
        char name[64];
        gid_t gid;
} known_groups[2];

static struct known_group *find_known(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(known_groups); i++)
                if (name[0] != '\0' && text_equal(name, known_groups[i].name))
                        return &known_groups[i];
        return NULL;
}

static void remember(const char *name, gid_t gid) {
        struct known_group known = {.gid = gid}, *place = find_known(name);

        if (!text_copy(known.name, sizeof(known.name), name))
                return;
        if (!place) {
                known_groups[1] = known_groups[0];
                place = &known_groups[0];
        }
        *place = known;
}

/* Names are tried before numbers, because a user or a group may have a name of digits. */
static bool is_number(const char *name, uint64_t *ret_id) {
        return text_parse_u64(name, 10, UINT32_MAX - 1, ret_id) == 0;
}

const struct passwd *account_find_user(const char *name) {
        const struct passwd *user = getpwnam(name);
        uint64_t id;

        return !user && is_number(name, &id) ? getpwuid((uid_t)id) : user;
}

static const struct group *ask(const char *name) {
        const struct group *group = getgrnam(name);
        uint64_t id;

        return !group && is_number(name, &id) ? getgrgid((gid_t)id) : group;
}

int account_find_group(const char *name, gid_t *ret_gid) {
        const struct group *group = ask(name);
        const struct known_group *known = group ? NULL : find_known(name);

        if (!group && !known)
                return -ENOENT;
        if (group)
                remember(name, group->gr_gid);
        *ret_gid = group ? group->gr_gid : known->gid;
        return 0;
}
