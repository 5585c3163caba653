/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The model's files: open, deferred open, close, and which calls block each other. */

#include "tests/unit/sim/model_world.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* ---- the life of a GPU ---- */

static void the_first_open_initialises_and_the_last_close_tears_down(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *first, *second;

        world_prepare(&world, 2);
        world_start(&world);
        assert_false(world_gpu(&world, 0).initialised);
        assert_int_equal(world_gpu(&world, 0).adapter_status, NV_ERR_INVALID_STATE);

        first = world_open(&world, 0);
        second = world_open(&world, 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 2);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        assert_int_equal(world_gpu(&world, 0).adapter_status, NV_OK);
        assert_int_equal(world_gpu(&world, 1).initialisations, 0);

        model_close(first);
        assert_true(world_gpu(&world, 0).initialised);
        model_close(second);
        assert_false(world_gpu(&world, 0).initialised);
        assert_true(world_gpu(&world, 0).ever_initialised);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
}

static void a_gpu_can_be_opened_by_its_address(void **state) {
        CLEANUP(world_done) struct world world;
        struct pci_address elsewhere = {.domain = 7};
        struct model_file *file;

        world_prepare(&world, 2);
        world_start(&world);
        assert_int_equal(model_open_address(world.model, &world.scenario.gpus[1].address, &world.root, NULL, &file), 0);
        assert_int_equal(model_file_node(file), MODEL_NODE_GPU);
        assert_ptr_equal(model_file_model(file), world.model);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
        assert_int_equal(world_gpu(&world, 1).usage_count, 1);
        model_close(file);
        assert_int_equal(model_open_address(world.model, &elsewhere, &world.root, NULL, &file), -ENODEV);
}

static void opens_of_the_control_and_uvm_nodes_touch_no_gpu(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *ctl, *uvm;
        uint32_t status = 1;
        int rc = 1;

        world_prepare(&world, 1);
        world_start(&world);
        assert_int_equal(model_open(world.model, MODEL_NODE_CTL, 255, false, &world.user, NULL, &ctl), 0);
        assert_int_equal(model_open(world.model, MODEL_NODE_UVM, 0, false, &world.user, NULL, &uvm), 0);
        assert_int_equal(model_wait_open(ctl, NULL, &rc, &status), 0);
        assert_int_equal(rc, 0);
        assert_int_equal(status, NV_OK);
        assert_int_equal(model_file_usable(ctl, NULL), 0);
        assert_int_equal(model_file_poll(ctl), 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
        model_close(ctl);
        model_close(uvm);
        assert_int_equal(world_gpu(&world, 0).initialisations, 0);
}

static void a_gpu_with_the_legacy_flag_stays_initialised_after_its_last_close(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        assert_false(world_gpu(&world, 0).spec.legacy);
        assert_int_equal(model_legacy_set(world.model, 0, &world.user, true), -EPERM);
        assert_int_equal(model_legacy_set(world.model, 0, &world.root, true), 0);
        assert_true(world_gpu(&world, 0).spec.legacy);
        world_do(&world, "set", "{'gpu':0,'power_limit_w':400}");
        model_close(file);
        assert_true(world_gpu(&world, 0).initialised);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);

        /* It is not initialised again (that would fail), so the settings are kept. */
        world_do(&world, "fail", "{'gpu':0,'count':'all'}");
        file = world_open(&world, 0);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        assert_int_equal(model_legacy_set(world.model, 0, &world.root, false), 0);
        model_close(file);
        assert_false(world_gpu(&world, 0).initialised);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
}

static void a_confidential_gpu_initialises_once_per_reset(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world.scenario.gpus[0].confidential = true;
        world_start(&world);
        assert_int_equal(world_try_open(&world, 0, false), 0);
        assert_int_equal(world_try_open(&world, 0, false), -EIO);
        assert_int_equal(world_gpu(&world, 0).adapter_status, NV_ERR_NOT_SUPPORTED);
        world_do(&world, "reset", "{'gpu':0}");
        assert_int_equal(world_try_open(&world, 0, false), 0);
}

