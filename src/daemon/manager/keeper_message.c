/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "daemon/manager/keeper_message.h"

#include <errno.h>
#include <libgen.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"

/* Room for one descriptor. The kernel closes what does not fit, and sets MSG_CTRUNC. */
union fd_control {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
};

/* address NULL: the socket is connected. */
static int send_message(int socket_fd, struct sockaddr_un *address, struct keeper_message *message, int fd) {
        struct iovec body = {.iov_base = message, .iov_len = sizeof(*message)};
        union fd_control control = {0};
        struct msghdr header = {
                .msg_name = address,
                .msg_namelen = address ? sizeof(*address) : 0,
                .msg_iov = &body,
                .msg_iovlen = 1,
        };

        if (fd >= 0) {
                header.msg_control = control.bytes;
                header.msg_controllen = sizeof(control.bytes);
                control.header = (struct cmsghdr){
                        .cmsg_level = SOL_SOCKET,
                        .cmsg_type = SCM_RIGHTS,
                        .cmsg_len = CMSG_LEN(sizeof(int)),
                };
                memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        }
        return sendmsg(socket_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int keeper_send(int socket_fd, enum keeper_kind kind, uint32_t value, const char *name, int fd) {
        struct keeper_message message = {.kind = kind, .value = value};

        if (name && !text_copy(message.name, sizeof(message.name), name))
                return -ENAMETOOLONG;
        return send_message(socket_fd, NULL, &message, fd);
}

static int received_fd(struct msghdr *header) {
        struct cmsghdr *control = CMSG_FIRSTHDR(header);
        int fd;

        if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
            control->cmsg_len != CMSG_LEN(sizeof(int)))
                return -1;
        memcpy(&fd, CMSG_DATA(control), sizeof(fd));
        return fd;
}

int keeper_receive(int socket_fd, struct keeper_message *ret_message, int *ret_fd) {
        struct keeper_message message = {0};
        struct iovec body = {.iov_base = &message, .iov_len = sizeof(message)};
        union fd_control control;
        struct msghdr header = {
                .msg_iov = &body,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        ssize_t count;

        do
                count = recvmsg(socket_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        while (count < 0 && (errno == EINTR || errno == ECONNRESET)); /* reported once, before queued data */
        if (count < 0)
                return -errno;
        *ret_fd = received_fd(&header);
        if (count == 0 && *ret_fd < 0)
                return -ENOTCONN;
        if (count != sizeof(message) || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                message.kind = 0; /* not a valid message; the caller closes a descriptor that came with it */
        message.name[sizeof(message.name) - 1] = '\0';
        *ret_message = message;
        return message.kind == 0 ? -EBADMSG : 0;
}

static bool is_trusted(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

/*
 * Whether only root or our user can have created the socket: one of them owns it, or only they can create files in its
 * folder.
 */
static bool is_trusted_path(const char *path) {
        char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
        struct stat status;

        if (lstat(path, &status) < 0 || is_trusted(status.st_uid))
                return true; /* if it does not exist, sending fails */
        return text_copy(copy, sizeof(copy), path) && stat(dirname(copy), &status) == 0 && is_trusted(status.st_uid) &&
               (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int keeper_call(const char *path) {
        struct keeper_message message = {.kind = KEEPER_CALL};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP(fd_done) int ours = -1, theirs = -1, fd = -1;
        int ends[2], r;

        if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
                return -ENAMETOOLONG;
        if (!is_trusted_path(path))
                return -EPERM;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        ours = ends[0];
        theirs = ends[1];
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        r = fd < 0 ? -errno : send_message(fd, &address, &message, theirs);
        return r < 0 ? r : take_fd(&ours);
}

bool keeper_trusts(int fd) {
        int domain = 0, type = 0;
        struct ucred peer;
        socklen_t size = sizeof(domain), peer_size = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
               getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET &&
               getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0 && is_trusted(peer.uid);
}

static void replace(char *text, char from, char to) {
        for (; *text != '\0'; text++)
                if (*text == from)
                        *text = to;
}

void keeper_name_format(char *buffer, size_t size, const char *kind, const struct pci_address *address) {
        char text[PCI_ADDRESS_SIZE];

        (void)text_format(buffer, size, "%s-%s", kind, pci_address_format(address, text));
        replace(buffer, ':', '.');
}

bool keeper_name_parse(const char *name, const char *kind, struct pci_address *ret_address) {
        char text[PCI_ADDRESS_SIZE];
        size_t length = strlen(kind);
        char *last;

        if (!text_starts_with(name, kind) || name[length] != '-' || !text_copy(text, sizeof(text), name + length + 1))
                return false;
        last = strrchr(text, '.');
        if (!last)
                return false;
        *last = '\0';
        replace(text, '.', ':');
        *last = '.';
        return pci_address_parse(text, ret_address) == 0;
}
