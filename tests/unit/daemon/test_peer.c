/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Who is an admin: real connections from processes with different users, groups and namespaces. */

#include "daemon/serve/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

enum { SOMEBODY = 12345, ADMINS = 23456 };

/* The calling process. All zero: as the test itself. */
struct caller {
        unsigned long clone_flags;
        bool without_rights;
        uid_t uid;
        gid_t gid;
        size_t n_groups;
        const gid_t *groups;
};

struct connection {
        struct peer peer;
        pid_t pid;
};

static int listen_anywhere(struct sockaddr_un *ret_address, socklen_t *ret_size) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t size = sizeof(address);

        assert_true(fd >= 0);
        /* Without a name the kernel chooses a free abstract one. */
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(sa_family_t)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
        assert_int_equal(listen(fd, 1), 0);
        *ret_address = address;
        *ret_size = size;
        return fd;
}

/* As in a container without extra capabilities. A change of the user drops the remaining ones. */
static int give_up_rights(const struct caller *caller) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

        if (prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) < 0)
                return -1;
        return caller->uid != 0 ? 0 : (int)syscall(SYS_capset, &header, none);
}

/* In the child, so without cmocka's assertions. */
static void call_and_wait(const struct caller *caller, const struct sockaddr_un *address, socklen_t size) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (caller->without_rights && give_up_rights(caller) < 0)
                _exit(1);
        if (caller->uid != 0 &&
            (setgroups(caller->n_groups, caller->groups) < 0 || setresgid(caller->gid, caller->gid, caller->gid) < 0 ||
             setresuid(caller->uid, caller->uid, caller->uid) < 0))
                _exit(1);
        if (connect(fd, (const struct sockaddr *)address, size) < 0)
                _exit(1);
        for (;;)
                (void)pause();
}

static struct connection take(const struct caller *caller) {
        struct sockaddr_un address;
        socklen_t size;
        CLEANUP(fd_done) int listener = listen_anywhere(&address, &size);
        struct connection connection;

        if (geteuid() != 0 && (caller->clone_flags || caller->without_rights || caller->uid != 0)) {
                print_message("root is missing: a caller with another uid or namespace requires it\n");
                skip();
        }
        connection.pid = (pid_t)syscall(SYS_clone, caller->clone_flags | SIGCHLD, 0, 0, 0, 0);
        if (connection.pid == 0)
                call_and_wait(caller, &address, size);
        assert_true(connection.pid > 0);
        assert_int_equal(peer_read(accept4(listener, NULL, NULL, SOCK_CLOEXEC), &connection.peer), 0);
        peer_find_origin(&connection.peer);
        assert_int_equal(connection.peer.pid, connection.pid);
        return connection;
}

static void end_caller(const struct connection *connection) {
        assert_int_equal(kill(connection->pid, SIGKILL), 0);
        assert_int_equal(waitpid(connection->pid, NULL, 0), connection->pid);
}

static void drop(struct connection *connection) {
        end_caller(connection);
        connection->peer.fd = fd_close(connection->peer.fd);
}

/* Makes the user who runs the test an admin by its group, so the result does not depend on that user. */
static struct peer_policy our_group(void) {
        return (struct peer_policy){.has_admin_group = true, .admin_gid = getegid()};
}

static void a_member_of_the_admin_group_beside_us_is_an_admin(void **state) {
        const struct peer_policy policy = our_group();
        struct connection connection = take(&(struct caller){0});

        assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_ADMIN);
        drop(&connection);
}

static void under_the_strictest_policy_only_root_is_an_admin(void **state) {
        const struct peer_policy strictest = {0};
        struct connection root = take(&(struct caller){0});
        struct connection other;

        if (geteuid() == 0)
                assert_int_equal(peer_is_admin(&root.peer, &strictest), PEER_ADMIN);
        else
                assert_int_equal(peer_is_admin(&root.peer, &strictest), PEER_NOT_ROOT);
        drop(&root);
        /* A member of group 0: without a configured admin group, that gives no permission. */
        other = take(&(struct caller){.uid = SOMEBODY, .gid = 0});
        assert_int_equal(peer_is_admin(&other.peer, &strictest), PEER_NOT_ROOT);
        drop(&other);
}

