/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/serve/peer.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5, include/uapi/asm-generic/socket.h; the headers may be older than the kernel */
#endif
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446 /* include/uapi/linux/magic.h */
#endif

/* The kernel recorded the groups, too, when the peer connected. With ERANGE it returns the size that it needs. */
static bool has_supplementary_group(int fd, gid_t gid) {
        CLEANUP(free_ptr) gid_t *groups = NULL;
        socklen_t size_bytes = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size_bytes) == 0 || errno != ERANGE)
                return false;
        groups = malloc(size_bytes);
        if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size_bytes) < 0)
                return false;
        for (size_t i = 0; i < size_bytes / sizeof(*groups); i++)
                if (groups[i] == gid)
                        return true;
        return false;
}

static bool is_admin_by_ids(const struct peer *peer, const struct peer_policy *policy) {
        if (peer->uid == 0)
                return true;
        return policy->has_admin_group &&
               (peer->gid == policy->admin_gid || has_supplementary_group(peer->fd, policy->admin_gid));
}

/*
 * The caller closes the pidfd. Returns -ENOPROTOOPT before Linux 6.5, -ESRCH if the process has ended, or other
 * negative errno.
 */
static int open_pidfd(const struct peer *peer) {
        int pidfd = -1;
        socklen_t size = sizeof(pidfd);

        if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
                return pidfd;
        return errno == EINVAL ? -ESRCH : -errno; /* Linux 6.5 returns EINVAL for a process that was reaped */
}

static struct origin_facts find_facts(const struct peer *peer, int pidfd, enum origin_question question) {
        struct origin_facts facts = {.origin = ORIGIN_UNKNOWN, .pid_namespace = 1};

        if (peer->pid == 0) /* neither in our PID namespace nor below it */
                facts.origin = ORIGIN_ELSEWHERE;
        else if (pidfd >= 0)
                return origin_of_pidfd(pidfd, peer->pid, question);
        else if (pidfd == -ENOPROTOOPT)
                return origin_of_pid(peer->pid, peer->connected_boottime_usec, question);
        else if (pidfd == -ESRCH)
                facts.origin = ORIGIN_GONE;
        return facts;
}

static struct origin_facts ask(const struct peer *peer, enum origin_question question) {
        int pidfd = open_pidfd(peer); /* or negative errno */
        struct origin_facts facts = find_facts(peer, pidfd, question);

        (void)fd_close(pidfd);
        return facts;
}

/* ---- processes that have connected before ---- */

/*
 * A cache, since a monitor may connect every second, and an attacker as fast as possible. From Linux 6.9 on (64-bit),
 * the inode number of a pidfd identifies a process for as long as the system runs. The cached facts decide about
 * session slots, and can refuse a change for good. peer_is_admin() looks again before it permits one.
 */
enum { KNOWN_MAX = 64 };

struct known_process {
        uint64_t inode; /* 0: unused */
        bool is_root;
        struct origin_facts facts;
};

static bool has_names(int pidfd) {
        static int names = -1; /* -1: not known yet; the same for all pidfds */
        struct statfs file_system;

        if (names < 0 && fstatfs(pidfd, &file_system) == 0)
                names = sizeof(ino_t) >= sizeof(uint64_t) && file_system.f_type == PID_FS_MAGIC;
        return names > 0;
}

static uint64_t name_process(int pidfd) {
        struct stat status;

        return pidfd >= 0 && has_names(pidfd) && fstat(pidfd, &status) == 0 ? status.st_ino : 0;
}