/* ---- errors ---- */

struct open_case {
        const char *what;
        struct scenario_gpu spec;
        bool held; /* opened before the GPU was in this state */
        int result;
        uint32_t adapter_status;
};

static void copy_troubles(struct scenario_gpu *gpu, const struct scenario_gpu *spec) {
        gpu->excluded = spec->excluded;
        gpu->lost = spec->lost;
        gpu->surprise = spec->surprise;
        gpu->coherent = spec->coherent;
        gpu->drain = spec->drain;
        gpu->fail_opens = spec->fail_opens;
}

static void bring_trouble(struct world *world, const struct scenario_gpu *spec) {
        if (spec->surprise)
                world_do(world, "lose", "{'gpu':0,'surprise':true}");
        else if (spec->lost)
                world_do(world, "lose", "{'gpu':0}");
        else if (spec->drain)
                world_do(world, "drain", "{'gpu':0,'on':true}");
        else
                world_do(world, "fail", "{'gpu':0,'count':1}");
}

static void check_open(const struct open_case *expected) {
        CLEANUP(world_done) struct world world;
        struct model_file *held = NULL;
        int result;

        world_prepare(&world, 1);
        if (!expected->held)
                copy_troubles(&world.scenario.gpus[0], &expected->spec);
        world_start(&world);
        if (expected->held) {
                held = world_open(&world, 0);
                bring_trouble(&world, &expected->spec);
        }
        result = world_try_open(&world, 0, false);
        if (result != expected->result)
                fail_msg("%s: %s, expected %s", expected->what, strerrorname_np(-result),
                         strerrorname_np(-expected->result));
        assert_int_equal(world_gpu(&world, 0).adapter_status, expected->adapter_status);
        if (held)
                model_close(held);
}

static void opens_fail_with_the_drivers_errors_in_its_order_of_checks(void **state) {
        /* clang-format off */
        static const struct open_case cases[] = {
                {"excluded",            {.excluded = true},                          false, -EPERM,  NV_ERR_INVALID_STATE},
                {"surprise removal",    {.lost = true, .surprise = true},            false, -ENODEV, NV_ERR_INVALID_STATE},
                {"the same, held",      {.lost = true, .surprise = true},            true,  -ENODEV, NV_OK},
                {"coherent",            {.coherent = true},                          false, -EINVAL, NV_ERR_INVALID_STATE},
                {"drained, cold",       {.drain = true},                             false, -EIO,    NV_ERR_INVALID_STATE},
                {"drained, held",       {.drain = true},                             true,  -EBUSY,  NV_OK},
                {"off the bus, cold",   {.lost = true},                              false, -EIO,    NV_ERR_GPU_IS_LOST},
                {"off the bus, held",   {.lost = true},                              true,  0,       NV_OK},
                {"fails",               {.fail_opens = 1},                           false, -EIO,    NV_ERR_OPERATING_SYSTEM},
                {"would fail, held",    {.fail_opens = 1},                           true,  0,       NV_OK},
                {"excluded before lost", {.excluded = true, .surprise = true},       false, -EPERM,  NV_ERR_INVALID_STATE},
                {"lost before coherent", {.surprise = true, .coherent = true},       false, -ENODEV, NV_ERR_INVALID_STATE},
                {"coherent before drain", {.coherent = true, .drain = true},         false, -EINVAL, NV_ERR_INVALID_STATE},
                {"drain before failure", {.drain = true, .fail_opens = 1},           false, -EIO,    NV_ERR_INVALID_STATE},
        };
        /* clang-format on */

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                check_open(&cases[i]);
}

static void an_open_of_an_unknown_minor_is_enodev(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        assert_int_equal(world_try_open(&world, 1, false), -ENODEV);
        assert_int_equal(world_try_open(&world, 1, true), -ENODEV);
        assert_int_equal(world_try_open(&world, UINT32_MAX, false), -ENODEV);
}

