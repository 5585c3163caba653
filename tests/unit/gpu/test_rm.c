/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * RM calls, on a fake resource manager behind ioctl(), which the linker wraps. It checks which handles are used where
 * and in which order calls come, and it can behave like older drivers.
 */

#include "gpu/rm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "gpu/abi.h"
#include "tests/unit/tree.h"

enum {
        CLIENT = 0xc1d00001,
        DEVICE = 0xcaf00001,
        EVENT = 0xcaf00002,
        INSTANCE = 5, /* neither the minor nor anything of the address */
        QUEUE_MAX = 64,
};

static const struct pci_address address = {.domain = 0, .bus = 0x3b, .slot = 1};

/* ---- the resource manager ---- */

static struct {
        const struct tree *tree;
        bool before_575; /* notifier 3 has another meaning, control 0x502 has 8 bytes */
        bool no_such_notifier;
        bool held; /* this process has the GPU open */
        bool initialised;
        bool legacy;
        uint32_t query_status;
        unsigned interruptions; /* so many calls fail with EINTR */
        int client_fd;          /* 0: no client */
        int event_fd;           /* given in ALLOC_OS_EVENT */
        bool has_event, has_device, subscribed;
        struct nv_system_event queue[QUEUE_MAX];
        size_t n_queued;
} rm;

static void post(uint32_t gpu_id, bool bind) {
        assert_true(rm.n_queued < QUEUE_MAX);
        rm.queue[rm.n_queued++] = (struct nv_system_event){
                .event = NV_NOTIFIER_GPU_BIND_UNBIND,
                .gpu_id = gpu_id,
                .bind = bind,
        };
}

static void *pointer(uint64_t value) {
        return (void *)(uintptr_t)value;
}

static uint32_t alloc_event(const struct nv_rm_alloc *call) {
        const struct nv_event_params *parameters = pointer(call->params);

        assert_int_equal(call->params_size, sizeof(*parameters));
        assert_int_equal(parameters->parent_client, CLIENT);
        assert_int_equal(parameters->source_resource, CLIENT);
        assert_int_equal(parameters->class, NV_CLASS_EVENT_OS);
        /* With data, the descriptor would stay readable until the data is fetched as well. */
        assert_int_equal(parameters->notify_index, NV_NOTIFIER_GPU_BIND_UNBIND | NV_EVENT_WITHOUT_DATA);
        if (rm.event_fd == 0 || (uint64_t)rm.event_fd != parameters->data)
                return NV_ERR_OBJECT_NOT_FOUND;
        rm.has_event = true;
        return NV_OK;
}

static uint32_t alloc_device(const struct nv_rm_alloc *call) {
        const struct nv_device_params *parameters = pointer(call->params);

        assert_int_equal(call->params_size, sizeof(*parameters));
        if (parameters->device_id != INSTANCE)
                return 0x22; /* NV_ERR_INVALID_CLASS: device.c */
        if (!rm.held)
                return NV_ERR_INSUFFICIENT_PERMISSIONS;
        rm.has_device = true;
        return NV_OK;
}

static void alloc(int fd, struct nv_rm_alloc *call) {
        assert_int_equal(call->object, 0);
        if (call->class == NV_CLASS_ROOT_CLIENT) {
                rm.client_fd = fd;
                call->object = CLIENT;
                call->status = NV_OK;
                return;
        }
        assert_int_equal(fd, rm.client_fd);
        assert_int_equal(call->root, CLIENT);
        assert_int_equal(call->parent, CLIENT);
        call->status = call->class == NV_CLASS_EVENT_OS ? alloc_event(call) : alloc_device(call);
        call->object = call->class == NV_CLASS_EVENT_OS ? EVENT : DEVICE;
}

static uint32_t get_id_info(struct nv_gpu_id_info *info) {
        if (!rm.initialised || info->gpu_id != 0x3b01)
                return NV_ERR_INVALID_ARGUMENT;
        info->device_instance = INSTANCE;
        return NV_OK;
}

static uint32_t set_notification(const struct nv_set_notification *wanted) {
        assert_int_equal(wanted->event, NV_NOTIFIER_GPU_BIND_UNBIND);
        assert_int_equal(wanted->action, NV_NOTIFICATION_REPEAT);
        if (rm.no_such_notifier)
                return NV_ERR_INVALID_ARGUMENT;
        if (!rm.has_event)
                return NV_ERR_INVALID_STATE;
        rm.subscribed = true;
        return NV_OK;
}

static uint32_t get_event(struct nv_system_event *event) {
        if (rm.n_queued == 0)
                return NV_ERR_OBJECT_NOT_FOUND;
        *event = rm.queue[0];
        memmove(rm.queue, rm.queue + 1, --rm.n_queued * sizeof(rm.queue[0]));
        return NV_OK;
}