void peer_find_origin(struct peer *peer) {
        static struct known_process all[KNOWN_MAX];
        int opened = open_pidfd(peer);
        CLEANUP(fd_done) int pidfd = opened < 0 ? -1 : opened;
        uint64_t inode = name_process(pidfd);
        struct known_process *known = &all[inode % KNOWN_MAX];
        bool is_root = peer->uid == 0;

        if (inode != 0 && known->inode == inode && known->is_root == is_root) {
                peer->facts = known->facts;
                return;
        }
        peer->facts = find_facts(peer, opened, is_root ? ORIGIN_CAPABLE : ORIGIN_WHERE);
        if (inode != 0 && (peer->facts.origin == ORIGIN_BESIDE || peer->facts.origin == ORIGIN_ELSEWHERE))
                *known = (struct known_process){.inode = inode, .is_root = is_root, .facts = peer->facts};
}

/* ---- what is asked ---- */

int peer_read(int fd, struct peer *ret_peer) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        *ret_peer = (struct peer){
                .fd = fd,
                .pid = credentials.pid,
                .uid = credentials.uid,
                .gid = credentials.gid,
                .connected_boottime_usec = clock_usec(CLOCK_BOOTTIME),
                .facts = {.origin = ORIGIN_UNKNOWN},
        };
        return 0;
}

static enum peer_verdict judge(const struct origin_facts *facts) {
        static const enum peer_verdict by_origin[] = {
                [ORIGIN_BESIDE] = PEER_ADMIN,
                [ORIGIN_ELSEWHERE] = PEER_IN_CONTAINER,
                [ORIGIN_GONE] = PEER_GONE,
                [ORIGIN_UNKNOWN] = PEER_UNKNOWN,
        };
        static const enum peer_verdict by_rights[] = {
                [RIGHTS_OF_THE_HOST] = PEER_ADMIN,
                [RIGHTS_OF_A_USER_NAMESPACE] = PEER_IN_USER_NAMESPACE,
                [RIGHTS_TAKEN] = PEER_WITHOUT_RIGHTS,
        };

        return facts->origin == ORIGIN_BESIDE ? by_rights[facts->rights] : by_origin[facts->origin];
}

bool peer_is_host_root(const struct peer *peer) {
        return peer->uid == 0 && judge(&peer->facts) == PEER_ADMIN;
}

enum peer_verdict peer_is_admin(const struct peer *peer, const struct peer_policy *policy) {
        enum peer_verdict known = judge(&peer->facts);
        struct origin_facts facts;

        if (!is_admin_by_ids(peer, policy))
                return PEER_NOT_ROOT;
        if (policy->allow_containers)
                return PEER_ADMIN;
        /* A process never leaves a namespace of a container, but it may raise a capability that it has lowered. */
        if (peer->uid == 0 && known != PEER_ADMIN && known != PEER_WITHOUT_RIGHTS)
                return known;
        /*
         * Look again: if the process that connected has ended, another one may have its connection. A member of the
         * admin group needs no capability, but its bounding set must contain CAP_SYS_ADMIN: that of a container does
         * not, and root of a container can give itself any group.
         */
        facts = ask(peer, peer->uid == 0 ? ORIGIN_CAPABLE : ORIGIN_MAY_BECOME);
        return judge(&facts);
}

const char *peer_verdict_text(enum peer_verdict verdict) {
        static const char *const texts[] = {
                [PEER_ADMIN] = "permitted",
                [PEER_NOT_ROOT] = "only root and members of --admin-group may change persistence",
                [PEER_IN_CONTAINER] = "it is in another PID namespace, and a container's root is not this machine's; "
                                      "--allow-containers permits it",
                [PEER_IN_USER_NAMESPACE] = "it is in another user namespace, whose root is not this machine's; "
                                           "--allow-containers permits it",
                [PEER_WITHOUT_RIGHTS] = "it has no CAP_SYS_ADMIN, like a container that shares this machine's PID "
                                        "namespace; --allow-containers permits it",
                [PEER_GONE] = "it ended before the daemon could find out whether it was in a container",
                [PEER_UNKNOWN] = "/proc does not show whether it is in a container; check that /proc is mounted and "
                                 "belongs to the daemon's PID namespace",
        };

        return texts[verdict];
}