static void a_gpu_fails_to_open_as_often_as_configured(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world.scenario.gpus[0].fail_opens = 2;
        world.scenario.gpus[0].fail_status = NV_ERR_INSUFFICIENT_POWER;
        world.scenario.gpus[0].fail_errno = ENXIO;
        world_start(&world);
        assert_int_equal(world_try_open(&world, 0, false), -ENXIO);
        assert_int_equal(world_try_open(&world, 0, false), -ENXIO);
        assert_int_equal(world_gpu(&world, 0).adapter_status, NV_ERR_INSUFFICIENT_POWER);
        assert_int_equal(world_try_open(&world, 0, false), 0);
        world_do(&world, "fail", "{'gpu':0,'count':'all','status':'0x0f','errno':'EBUSY'}");
        for (int i = 0; i < 3; i++)
                assert_int_equal(world_try_open(&world, 0, false), -EBUSY);
        assert_int_equal(world_gpu(&world, 0).adapter_status, NV_ERR_GPU_IS_LOST);
        world_do(&world, "fail", "{'gpu':0,'count':0}");
        assert_int_equal(world_try_open(&world, 0, false), 0);
}

static void a_gpu_with_coherent_memory_does_not_open_before_the_block_size_is_set(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world.scenario.gpus[0].coherent = true;
        world_start(&world);
        assert_int_equal(world_try_open(&world, 0, false), -EINVAL);
        assert_int_equal(model_set_sys_params(world.model, 0x8000000), 0);
        assert_int_equal(world_try_open(&world, 0, false), 0);
        assert_int_equal(model_set_sys_params(world.model, 0x8000000), 0);
        assert_int_equal(model_set_sys_params(world.model, 0x10000000), -EBUSY);
}

static void ioctls_fail_after_a_surprise_removal(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        assert_int_equal(model_file_usable(file, NULL), 0);
        world_do(&world, "lose", "{'gpu':0}");
        assert_int_equal(model_file_usable(file, NULL),
                         0); /* lost without a surprise removal: the descriptor stays valid */
        world_do(&world, "lose", "{'gpu':0,'surprise':true}");
        assert_int_equal(model_file_usable(file, NULL), -EINVAL);
        assert_int_equal(model_file_poll(file), POLLHUP);
        model_close(file);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
}

/* ---- deferred opens ---- */

static void a_nonblocking_open_of_a_cold_gpu_is_deferred(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *second;
        uint32_t status = 1;
        int rc = 1;

        world_prepare(&world, 1);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        world_await(&world, "initialising", 0, 1);
        assert_int_equal(model_file_poll(file), POLLERR);
        assert_true(world_gpu(&world, 0).initialising);
        second = world_open_nonblocking(&world, 0);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(model_wait_open(file, NULL, &rc, &status), 0);
        assert_int_equal(rc, 0);
        assert_int_equal(status, NV_OK);
        assert_int_equal(model_file_usable(second, NULL), 0);
        assert_int_equal(model_file_poll(second), 0);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        assert_int_equal(world_gpu(&world, 0).usage_count, 2);
        model_close(file);
        model_close(second);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
}

static void a_nonblocking_open_of_an_initialised_gpu_is_not_deferred(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *first, *second;

        world_prepare(&world, 1);
        world_start(&world);
        first = world_open(&world, 0);
        second = world_open_nonblocking(&world, 0);
        assert_int_equal(world_count(&world, "open-deferred", 0), 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 2);
        model_close(first);
        model_close(second);
        /* The legacy flag does not count as initialised for this check of the driver, so the open is deferred. */
        world_do(&world, "legacy", "{'gpu':0,'on':true}");
        second = world_open_nonblocking(&world, 0);
        assert_int_equal(world_count(&world, "open-deferred", 0), 1);
        assert_int_equal(model_file_usable(second, NULL), 0);
        model_close(second);
}