static const struct {
        uint32_t command, size, size_before_575, object;
} sizes[] = {
        {NV_CONTROL_GPU_GET_ID_INFO_V2, 32, 32, CLIENT},
        {NV_CONTROL_EVENT_SET_NOTIFICATION, 8, 8, CLIENT},
        {NV_CONTROL_GET_SYSTEM_EVENT_DATA, 12, 8, CLIENT},
        {NV_CONTROL_QUERY_PERSISTENCE, 4, 4, DEVICE},
};

static uint32_t control(const struct nv_rm_control *call) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                if (sizes[i].command != call->command)
                        continue;
                assert_int_equal(call->object, sizes[i].object);
                if (call->params_size != (rm.before_575 ? sizes[i].size_before_575 : sizes[i].size))
                        return NV_ERR_INVALID_ARGUMENT; /* as 535.261.03 and 550.163.01 do */
        }
        switch (call->command) {
        case NV_CONTROL_GPU_GET_ID_INFO_V2:
                return get_id_info(pointer(call->params));
        case NV_CONTROL_EVENT_SET_NOTIFICATION:
                return set_notification(pointer(call->params));
        case NV_CONTROL_GET_SYSTEM_EVENT_DATA:
                return get_event(pointer(call->params));
        case NV_CONTROL_QUERY_PERSISTENCE:
                assert_true(rm.has_device);
                ((struct nv_persistence *)pointer(call->params))->state = rm.legacy ? 0 : 1;
                return rm.query_status;
        default:
                return NV_ERR_NOT_SUPPORTED;
        }
}

static void alloc_os_event(int fd, struct nv_os_event *event) {
        assert_int_equal(event->client, CLIENT);
        assert_int_equal(event->fd, fd);                      /* the driver wakes the descriptor of the call */
        assert_int_not_equal(fd, rm.client_fd);               /* that one is for RM calls */
        assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0); /* with O_NONBLOCK poll() would never wait */
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        rm.event_fd = fd;
        event->status = NV_OK;
}

int __wrap_ioctl(int fd, unsigned long command, void *argument);

int __wrap_ioctl(int fd, unsigned long command, void *argument) {
        if (rm.interruptions > 0) {
                rm.interruptions--;
                errno = EINTR;
                return -1;
        }
        switch (command) {
        case NV_ESC_RM_ALLOC:
                alloc(fd, argument);
                return 0;
        case NV_ESC_RM_CONTROL: {
                struct nv_rm_control *call = argument;

                assert_int_equal(fd, rm.client_fd);
                assert_int_equal(call->client, CLIENT);
                call->status = control(call);
                return 0;
        }
        case NV_ESC_ALLOC_OS_EVENT:
                alloc_os_event(fd, argument);
                return 0;
        default:
                errno = EINVAL;
                return -1;
        }
}

/* ---- the tests ---- */

static int setup(void **state) {
        int r = tree_setup(state);

        memset(&rm, 0, sizeof(rm));
        rm.tree = *state;
        rm.held = rm.initialised = true;
        tree_put(rm.tree, "/dev/nvidiactl", "");
        return r;
}

static unsigned count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        (void)closedir(dir);
        return n;
}

static struct rm_events *subscribe(void) {
        struct gpu_failure failure = {0};
        struct rm_events *events = NULL;

        if (rm_events_open(&events, &rm.tree->locations, &failure) < 0)
                fail_msg("%s", failure.text);
        assert_true(rm.subscribed);
        assert_int_equal(rm_events_fd(events), rm.event_fd);
        return events;
}

static void notices_are_read_in_their_order(void **state) {
        struct rm_events *events = subscribe();
        struct gpu_failure failure;
        struct rm_event read[8];
        size_t n = 99;

        assert_int_equal(rm_events_read(events, read, 8, &n, &failure), 0);
        assert_int_equal(n, 0);
        post(0x3b01, false);
        post(0x3b01, true);
        assert_int_equal(rm_events_read(events, read, 8, &n, &failure), 0);
        assert_int_equal(n, 2);
        assert_true(rm_event_is_for(&read[0], &address));
        assert_false(read[0].bind);
        assert_true(read[1].bind);
        rm_events_free(events);
}

static void more_notices_than_fit_are_read_in_several_steps(void **state) {
        struct rm_events *events = subscribe();
        struct gpu_failure failure;
        struct rm_event read[4];
        size_t n, total = 0;

        for (uint32_t i = 0; i < 10; i++)
                post(i, true);
        for (; rm_events_read(events, read, 4, &n, &failure) == RM_EVENTS_MORE; total += n)
                assert_int_equal(read[0].gpu_id, total);
        assert_int_equal(total + n, 10);
        rm_events_free(events);
}

