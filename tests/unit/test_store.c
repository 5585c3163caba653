/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Names in the service manager's store, and what is said to the manager: a socket of the test's own. */

#include "daemon/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/text.h"
#include "daemon/notify.h"
#include "tests/unit/hostile.h"

static const struct pci_address address = {.domain = 0x10000, .bus = 0xaf, .slot = 3};
static const char name[] = "gpu-10000.af.03.0";

/* ---- names ---- */

static void a_name_is_read_back_as_written(void **state) {
        struct pci_address again;
        char buffer[64];

        store_name(buffer, sizeof(buffer), GPU_KIND_DEVICE, &address);
        assert_string_equal(buffer, name);
        assert_null(strchr(buffer, ':')); /* it parts names in LISTEN_FDNAMES */
        assert_true(store_name_parse(buffer, GPU_KIND_DEVICE, &again));
        assert_int_equal(pci_address_compare(&again, &address), 0);
        assert_false(store_name_parse(buffer, GPU_KIND_UVM, &again));
}

static void what_is_no_name_of_ours_is_refused(void **state) {
        static const char *const names[] = {
                "",
                "gpu",
                "gpu-",
                "gpu-0000",
                "gpu-0000.17",
                "gpu-0000.17.00",
                "gpu-0000.17.00.",
                "gpu-0000.17.00.8",
                "gpu-0000.17.20.0",
                "gpu-0000.17.00.0x",
                "gpu 0000.17.00.0",
                "gpux-0000.17.00.0",
                "GPU-0000.17.00.0",
                "gpu-0000.17.00.0.0",
                "gpu-....",
                "gpu-zzzz.17.00.0",
                "stored",
                "gpu-00000000000000000000.17.00.0",
        };
        struct pci_address parsed;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_false(store_name_parse(names[i], GPU_KIND_DEVICE, &parsed));
}

/* Refused, or the name of another GPU. */
static void judge(const uint8_t *bytes, size_t size) {
        char text[sizeof(name)], again[64];
        struct pci_address parsed;

        memcpy(text, bytes, size);
        text[size] = '\0';
        if (!store_name_parse(text, GPU_KIND_DEVICE, &parsed))
                return;
        store_name(again, sizeof(again), GPU_KIND_DEVICE, &parsed);
        assert_true(store_name_parse(again, GPU_KIND_DEVICE, &parsed));
}

static void no_damaged_name_is_misread(void **state) {
        hostile_truncate((const uint8_t *)name, strlen(name), judge);
        hostile_flip((const uint8_t *)name, strlen(name), judge);
}

/* ---- what is said ---- */

static char folder[] = "/tmp/holdfast-store-XXXXXX";
static int manager_fd = -1;

static int listen_as_manager(void **state) {
        struct sockaddr_un socket_address = {.sun_family = AF_UNIX};

        if (!mkdtemp(folder))
                return -1;
        (void)text_format(socket_address.sun_path, sizeof(socket_address.sun_path), "%s/notify", folder);
        manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (bind(manager_fd, (const struct sockaddr *)&socket_address, sizeof(socket_address)) < 0)
                return -1;
        (void)setenv("NOTIFY_SOCKET", socket_address.sun_path, 1);
        notify_open();
        return notify_is_open() && !getenv("NOTIFY_SOCKET") ? 0 : -1;
}

static int leave_as_manager(void **state) {
        char path[sizeof(folder) + 8];

        (void)text_format(path, sizeof(path), "%s/notify", folder);
        manager_fd = fd_close(manager_fd);
        (void)unlink(path);
        (void)rmdir(folder);
        return 0;
}

/* The next message; the descriptor that came with it, or -1. */
static int take_message(char *text, size_t size) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec lines = {.iov_base = text, .iov_len = size - 1};
        struct msghdr message = {
                .msg_iov = &lines,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        ssize_t length = recvmsg(manager_fd, &message, MSG_CMSG_CLOEXEC);
        int fd = -1;

        assert_true(length > 0);
        text[length] = '\0';
        if (message.msg_controllen > 0 && control.header.cmsg_type == SCM_RIGHTS)
                memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
        return fd;
}

static void what_is_kept_is_sent_with_its_name(void **state) {
        CLEANUP(fd_done) int received = -1;
        struct stat sent_status, received_status;
        char text[256];

        store_keeper.keep(&store_keeper, &address, GPU_KIND_DEVICE, manager_fd);
        received = take_message(text, sizeof(text));
        assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=gpu-10000.af.03.0");
        assert_true(received >= 0);
        assert_int_equal(fstat(manager_fd, &sent_status), 0);
        assert_int_equal(fstat(received, &received_status), 0);
        assert_true(sent_status.st_ino == received_status.st_ino);
}

static bool forgotten; /* what forget() has returned; written by its thread, read after a join */

static void *forget(void *data) {
        store_keeper.forget(&store_keeper, &address, GPU_KIND_UVM);
        __atomic_store_n(&forgotten, true, __ATOMIC_SEQ_CST);
        return NULL;
}

static void what_is_forgotten_is_waited_for(void **state) {
        char text[256];
        pthread_t thread;
        int barrier;

        assert_int_equal(pthread_create(&thread, NULL, forget, NULL), 0);
        assert_int_equal(take_message(text, sizeof(text)), -1);
        assert_string_equal(text, "FDSTOREREMOVE=1\nFDNAME=uvm-10000.af.03.0");
        barrier = take_message(text, sizeof(text));
        assert_string_equal(text, "BARRIER=1");
        assert_true(barrier >= 0);
        assert_false(__atomic_load_n(&forgotten, __ATOMIC_SEQ_CST)); /* it has 2 s, and we have the barrier */
        (void)close(barrier);
        assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_name_is_read_back_as_written),  cmocka_unit_test(what_is_no_name_of_ours_is_refused),
                cmocka_unit_test(no_damaged_name_is_misread),      cmocka_unit_test(what_is_kept_is_sent_with_its_name),
                cmocka_unit_test(what_is_forgotten_is_waited_for),
        };

        return cmocka_run_group_tests(tests, listen_as_manager, leave_as_manager);
}