static void a_failed_deferred_open_leaves_a_dead_file(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        uint32_t status = 0;
        int rc = 0;

        world_prepare(&world, 1);
        world.scenario.gpus[0].fail_opens = 1;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        assert_int_equal(model_wait_open(file, NULL, &rc, &status), 0);
        assert_int_equal(rc, -EIO);
        assert_int_equal(status, NV_ERR_OPERATING_SYSTEM);
        assert_int_equal(model_file_usable(file, NULL), -EIO);
        assert_int_equal(model_file_poll(file), POLLERR);
        assert_false(model_process_has_gpu(world.model, world.root.pid, 0));
        model_close(file);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
        assert_int_equal(world_gpu(&world, 0).teardowns, 0);
}

static void an_older_driver_blocks_and_has_no_wait_ioctl(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        uint32_t status;
        int rc;

        world_prepare(&world, 1);
        strcpy(world.scenario.driver_version, "535.183.01");
        world.scenario.nonblocking_open = false;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        assert_int_equal(model_wait_open(file, NULL, &rc, &status), -EINVAL);
        model_close(file);
}

static void a_file_closed_during_its_deferred_open_is_closed_afterwards(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        model_close(world_open_nonblocking(&world, 0));
        assert_int_equal(world_count(&world, "close-deferred", 0), 1);
        assert_int_equal(world_count(&world, "close", 0), 0);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        world_await(&world, "torn-down", 0, 1);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
}

static void a_wait_can_be_interrupted(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_wait wait = {0};
        struct model_file *file, *none;
        uint32_t status;
        int rc;

        world_prepare(&world, 1);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        model_interrupt(world.model, &wait);
        assert_int_equal(model_wait_open(file, &wait, &rc, &status), -EINTR);
        assert_int_equal(model_file_usable(file, &wait), -EINTR);
        assert_int_equal(model_open(world.model, MODEL_NODE_GPU, 0, false, &world.root, &wait, &none), -EINTR);
        model_close(file);
}

/* ---- which calls block each other ---- */

static void a_hanging_open_does_not_block_other_gpus(void **state) {
        CLEANUP(world_done) struct world world;
        struct opener stuck;
        struct model_file *file;

        world_prepare(&world, 2);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        opener_start(&stuck, &world, 0);
        world_await(&world, "initialising", 0, 1);
        file = world_open(&world, 1);
        model_close(file);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(opener_join(&stuck), 0);
        model_close(stuck.file);
}

static void a_confidential_gpu_initialises_under_the_global_lock(void **state) {
        CLEANUP(world_done) struct world world;
        struct opener first, second;

        world_prepare(&world, 2);
        world.scenario.gpus[0].hang = true;
        world.scenario.gpus[0].confidential = true;
        world_start(&world);
        opener_start(&first, &world, 0);
        world_await(&world, "initialising", 0, 1);
        opener_start(&second, &world, 1);
        /* If the second did not wait for the lock, it would be initialised by now. */
        world_await(&world, "initialising", 1, 1);
        assert_int_equal(world_count(&world, "initialised", 1), 0);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(opener_join(&first), 0);
        assert_int_equal(opener_join(&second), 0);
        model_close(first.file);
        model_close(second.file);
}

static void a_second_blocking_open_of_a_busy_gpu_blocks_all_other_opens(void **state) {
        CLEANUP(world_done) struct world world;
        struct opener first, second, other;

        world_prepare(&world, 2);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        opener_start(&first, &world, 0);
        world_await(&world, "initialising", 0, 1);
        opener_start(&second, &world, 0);
        world_await(&world, "open", 0, 2);
        opener_start(&other, &world, 1);
        world_await(&world, "open", 1, 1);
        assert_int_equal(world_count(&world, "initialising", 1), 0);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(opener_join(&first), 0);
        assert_int_equal(opener_join(&second), 0);
        assert_int_equal(opener_join(&other), 0);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        model_close(first.file);
        model_close(second.file);
        model_close(other.file);
}