static void a_notice_during_the_subscription_is_not_lost(void **state) {
        struct rm_events *events;
        struct gpu_failure failure;
        struct rm_event read[4];
        size_t n;

        post(0x3b01, false);
        post(0x3c00, true);
        events = subscribe();
        assert_int_equal(rm_events_read(events, read, 4, &n, &failure), 0);
        assert_int_equal(n, 2);
        assert_int_equal(read[0].gpu_id, 0x3b01);
        assert_int_equal(read[1].gpu_id, 0x3c00);
        rm_events_free(events);
}

static void notices_before_an_error_are_delivered(void **state) {
        struct rm_events *events;
        struct gpu_failure failure;
        struct rm_event read[4];
        size_t n;

        post(0x3b01, false);
        events = subscribe();
        rm.before_575 = true; /* an error */
        assert_int_equal(rm_events_read(events, read, 4, &n, &failure), RM_EVENTS_MORE);
        assert_int_equal(n, 1);
        assert_int_equal(rm_events_read(events, read, 4, &n, &failure), -EINVAL);
        rm_events_free(events);
}

static void a_driver_without_bind_notices_is_reported_as_unsupported(void **state) {
        unsigned before = count_descriptors();
        struct gpu_failure failure = {0};
        struct rm_events *events = NULL;

        rm.before_575 = true;
        assert_int_equal(rm_events_open(&events, &rm.tree->locations, &failure), -EOPNOTSUPP);
        assert_true(rm.subscribed); /* the subscription succeeds; reading fails */
        assert_int_equal(failure.nv_status, NV_ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(failure.text, "this driver has no bind notices"));
        rm.before_575 = false;
        rm.no_such_notifier = true;
        assert_int_equal(rm_events_open(&events, &rm.tree->locations, &failure), -EOPNOTSUPP);
        assert_null(events);
        assert_int_equal(count_descriptors(), before);
}

static void without_a_driver_calls_fail_with_enoent(void **state) {
        struct gpu_failure failure = {0};
        struct rm_events *events = NULL;
        bool enabled;

        assert_int_equal(unlink(tree_path(rm.tree, "/dev/nvidiactl")), 0);
        assert_int_equal(rm_events_open(&events, &rm.tree->locations, &failure), -ENOENT);
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -ENOENT);
        rm_events_free(events);
}

static void interrupted_calls_are_repeated(void **state) {
        struct rm_events *events;

        rm.interruptions = 3;
        events = subscribe();
        assert_int_equal(rm.interruptions, 0);
        rm_events_free(events);
}

static void no_descriptor_is_left_open(void **state) {
        unsigned before = count_descriptors();
        struct gpu_failure failure;
        bool enabled;

        rm_events_free(subscribe());
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), 0);
        rm.held = false;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -EACCES);
        assert_int_equal(count_descriptors(), before);
}

static void the_legacy_flag_of_a_held_gpu_is_read(void **state) {
        struct gpu_failure failure;
        bool enabled = false;

        rm.legacy = true;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), 0);
        assert_true(enabled);
        rm.legacy = false;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), 0);
        assert_false(enabled);
}

static void the_flag_of_a_gpu_that_is_not_held_is_refused_with_the_reason(void **state) {
        struct gpu_failure failure = {0};
        bool enabled = true;

        rm.held = false;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -EACCES);
        assert_int_equal(failure.nv_status, NV_ERR_INSUFFICIENT_PERMISSIONS);
        assert_non_null(strstr(failure.text, "NV_ERR_INSUFFICIENT_PERMISSIONS"));
        rm.initialised = false;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -ENODEV);
        assert_non_null(strstr(failure.text, "not initialised"));
        assert_true(enabled); /* written only on success */
}

static void a_lost_gpu_and_an_unknown_status_are_reported(void **state) {
        struct gpu_failure failure = {0};
        bool enabled;

        rm.query_status = NV_ERR_GPU_IS_LOST;
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -ENODEV);
        rm.query_status = 0x7777; /* unknown */
        assert_int_equal(rm_query_legacy(&rm.tree->locations, &address, &enabled, &failure), -EIO);
        assert_non_null(strstr(failure.text, "NV_STATUS 0x7777"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, tree_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(notices_are_read_in_their_order),
                TEST(more_notices_than_fit_are_read_in_several_steps),
                TEST(a_notice_during_the_subscription_is_not_lost),
                TEST(notices_before_an_error_are_delivered),
                TEST(a_driver_without_bind_notices_is_reported_as_unsupported),
                TEST(without_a_driver_calls_fail_with_enoent),
                TEST(interrupted_calls_are_repeated),
                TEST(no_descriptor_is_left_open),
                TEST(the_legacy_flag_of_a_held_gpu_is_read),
                TEST(the_flag_of_a_gpu_that_is_not_held_is_refused_with_the_reason),
                TEST(a_lost_gpu_and_an_unknown_status_are_reported),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