static void root_of_another_pid_namespace_is_an_admin_only_if_containers_are_allowed(void **state) {
        struct peer_policy policy = {0};
        struct connection connection = take(&(struct caller){.clone_flags = CLONE_NEWPID});

        assert_int_equal(connection.peer.uid, 0);
        assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_IN_CONTAINER);
        policy.allow_containers = true;
        assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_ADMIN);
        drop(&connection);
}

static void root_in_our_pid_namespace_without_rights_or_in_a_user_namespace_is_not_an_admin(void **state) {
        const struct {
                struct caller caller;
                enum peer_verdict verdict;
        } cases[] = {
                {{.without_rights = true}, PEER_WITHOUT_RIGHTS},
                {{.clone_flags = CLONE_NEWUSER}, PEER_IN_USER_NAMESPACE},
                {{.clone_flags = CLONE_NEWNS}, PEER_ADMIN}, /* as a sandboxed service of the host */
                {{.uid = SOMEBODY, .gid = ADMINS, .without_rights = true}, PEER_WITHOUT_RIGHTS},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct peer_policy policy = {.has_admin_group = true, .admin_gid = ADMINS};
                struct connection connection = take(&cases[i].caller);

                assert_int_equal(peer_is_admin(&connection.peer, &policy), cases[i].verdict);
                assert_int_equal(peer_is_host_root(&connection.peer), i == 2);
                policy.allow_containers = true;
                assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_ADMIN);
                drop(&connection);
        }
}

static void a_caller_that_has_ended_is_not_an_admin(void **state) {
        const struct peer_policy policy = our_group();
        struct connection connection = take(&(struct caller){0});

        end_caller(&connection);
        assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_GONE);
        connection.peer.fd = fd_close(connection.peer.fd);
}

static void a_caller_whose_pid_is_not_visible_is_not_an_admin(void **state) {
        const struct peer_policy policy = {.has_admin_group = true, .admin_gid = ADMINS};
        struct connection connection = take(&(struct caller){.uid = SOMEBODY, .gid = ADMINS});

        connection.peer.pid = 0;
        assert_int_equal(peer_is_admin(&connection.peer, &policy), PEER_IN_CONTAINER);
        drop(&connection);
}

static void any_of_a_callers_groups_may_be_the_admin_group(void **state) {
        const struct peer_policy policy = {.has_admin_group = true, .admin_gid = ADMINS};
        gid_t groups[1000];
        const struct {
                struct caller caller;
                enum peer_verdict verdict;
        } cases[] = {
                {{.uid = SOMEBODY, .gid = ADMINS}, PEER_ADMIN},
                {{.uid = SOMEBODY, .gid = SOMEBODY, .n_groups = ARRAY_SIZE(groups), .groups = groups}, PEER_ADMIN},
                {{.uid = SOMEBODY, .gid = SOMEBODY, .n_groups = ARRAY_SIZE(groups) - 1, .groups = groups},
                 PEER_NOT_ROOT},
                {{.uid = SOMEBODY, .gid = SOMEBODY}, PEER_NOT_ROOT},
                {{.uid = SOMEBODY, .gid = ADMINS, .clone_flags = CLONE_NEWPID}, PEER_IN_CONTAINER},
        };

        for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
                groups[i] = (gid_t)(ADMINS - ARRAY_SIZE(groups) + 1 + i); /* the last is ADMINS */
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct connection connection = take(&cases[i].caller);

                assert_int_equal(peer_is_admin(&connection.peer, &policy), cases[i].verdict);
                drop(&connection);
        }
}

static void every_verdict_has_a_text(void **state) {
        for (int verdict = PEER_ADMIN; verdict <= PEER_UNKNOWN; verdict++)
                assert_true(peer_verdict_text((enum peer_verdict)verdict)[0] != '\0');
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_member_of_the_admin_group_beside_us_is_an_admin),
                cmocka_unit_test(under_the_strictest_policy_only_root_is_an_admin),
                cmocka_unit_test(root_of_another_pid_namespace_is_an_admin_only_if_containers_are_allowed),
                cmocka_unit_test(root_in_our_pid_namespace_without_rights_or_in_a_user_namespace_is_not_an_admin),
                cmocka_unit_test(a_caller_that_has_ended_is_not_an_admin),
                cmocka_unit_test(a_caller_whose_pid_is_not_visible_is_not_an_admin),
                cmocka_unit_test(any_of_a_callers_groups_may_be_the_admin_group),
                cmocka_unit_test(every_verdict_has_a_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