static void a_second_nonblocking_open_of_a_busy_gpu_blocks_no_other_open(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *first, *second, *other;

        world_prepare(&world, 2);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        first = world_open_nonblocking(&world, 0);
        world_await(&world, "initialising", 0, 1);
        second = world_open_nonblocking(&world, 0);
        other = world_open(&world, 1);
        model_wait_device_list(world.model);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(model_file_usable(second, NULL), 0);
        model_close(first);
        model_close(second);
        model_close(other);
}

static void opens_overlap_except_for_the_time_under_the_lock(void **state) {
        enum { GPUS = 4, LOCK_USEC = 30000, INIT_USEC = 300000 };
        CLEANUP(world_done) struct world world;
        struct opener openers[GPUS];
        uint64_t first_usec, last_usec;

        world_prepare(&world, GPUS);
        for (int i = 0; i < GPUS; i++) {
                world.scenario.gpus[i].lock_usec = LOCK_USEC;
                world.scenario.gpus[i].init_usec = INIT_USEC;
        }
        world_start(&world);
        for (unsigned i = 0; i < GPUS; i++)
                opener_start(&openers[i], &world, i);
        for (int i = 0; i < GPUS; i++) {
                assert_int_equal(opener_join(&openers[i]), 0);
                model_close(openers[i].file);
        }
        first_usec = world_time_usec(&world, "initialising", -1, 0);
        last_usec = world_time_usec(&world, "initialised", -1, GPUS - 1);
        /* Only the time under the lock is serial. If everything was, it would take 1320 ms. */
        assert_true(last_usec - first_usec >= GPUS * LOCK_USEC + INIT_USEC);
        assert_true(last_usec - first_usec < GPUS * (LOCK_USEC + INIT_USEC));
        for (size_t i = 1; i < GPUS; i++)
                assert_true(world_time_usec(&world, "initialised", -1, i) -
                                    world_time_usec(&world, "initialised", -1, 0) + INIT_USEC >=
                            i * LOCK_USEC);
}

static void teardowns_do_not_overlap(void **state) {
        enum { GPUS = 3, TEARDOWN_USEC = 20000 };
        CLEANUP(world_done) struct world world;
        struct model_file *files[GPUS];
        uint64_t before_usec;

        world_prepare(&world, GPUS);
        for (int i = 0; i < GPUS; i++)
                world.scenario.gpus[i].teardown_usec = TEARDOWN_USEC;
        world_start(&world);
        for (unsigned i = 0; i < GPUS; i++)
                files[i] = world_open(&world, i);
        before_usec = clock_monotonic_usec();
        for (int i = 0; i < GPUS; i++)
                model_close(files[i]);
        assert_true(clock_monotonic_usec() - before_usec >= GPUS * TEARDOWN_USEC);
        assert_int_equal(world_count(&world, "torn-down", -1), GPUS);
}

static void *close_on_thread(void *file) {
        model_close(file);
        return NULL;
}

/* A hanging teardown has RM's lock, so no open and no initialisation proceeds. */
static void a_hanging_close_blocks_all_initialisations(void **state) {
        CLEANUP(world_done) struct world world;
        struct opener other, again;
        struct model_file *held;
        pthread_t thread;

        world_prepare(&world, 3);
        world.scenario.gpus[0].hang_close = true;
        world_start(&world);
        held = world_open(&world, 2);
        assert_int_equal(pthread_create(&thread, NULL, close_on_thread, world_open(&world, 0)), 0);
        world_await(&world, "close", 0, 1);
        opener_start(&other, &world, 1);
        world_await(&world, "initialising", 1, 1);
        opener_start(&again, &world, 2);
        world_await(&world, "open", 2, 2);
        assert_int_equal(world_count(&world, "opened", 2), 1);
        assert_int_equal(world_count(&world, "torn-down", 0) + world_count(&world, "initialised", 1), 0);
        world_do(&world, "hang", "{'gpu':0,'on':false,'which':'close'}");
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(opener_join(&other), 0);
        assert_int_equal(opener_join(&again), 0);
        assert_true(world_time_usec(&world, "torn-down", 0, 0) <= world_time_usec(&world, "initialised", 1, 0));
        model_close(other.file);
        model_close(again.file);
        model_close(held);
}

