/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/doctor/listeners.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"

enum {
        STATE_LISTENS = 10, /* TCP_LISTEN (include/net/tcp_states.h), for all kinds of sockets */
        SHOW_USER = 0x40,   /* UDIAG_SHOW_UID and UNIX_DIAG_UID (Linux 5.3): headers may be older */
        ATTRIBUTE_USER = 7,
        MINOR_BITS = 20, /* of a device number as the kernel has it */
        ANSWER_SIZE = 65536,
        ANSWER_SEC = 2,
};

struct sock_query {
        const char *path;
        const struct socket_place *place;
        uid_t owner; /* of the socket's folder; root if that is gone */
        size_t n;
};

static int ask(int fd) {
        const struct {
                struct nlmsghdr header;
                struct unix_diag_req request;
        } message = {
                .header =
                        {
                                .nlmsg_len = sizeof(message),
                                .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                                .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                        },
                .request =
                        {
                                .sdiag_family = AF_UNIX,
                                .udiag_states = 1U << STATE_LISTENS,
                                .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | SHOW_USER,
                        },
        };
        const struct timeval limit = {.tv_sec = ANSWER_SEC};

        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        return send(fd, &message, sizeof(message), 0) < 0 ? -errno : 0;
}

/* ---- one socket ---------------------------------------------------------------------------------------------- */

static bool is_name(const struct sock_query *query, const struct rtattr *attribute) {
        char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = "";
        size_t length = RTA_PAYLOAD(attribute);

        if (length >= sizeof(name))
                return false;
        memcpy(name, RTA_DATA(attribute), length);
        return text_equal(socket_path_without_var(name), socket_path_without_var(query->path));
}

static bool is_device(const struct sock_query *query, const struct rtattr *attribute) {
        struct unix_diag_vfs vfs;
        char device[24];

        if (RTA_PAYLOAD(attribute) < sizeof(vfs))
                return false;
        memcpy(&vfs, RTA_DATA(attribute), sizeof(vfs));
        text_set(device, "%u:%u", vfs.udiag_vfs_dev >> MINOR_BITS, vfs.udiag_vfs_dev & ((1U << MINOR_BITS) - 1));
        return text_equal(device, query->place->device);
}

static bool is_user(const struct sock_query *query, const struct rtattr *attribute) {
        uint32_t uid;

        if (RTA_PAYLOAD(attribute) < sizeof(uid))
                return false;
        memcpy(&uid, RTA_DATA(attribute), sizeof(uid));
        return uid == 0 || uid == query->owner;
}

/* The macros of the headers, NLMSG_NEXT and RTA_NEXT, cast to types of larger alignment. */
static void *next_after(void *item, size_t length) {
        return (char *)item + NLMSG_ALIGN(length); /* RTA_ALIGN is the same */
}

/* Before Linux 5.3 the kernel does not report the user; name and file system decide then. */
static bool is_daemons(const struct sock_query *query, struct nlmsghdr *message) {
        struct unix_diag_msg *socket = NLMSG_DATA(message);
        const char *end = (const char *)message + message->nlmsg_len;
        bool named = false, on_device = false, trusted = true;

        for (struct rtattr *attribute = next_after(socket, sizeof(*socket)); RTA_OK(attribute, end - (char *)attribute);
             attribute = next_after(attribute, attribute->rta_len)) {
                if (attribute->rta_type == UNIX_DIAG_NAME)
                        named = is_name(query, attribute);
                else if (attribute->rta_type == UNIX_DIAG_VFS)
                        on_device = is_device(query, attribute);
                else if (attribute->rta_type == ATTRIBUTE_USER)
                        trusted = is_user(query, attribute);
        }
        return named && on_device && trusted;
}

/* ---- all of them --------------------------------------------------------------------------------------------- */

/* Returns 1 when there is more to come, 0 at the end, or negative errno. */
static int take_messages(struct sock_query *query, char *bytes, size_t size) {
        const char *end = bytes + size;

        for (struct nlmsghdr *message = (void *)bytes; NLMSG_OK(message, end - (char *)message);
             message = next_after(message, message->nlmsg_len)) {
                if (message->nlmsg_type == NLMSG_DONE)
                        return 0;
                if (message->nlmsg_type == NLMSG_ERROR) {
                        const struct nlmsgerr *error = NLMSG_DATA(message);

                        return error->error < 0 ? error->error : -EBADMSG;
                }
                query->n += is_daemons(query, message);
        }
        return 1;
}

int listeners_count(const char *socket_path, const struct socket_place *place, size_t *ret_n) {
        CLEANUP(fd_done) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        CLEANUP(free_ptr) char *bytes = malloc(ANSWER_SIZE);
        struct sock_query query = {.path = socket_path, .place = place};
        char directory[PATH_MAX];
        struct stat status;
        int r;

        if (!bytes)
                return -ENOMEM;
        if (fd < 0)
                return -errno;
        text_set(directory, "%.*s", (int)(strrchr(socket_path, '/') - socket_path), socket_path);
        if (stat(directory, &status) == 0)
                query.owner = status.st_uid;
        r = ask(fd);
        if (r < 0)
                return r;
        do {
                ssize_t count = recv(fd, bytes, ANSWER_SIZE, 0);

                if (count < 0 && errno == EINTR)
                        continue;
                if (count <= 0)
                        return count < 0 ? -errno : -EBADMSG;
                r = take_messages(&query, bytes, (size_t)count);
        } while (r > 0);
        if (r == 0)
                *ret_n = query.n;
        return r;
}