/* Opens two GPUs at the same time. Returns whether the second open entered the driver before the first GPU was
 * initialised, and whether the initialisations overlapped. */
static void open_two(const char *version, bool *ret_let_in, bool *ret_overlapped) {
        CLEANUP(world_done) struct world world;
        struct opener openers[2];
        uint64_t first_usec;

        world_prepare(&world, 2);
        strcpy(world.scenario.driver_version, version);
        world.scenario.gpus[0].init_usec = world.scenario.gpus[1].init_usec = 200 * USEC_PER_MSEC;
        world_start(&world);
        opener_start(&openers[0], &world, 0);
        world_await(&world, "initialising", 0, 1);
        opener_start(&openers[1], &world, 1);
        assert_int_equal(opener_join(&openers[0]), 0);
        assert_int_equal(opener_join(&openers[1]), 0);
        first_usec = world_time_usec(&world, "initialised", 0, 0);
        *ret_let_in = world_time_usec(&world, "open", 1, 0) < first_usec;
        *ret_overlapped = world_time_usec(&world, "initialised", 1, 0) < first_usec + 200 * USEC_PER_MSEC;
        model_close(openers[0].file);
        model_close(openers[1].file);
}

static void before_545_opens_are_serial_and_before_550_initialisations_are(void **state) {
        static const struct {
                const char *version;
                bool let_in, overlapped;
        } cases[] = {
                {"535.261.03", false, false}, {"545.29.06", true, false}, {"550.163.01", true, true},
                {"575.64.05", true, true},    {"590.48.01", true, true},  {"595.45.04", true, true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool let_in, overlapped;

                open_two(cases[i].version, &let_in, &overlapped);
                assert_int_equal(let_in, cases[i].let_in);
                assert_int_equal(overlapped, cases[i].overlapped);
        }
}

/* ---- the end ---- */

static void a_stop_ends_every_blocked_call(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *deferred, *none;
        struct opener stuck, behind;
        uint32_t status;
        int rc;

        world_prepare(&world, 3);
        world.scenario.gpus[0].hang = true;
        world.scenario.gpus[1].init_usec = 3600 * USEC_PER_SEC;
        world_start(&world);
        opener_start(&stuck, &world, 0);
        world_await(&world, "initialising", 0, 1);
        deferred = world_open_nonblocking(&world, 1);
        opener_start(&behind, &world, 0);
        world_await(&world, "open", 0, 2);
        model_stop(world.model);
        assert_int_equal(opener_join(&stuck), -ESHUTDOWN);
        assert_int_equal(opener_join(&behind), -ESHUTDOWN);
        rc = model_wait_open(deferred, NULL, &rc, &status);
        assert_true(rc == 0 || rc == -ESHUTDOWN);
        model_close(deferred);
        assert_int_equal(model_open(world.model, MODEL_NODE_GPU, 2, false, &world.root, NULL, &none), -ESHUTDOWN);
        assert_int_equal(model_open(world.model, MODEL_NODE_CTL, 255, false, &world.root, NULL, &none), -ESHUTDOWN);
        assert_int_equal(world_gpu(&world, 0).initialisations, 0);
}

static void files_left_open_are_freed_with_the_model(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *uvm;

        world_prepare(&world, 2);
        world.scenario.gpus[1].hang = true;
        world_start(&world);
        (void)world_open(&world, 0);
        (void)world_open_nonblocking(&world, 1);
        assert_int_equal(model_open(world.model, MODEL_NODE_UVM, 0, false, &world.root, NULL, &uvm), 0);
        assert_int_equal(model_uvm_persistence(world_open(&world, 0), true), NV_OK);
}

/* ---- everything at once ---- */

struct worker {
        struct world *world;
        unsigned seed;
        pthread_t thread;
};

static void *work(void *argument) {
        enum { ROUNDS = 150 };
        struct worker *worker = argument;
        struct world *world = worker->world;

        for (int i = 0; i < ROUNDS; i++) {
                unsigned choice = (unsigned)rand_r(&worker->seed);
                struct model_gpu_view views[SCENARIO_GPUS_MAX];
                struct model_file *file = NULL;

                (void)model_list(world->model, views);
                if (model_open(world->model, MODEL_NODE_GPU, choice % 3, choice & 8, &world->root, NULL, &file) < 0)
                        continue;
                if (choice & 16)
                        (void)model_file_usable(file, NULL);
                if (choice & 32)
                        (void)model_uvm_persistence(file, true);
                model_close(file);
        }
        return NULL;
}

static void after_many_concurrent_calls_all_counts_are_balanced(void **state) {
        enum { WORKERS = 8 };
        CLEANUP(world_done) struct world world;
        struct worker workers[WORKERS];

        world_prepare(&world, 3);
        world.scenario.gpus[1].lock_usec = 50;
        world.scenario.gpus[2].fail_opens = 20;
        world_start(&world);
        for (unsigned i = 0; i < WORKERS; i++) {
                workers[i] = (struct worker){.world = &world, .seed = i + 1};
                assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (int i = 0; i < WORKERS; i++)
                assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        /* An unbind also waits for deferred opens and closes. */
        world_do(&world, "unbind", "{'gpu':'all'}");
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(world_gpu(&world, i).usage_count, 0);
                assert_int_equal(world_gpu(&world, i).uvm_registrations, 0);
                assert_int_equal(world_gpu(&world, i).initialisations, world_gpu(&world, i).teardowns);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_hanging_close_blocks_all_initialisations),
                cmocka_unit_test(a_confidential_gpu_initialises_once_per_reset),
                cmocka_unit_test(a_confidential_gpu_initialises_under_the_global_lock),
                cmocka_unit_test(a_failed_deferred_open_leaves_a_dead_file),
                cmocka_unit_test(a_file_closed_during_its_deferred_open_is_closed_afterwards),
                cmocka_unit_test(a_gpu_fails_to_open_as_often_as_configured),
                cmocka_unit_test(a_gpu_can_be_opened_by_its_address),
                cmocka_unit_test(a_hanging_open_does_not_block_other_gpus),
                cmocka_unit_test(a_gpu_with_the_legacy_flag_stays_initialised_after_its_last_close),
                cmocka_unit_test(a_nonblocking_open_of_a_cold_gpu_is_deferred),
                cmocka_unit_test(a_nonblocking_open_of_an_initialised_gpu_is_not_deferred),
                cmocka_unit_test(a_second_blocking_open_of_a_busy_gpu_blocks_all_other_opens),
                cmocka_unit_test(a_second_nonblocking_open_of_a_busy_gpu_blocks_no_other_open),
                cmocka_unit_test(a_wait_can_be_interrupted),
                cmocka_unit_test(an_older_driver_blocks_and_has_no_wait_ioctl),
                cmocka_unit_test(an_open_of_an_unknown_minor_is_enodev),
                cmocka_unit_test(a_gpu_with_coherent_memory_does_not_open_before_the_block_size_is_set),
                cmocka_unit_test(opens_of_the_control_and_uvm_nodes_touch_no_gpu),
                cmocka_unit_test(opens_fail_with_the_drivers_errors_in_its_order_of_checks),
                cmocka_unit_test(files_left_open_are_freed_with_the_model),
                cmocka_unit_test(ioctls_fail_after_a_surprise_removal),
                cmocka_unit_test(after_many_concurrent_calls_all_counts_are_balanced),
                cmocka_unit_test(opens_overlap_except_for_the_time_under_the_lock),
                cmocka_unit_test(before_545_opens_are_serial_and_before_550_initialisations_are),
                cmocka_unit_test(a_stop_ends_every_blocked_call),
                cmocka_unit_test(teardowns_do_not_overlap),
                cmocka_unit_test(the_first_open_initialises_and_the_last_close_tears_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
