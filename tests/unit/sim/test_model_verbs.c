/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The model's bus, UVM and NUMA, and its verbs. */

#include "tests/unit/sim/model_world.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

/* ---- unbind, remove, add, bind ---- */

struct heard {
        struct model_listener listener;
        pthread_mutex_t mutex;
        unsigned n_bind, n_unbind;
        uint32_t last_gpu_id;
};

static void hear(struct model_listener *listener, uint32_t gpu_id, bool bind) {
        struct heard *heard = container_of(listener, struct heard, listener);

        (void)pthread_mutex_lock(&heard->mutex);
        if (bind)
                heard->n_bind++;
        else
                heard->n_unbind++;
        heard->last_gpu_id = gpu_id;
        (void)pthread_mutex_unlock(&heard->mutex);
}

static struct heard *listen_to(struct world *world) {
        static struct heard heard;

        heard = (struct heard){.listener.notify = hear, .mutex = PTHREAD_MUTEX_INITIALIZER};
        model_listen(world->model, &heard.listener);
        return &heard;
}

static void an_unbind_waits_for_the_last_user(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file;
        struct heard *heard;

        world_prepare(&world, 2);
        world_start(&world);
        heard = listen_to(&world);
        file = world_open(&world, 0);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "notice", 0, 1);

        assert_int_equal(world_try_open(&world, 0, false), -ENODEV);
        assert_int_equal(world_try_open(&world, 0, true), -ENODEV);
        assert_false(world_gpu(&world, 0).bound);
        assert_true(world_gpu(&world, 0).probed);
        assert_true(world_gpu(&world, 0).initialised);
        assert_int_equal(model_file_usable(file, NULL), 0);
        world_refused(&world, "unbind", "{'gpu':0}", "being unbound already");
        world_refused(&world, "bind", "{'gpu':0}", "waits for its users");
        assert_int_equal(world_count(&world, "unbound", 0), 0);

        model_close(file);
        assert_true(commander_join(&unbind));
        assert_false(world_gpu(&world, 0).probed);
        assert_int_equal(world_gpu(&world, 0).minor, MODEL_MINOR_NONE);
        assert_true(world_gpu(&world, 0).spec.present);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
        world_refused(&world, "unbind", "{'gpu':0}", "not bound");

        world_do(&world, "bind", "{'gpu':0}");
        assert_int_equal(world_try_open(&world, 0, false), 0);
        assert_int_equal(heard->n_unbind, 1);
        assert_int_equal(heard->n_bind, 1);
        assert_int_equal(heard->last_gpu_id, 0x1700);
        model_unlisten(world.model, &heard->listener);
        world_do(&world, "unbind", "{'gpu':0}");
        assert_int_equal(heard->n_unbind, 1);
}

static void an_older_driver_lists_a_gpu_until_its_last_user_has_closed_it(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file, *late;

        world_prepare(&world, 1);
        strcpy(world.scenario.driver_version, "570.86.15");
        world.scenario.bind_notices = false;
        world_start(&world);
        file = world_open(&world, 0);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "unbind-begun", 0, 1);
        assert_true(world_gpu(&world, 0).bound);
        late = world_open(&world, 0);
        model_close(file);
        assert_true(world_gpu(&world, 0).initialised);
        model_close(late);
        assert_true(commander_join(&unbind));
        assert_int_equal(world_count(&world, "notice", -1), 0);
}

static void deferred_opens_are_refused_once_an_unbind_has_begun(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file;

        world_prepare(&world, 1);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        world_await(&world, "initialising", 0, 1);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "unbind-begun", 0, 1);
        /* The GPU is still listed, because the unbind first waits for the deferred open. */
        assert_int_equal(world_try_open(&world, 0, true), -EBUSY);
        world_do(&world, "hang", "{'gpu':0,'on':false}");
        assert_int_equal(model_file_usable(file, NULL), 0);
        model_close(file);
        assert_true(commander_join(&unbind));
}

static void an_interrupted_unbind_continues_in_the_background(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "notice", 0, 1);
        model_interrupt(world.model, &unbind.wait);
        assert_false(commander_join(&unbind));
        assert_non_null(strstr(unbind.error, "interrupted"));
        assert_non_null(strstr(unbind.error, "pid "));
        model_close(file);
        world_await(&world, "unbound", 0, 1);
}

static void a_stop_ends_an_unbind(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;

        world_prepare(&world, 1);
        world_start(&world);
        (void)world_open(&world, 0);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "notice", 0, 1);
        model_stop(world.model);
        assert_false(commander_join(&unbind));
}

static void an_unbind_tears_down_a_gpu_with_the_legacy_flag(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        world_do(&world, "legacy", "{'gpu':0,'on':true}");
        assert_true(world_gpu(&world, 0).initialised);
        world_do(&world, "unbind", "{'gpu':0}");
        assert_false(world_gpu(&world, 0).initialised);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
        world_do(&world, "bind", "{'gpu':0}");
        assert_false(world_gpu(&world, 0).spec.legacy);
}

static void the_legacy_flag_of_a_gpu_in_use_is_set_without_an_open(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        (void)world_open(&world, 0);
        world_do(&world, "drain", "{'gpu':0,'on':true}"); /* refuses every open */
        world_do(&world, "legacy", "{'gpu':0,'on':true}");
        assert_true(world_gpu(&world, 0).spec.legacy);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
}

static void the_lowest_free_minor_is_reused(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 3);
        world_start(&world);
        world_do(&world, "remove", "{'gpu':0}");
        world_do(&world, "remove", "{'gpu':'0000:2a:00.0'}");
        assert_false(world_gpu(&world, 0).spec.present);
        assert_int_equal(world_try_open(&world, 0, false), -ENODEV);
        world_refused(&world, "bind", "{'gpu':0}", "not on the bus");
        world_do(&world, "add", "{'gpu':1}");
        world_do(&world, "add", "{'gpu':0}");
        assert_int_equal(world_gpu(&world, 0).minor, 1);
        assert_int_equal(world_gpu(&world, 1).minor, 0);
        assert_int_equal(world_gpu(&world, 2).minor, 2);
        world_refused(&world, "add", "{'gpu':0}", "on the bus already");
}

static void an_absent_gpu_is_listed_last_and_can_be_added(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_gpu_view views[SCENARIO_GPUS_MAX];

        world_prepare(&world, 2);
        world.scenario.gpus[0].present = false;
        world_start(&world);
        assert_int_equal(model_list(world.model, views), 2);
        assert_int_equal(views[0].minor, 0);
        assert_int_equal(pci_address_compare(&views[0].spec.address, &world.scenario.gpus[1].address), 0);
        assert_false(views[1].spec.present);
        world_do(&world, "add", "{'gpu':'all'}");
        assert_int_equal(world_gpu(&world, 0).minor, 1);
}

/* ---- UVM ---- */

static struct model_file *open_uvm(struct world *world) {
        struct model_file *file;

        assert_int_equal(model_open(world->model, MODEL_NODE_UVM, 0, false, &world->root, NULL, &file), 0);
        return file;
}

/* The raw bytes of a GPU's UUID. */
static const uint8_t *uuid_of(struct world *world, size_t index) {
        static uint8_t bytes[NV_UUID_SIZE];
        const char *text = world->scenario.gpus[index].uuid + strlen("GPU-");

        for (size_t i = 0; i < NV_UUID_SIZE; i++, text += 2) {
                unsigned value;

                text += *text == '-';
                assert_int_equal(sscanf(text, "%2x", &value), 1);
                bytes[i] = (uint8_t)value;
        }
        return bytes;
}

static void uvm_registers_a_gpu_once_for_each_file(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *uvm;
        const uint8_t *uuid, unknown[NV_UUID_SIZE] = {1};

        world_prepare(&world, 1);
        world_start(&world);
        uuid = uuid_of(&world, 0);
        file = world_open(&world, 0);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_register(uvm, uuid, &world.root, NULL), NV_ERR_ILLEGAL_ACTION);
        assert_int_equal(model_uvm_unregister(uvm, uuid), NV_ERR_ILLEGAL_ACTION);
        assert_int_equal(model_uvm_initialize(uvm, 8), NV_ERR_INVALID_ARGUMENT);
        assert_int_equal(model_uvm_initialize(uvm, UVM_FLAG_MULTI_PROCESS_SHARING), NV_OK);
        assert_int_equal(model_uvm_initialize(uvm, UVM_FLAG_MULTI_PROCESS_SHARING), NV_OK);
        assert_int_equal(model_uvm_initialize(uvm, 0), NV_ERR_INVALID_ARGUMENT);
        assert_int_equal(model_uvm_register(uvm, unknown, &world.root, NULL), NV_ERR_GPU_UUID_NOT_FOUND);
        assert_int_equal(model_uvm_register(uvm, uuid, &world.root, NULL), NV_OK);
        assert_int_equal(model_uvm_register(uvm, uuid, &world.root, NULL), NV_ERR_INVALID_DEVICE);
        assert_int_equal(world_gpu(&world, 0).usage_count, 2);
        assert_int_equal(world_gpu(&world, 0).uvm_registrations, 1);

        /* The registration alone holds the GPU, until its file is closed. */
        model_close(file);
        assert_true(world_gpu(&world, 0).initialised);
        model_close(uvm);
        assert_false(world_gpu(&world, 0).initialised);
        assert_int_equal(world_gpu(&world, 0).uvm_registrations, 0);
}

/* The driver knows the UUID of a GPU only after its first initialisation. */
static void uvm_initialises_one_gpu_after_another_to_find_a_uuid(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *uvm;

        world_prepare(&world, 4);
        world.scenario.gpus[3].fail_opens = -1u;
        world_start(&world);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(uvm, 0), NV_OK);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 1), &world.root, NULL),
                         NV_ERR_INSUFFICIENT_PERMISSIONS);
        for (size_t i = 0; i < 4; i++) {
                assert_int_equal(world_gpu(&world, i).initialisations, i <= 1);
                assert_int_equal(world_gpu(&world, i).teardowns, i <= 1);
        }
        /* This UUID is known now, so no other GPU is touched. */
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL),
                         NV_ERR_INSUFFICIENT_PERMISSIONS);
        assert_int_equal(world_gpu(&world, 0).initialisations, 2);
        assert_int_equal(world_gpu(&world, 1).initialisations, 1);
        /* A GPU that fails to open ends the search. */
        assert_int_equal(model_uvm_register(uvm, (const uint8_t[NV_UUID_SIZE]){1}, &world.root, NULL), NV_ERR_GENERIC);
        assert_int_equal(world_gpu(&world, 2).initialisations, 1);
        model_close(uvm);
}

static void one_of_several_registrations_can_be_ended(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *files[3], *uvm;

        world_prepare(&world, 3);
        world_start(&world);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(uvm, 0), NV_OK);
        for (unsigned i = 0; i < 3; i++) {
                files[i] = world_open(&world, i);
                assert_int_equal(model_uvm_register(uvm, uuid_of(&world, i), &world.root, NULL), NV_OK);
        }
        assert_int_equal(model_uvm_unregister(uvm, uuid_of(&world, 1)), NV_OK);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(world_gpu(&world, i).uvm_registrations, i != 1);
        model_close(uvm);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(world_gpu(&world, i).uvm_registrations, 0);
                model_close(files[i]);
        }
}

/* A blocking call of UVM on its own thread. */
struct uvm_call {
        struct world *world;
        struct model_file *uvm;
        pthread_t thread;
};

static void *register_second(void *argument) {
        struct uvm_call *call = argument;

        (void)model_uvm_register(call->uvm, uuid_of(call->world, 1), &call->world->root, NULL);
        return NULL;
}

static void *close_uvm(void *argument) {
        struct uvm_call *call = argument;

        model_close(call->uvm);
        return NULL;
}

static void a_gpu_can_be_removed_while_the_close_of_its_registration_is_blocked(void **state) {
        CLEANUP(world_done) struct world world;
        struct uvm_call registering = {.world = &world}, closing = {.world = &world};
        struct model_file *file;

        world_prepare(&world, 2);
        world_start(&world);
        file = world_open(&world, 0);
        registering.uvm = open_uvm(&world);
        closing.uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(registering.uvm, 0), NV_OK);
        assert_int_equal(model_uvm_initialize(closing.uvm, 0), NV_OK);
        assert_int_equal(model_uvm_register(closing.uvm, uuid_of(&world, 0), &world.root, NULL), NV_OK);
        /* The first call has UVM's lock; the second records "close" before it waits for the lock. */
        world_do(&world, "hang", "{'gpu':1}");
        assert_int_equal(pthread_create(&registering.thread, NULL, register_second, &registering), 0);
        world_await(&world, "initialising", 1, 1);
        assert_int_equal(pthread_create(&closing.thread, NULL, close_uvm, &closing), 0);
        world_await(&world, "close", -1, 1);
        world_do(&world, "lose", "{'gpu':0,'surprise':true}");
        world_do(&world, "remove", "{'gpu':0}");
        assert_int_equal(world_gpu(&world, 0).uvm_registrations, 0);
        world_do(&world, "hang", "{'gpu':1,'on':false}");
        assert_int_equal(pthread_join(registering.thread, NULL), 0);
        assert_int_equal(pthread_join(closing.thread, NULL), 0);
        model_close(registering.uvm);
        model_close(file);
}

static void a_drain_ends_with_an_unbind(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        world_do(&world, "drain", "{'gpu':0}");
        assert_int_equal(world_try_open(&world, 0, false), -EIO);
        world_do(&world, "unbind", "{'gpu':0}");
        world_do(&world, "bind", "{'gpu':0}");
        assert_int_equal(world_try_open(&world, 0, false), 0);
}

static void uvm_ignores_the_fabric_before_570(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *uvm;

        world_prepare(&world, 1);
        strcpy(world.scenario.driver_version, "550.163.01");
        world.scenario.gpus[0].fabric_delay_usec = 3600 * USEC_PER_SEC;
        world_start(&world);
        file = world_open(&world, 0);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(uvm, 2), NV_OK);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL), NV_OK);
        model_close(uvm);
        model_close(file);
}

static void uvm_requires_that_the_caller_has_the_gpu_open(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *uvm;

        world_prepare(&world, 1);
        world_start(&world);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(uvm, 0), NV_OK);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL),
                         NV_ERR_INSUFFICIENT_PERMISSIONS);
        /* The driver initialises the GPU before it checks the caller. */
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
        file = world_open(&world, 0);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.user, NULL),
                         NV_ERR_INSUFFICIENT_PERMISSIONS);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL), NV_OK);
        assert_int_equal(model_uvm_unregister(uvm, uuid_of(&world, 0)), NV_OK);
        assert_int_equal(model_uvm_unregister(uvm, uuid_of(&world, 0)), NV_ERR_INVALID_DEVICE);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        model_close(file);
        model_close(uvm);
}

static bool has_all_gpus(void *user, pid_t pid, unsigned minor) {
        return pid == *(pid_t *)user;
}

static void a_front_can_report_descriptors_that_were_passed_to_a_process(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        assert_false(model_process_has_gpu(world.model, world.user.pid, 0));
        model_set_process_check(world.model, has_all_gpus, &world.user.pid);
        assert_true(model_process_has_gpu(world.model, world.user.pid, 0));
        assert_false(model_process_has_gpu(world.model, world.user.pid + 1, 0));
}

static void uvm_refuses_until_the_fabric_is_ready(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *uvm;

        world_prepare(&world, 1);
        world.scenario.gpus[0].fabric_delay_usec = 3600 * USEC_PER_SEC;
        world_start(&world);
        file = world_open(&world, 0);
        uvm = open_uvm(&world);
        assert_int_equal(model_uvm_initialize(uvm, 2), NV_OK);
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL),
                         NV_ERR_NVLINK_FABRIC_NOT_READY);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        world_refused(&world, "fabric", "{'gpu':0,'delay':'soon'}", "a time with its unit");
        world_do(&world, "fabric", "{'gpu':0,'delay':'0s'}");
        assert_int_equal(model_uvm_register(uvm, uuid_of(&world, 0), &world.root, NULL), NV_OK);
        model_close(uvm);
        model_close(file);
}

static void uvm_refuses_a_lost_gpu_and_a_gpu_without_uvm(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *files[2];

        world_prepare(&world, 2);
        world.scenario.gpus[1].has_uvm = false;
        world_start(&world);
        files[0] = world_open(&world, 0);
        files[1] = world_open(&world, 1);
        world_do(&world, "lose", "{'gpu':0}");
        assert_int_equal(model_uvm_persistence(files[0], true), NV_ERR_GPU_IS_LOST);
        assert_int_equal(model_uvm_persistence(files[1], true), NV_ERR_NOT_SUPPORTED);
        model_close(files[0]);
        model_close(files[1]);
}

static void uvm_persistence_through_the_simulated_library_can_be_set_and_cleared(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        assert_int_equal(model_uvm_persistence(file, true), NV_OK);
        assert_int_equal(model_uvm_persistence(file, true), NV_OK);
        assert_int_equal(world_gpu(&world, 0).uvm_registrations, 1);
        assert_int_equal(model_uvm_persistence(file, false), NV_OK);
        assert_int_equal(model_uvm_persistence(file, false), NV_OK);
        assert_int_equal(world_gpu(&world, 0).uvm_registrations, 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        model_close(file);
}

static void a_uvm_reference_survives_its_file_once_an_unbind_has_begun(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        assert_int_equal(model_uvm_persistence(file, true), NV_OK);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "notice", 0, 1);
        model_close(file);
        assert_int_equal(world_count(&world, "reference-lost", 0), 1);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        model_interrupt(world.model, &unbind.wait);
        assert_false(commander_join(&unbind));
        assert_int_equal(world_count(&world, "unbound", 0), 0);
}

static void an_older_driver_drops_the_uvm_reference_with_its_file(void **state) {
        CLEANUP(world_done) struct world world;
        struct commander unbind;
        struct model_file *file;

        world_prepare(&world, 1);
        strcpy(world.scenario.driver_version, "580.159.04");
        world_start(&world);
        file = world_open(&world, 0);
        assert_int_equal(model_uvm_persistence(file, true), NV_OK);
        commander_start(&unbind, &world, "unbind", "{'gpu':0}");
        world_await(&world, "notice", 0, 1);
        model_close(file);
        assert_true(commander_join(&unbind));
}

/* ---- attached GPUs ---- */

static void attached_gpus_are_held_by_the_control_file(void **state) {
        CLEANUP(world_done) struct world world;
        static const uint32_t two[] = {0x1700, 0, 0x2a00}, bad[] = {0x1700, 0xdead};
        struct model_file *ctl, *gpu;

        world_prepare(&world, 3);
        world_start(&world);
        assert_int_equal(model_open(world.model, MODEL_NODE_CTL, 255, false, &world.root, NULL, &ctl), 0);
        assert_int_equal(model_attach(ctl, bad, ARRAY_SIZE(bad), &world.root), -EINVAL);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);
        assert_int_equal(model_attach(ctl, two, 0, &world.root), -EINVAL);
        assert_int_equal(model_attach(ctl, two, ARRAY_SIZE(two), &world.root), 0);
        assert_int_equal(model_attach(ctl, two, ARRAY_SIZE(two), &world.root), -EINVAL);
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        assert_int_equal(world_gpu(&world, 1).usage_count, 1);
        assert_int_equal(world_gpu(&world, 2).usage_count, 0);
        model_close(ctl);
        assert_int_equal(world_gpu(&world, 0).teardowns, 2);
        assert_int_equal(world_gpu(&world, 1).usage_count, 0);
        gpu = world_open(&world, 0);
        assert_int_equal(model_attach(gpu, two, ARRAY_SIZE(two), &world.root), -EINVAL);
        model_close(gpu);
}

/* ---- NUMA ---- */

static void memory_is_onlined_at_the_open_where_the_kernel_does_that(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        struct model_numa numa;

        world_prepare(&world, 2);
        world.scenario.gpus[1].numa = NV_NUMA_OFFLINE;
        world.scenario.gpus[1].numa_auto_online = true;
        world_start(&world);
        file = world_open(&world, 1);
        assert_int_equal(model_numa_info(file, &numa), 0);
        assert_int_equal(numa.status, NV_NUMA_ONLINE);
        assert_true(numa.auto_online);
        assert_int_equal(numa.node, 2);
        assert_true(numa.memory_size > 0);
        model_close(file);
        assert_int_equal(world_gpu(&world, 1).numa.status, NV_NUMA_OFFLINE);
        assert_int_equal(world_gpu(&world, 0).numa.status, NV_NUMA_DISABLED);
}

static void only_root_may_set_the_numa_status_and_only_the_sole_user_may_offline(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *other;
        struct model_numa numa;

        world_prepare(&world, 2);
        world.scenario.gpus[0].numa = NV_NUMA_ONLINE;
        world_start(&world);
        file = world_open(&world, 0);
        other = world_open(&world, 0);
        assert_int_equal(model_numa_set(file, &world.user, NV_NUMA_OFFLINE), -EACCES);
        assert_int_equal(model_numa_set(file, &world.root, 7), -EINVAL);
        assert_int_equal(model_numa_set(file, &world.root, -1), -EINVAL);
        assert_int_equal(model_numa_set(file, &world.root, NV_NUMA_ONLINE), 0);
        assert_int_equal(model_numa_set(file, &world.root, NV_NUMA_OFFLINE_IN_PROGRESS), -EBUSY);
        model_close(other);
        assert_int_equal(model_numa_set(file, &world.root, NV_NUMA_OFFLINE_IN_PROGRESS), 0);
        assert_int_equal(model_numa_set(file, &world.root, NV_NUMA_OFFLINE), 0);
        assert_int_equal(model_numa_info(file, &numa), 0);
        assert_int_equal(numa.status, NV_NUMA_OFFLINE);
        model_close(file);
        file = world_open(&world, 1);
        assert_int_equal(model_numa_set(file, &world.root, NV_NUMA_ONLINE), -EINVAL);
        model_close(file);
}

/* ---- what nvidia-smi does ---- */

static json_int_t power_limit(struct world *world, size_t index) {
        json_t *status, *gpu = world_status(world, index, &status);
        json_int_t value = json_integer_value(json_object_get(json_object_get(gpu, "settings"), "power_limit_w"));

        json_decref(status);
        return value;
}

static void a_setting_of_a_gpu_that_nobody_holds_is_lost_at_once(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        json_t *result;

        world_prepare(&world, 1);
        world_start(&world);
        result = world_control(&world, "set", "{'gpu':0,'power_limit_w':400}");
        assert_true(json_is_false(json_object_get(result, "kept")));
        json_decref(result);
        assert_int_equal(power_limit(&world, 0), 700);
        assert_int_equal(world_gpu(&world, 0).initialisations, 1);

        file = world_open(&world, 0);
        result = world_control(&world, "set", "{'gpu':0,'power_limit_w':400,'compute_mode':'prohibited'}");
        assert_true(json_is_true(json_object_get(result, "kept")));
        json_decref(result);
        world_do(&world, "set", "{'gpu':0,'graphics_clock_mhz':'1200','memory_clock_mhz':1593}");
        assert_int_equal(power_limit(&world, 0), 400);
        model_close(file);
        assert_int_equal(power_limit(&world, 0), 700);
}

static void a_setting_out_of_range_is_refused(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world_start(&world);
        world_refused(&world, "set", "{'gpu':0,'power_limit_w':701}", "from 200 to 700");
        world_refused(&world, "set", "{'gpu':0,'power_limit_w':-1}", "from 200 to 700");
        world_refused(&world, "set", "{'gpu':0,'power_limit_w':'much'}", "from 200 to 700");
        world_refused(&world, "set", "{'gpu':0,'power_limit_w':[]}", "must be");
        world_refused(&world, "set", "{'gpu':0,'compute_mode':'fast'}", "Exclusive_Process");
        assert_int_equal(world_gpu(&world, 0).initialisations, 0);
        world_do(&world, "drain", "{'gpu':0}");
        world_refused(&world, "set", "{'gpu':0,'power_limit_w':300}", "EIO");
}

static void a_reset_is_refused_while_anybody_holds_the_gpu(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        json_t *result;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        world_refused(&world, "reset", "{'gpu':0}", "GPU 00000000:17:00.0: In use by another client");
        world_refused(&world, "reset", "{'gpu':0}", "(pid ");
        model_close(file);
        world_do(&world, "lose", "{'gpu':0,'surprise':true}");
        result = world_control(&world, "reset", "{'gpu':'00000000:17:00.0'}");
        assert_string_equal(json_string_value(json_object_get(result, "message")),
                            "GPU 00000000:17:00.0 was successfully reset.");
        json_decref(result);
        assert_int_equal(world_try_open(&world, 0, false), 0);
}

static void descriptors_of_a_gpu_removed_by_surprise_stay_dead(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file, *fresh;

        world_prepare(&world, 1);
        world_start(&world);
        file = world_open(&world, 0);
        world_do(&world, "lose", "{'gpu':0,'surprise':true}");
        world_do(&world, "remove", "{'gpu':0}"); /* returns although the GPU is open */
        assert_int_equal(model_file_usable(file, NULL), -EINVAL);
        assert_int_equal(model_file_poll(file), POLLHUP);
        world_do(&world, "add", "{'gpu':0}");
        assert_int_equal(world_gpu(&world, 0).minor, 0);
        assert_int_equal(world_gpu(&world, 0).usage_count, 0);

        fresh = world_open(&world, 0);
        assert_int_equal(model_file_usable(file, NULL), -EINVAL);
        assert_int_equal(model_file_usable(fresh, NULL), 0);
        model_close(file); /* does not affect the new GPU */
        assert_int_equal(world_gpu(&world, 0).usage_count, 1);
        assert_int_equal(world_gpu(&world, 0).teardowns, 0);
        model_close(fresh);
        assert_int_equal(world_gpu(&world, 0).teardowns, 1);
}

struct told {
        char text[128];
};

static void tell(void *user, const char *action, const struct pci_address *address) {
        struct told *told = user;
        size_t length = strlen(told->text);

        (void)text_format(told->text + length, sizeof(told->text) - length, "%s %02x ", action, address->bus);
}

static void uevents_are_sent_in_the_kernels_order(void **state) {
        CLEANUP(world_done) struct world world;
        struct told told = {0};

        world_prepare(&world, 2);
        world_start(&world);
        model_set_uevents(world.model, tell, &told);
        world_do(&world, "unbind", "{'gpu':1}");
        world_do(&world, "bind", "{'gpu':1}");
        world_do(&world, "remove", "{'gpu':0}");
        world_do(&world, "add", "{'gpu':0}");
        model_set_uevents(world.model, NULL, NULL);
        world_do(&world, "unbind", "{'gpu':0}");
        assert_string_equal(told.text, "unbind 2a bind 2a unbind 17 remove 17 add 17 bind 17 ");
}

static void a_reset_is_refused_while_the_gpu_initialises(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;

        world_prepare(&world, 1);
        world.scenario.gpus[0].hang = true;
        world_start(&world);
        file = world_open_nonblocking(&world, 0);
        world_await(&world, "initialising", 0, 1);
        world_refused(&world, "reset", "{'gpu':0}", "In use");
        model_close(file);
}

/* ---- asking ---- */

static void status_lists_who_has_what_open(void **state) {
        CLEANUP(world_done) struct world world;
        struct model_file *file;
        json_t *status, *gpu, *handles, *handle;

        world_prepare(&world, 2);
        world_start(&world);
        file = world_open(&world, 0);
        assert_int_equal(model_uvm_persistence(file, true), NV_OK);
        gpu = world_status(&world, 0, &status);
        assert_int_equal(json_integer_value(json_object_get(status, "version")), 1);
        assert_string_equal(json_string_value(json_object_get(status, "driver_version")), "595.45.04");
        assert_string_equal(json_string_value(json_object_get(gpu, "address")), "0000:17:00.0");
        assert_string_equal(json_string_value(json_object_get(gpu, "uuid")), world.scenario.gpus[0].uuid);
        assert_true(json_is_true(json_object_get(gpu, "initialised")));
        assert_int_equal(json_integer_value(json_object_get(gpu, "usage_count")), 2);
        assert_int_equal(json_integer_value(json_object_get(gpu, "uvm")), 1);
        handles = json_object_get(gpu, "handles");
        assert_int_equal(json_array_size(handles), 2);
        handle = json_array_get(handles, 0);
        assert_int_equal(json_integer_value(json_object_get(handle, "pid")), world.root.pid);
        assert_string_equal(json_string_value(json_object_get(handle, "node")), "gpu");
        assert_string_equal(json_string_value(json_object_get(handle, "state")), "open");
        assert_string_equal(json_string_value(json_object_get(json_array_get(handles, 1), "node")), "uvm");
        json_decref(status);
        model_close(file);
}

static void invalid_verbs_and_arguments_are_refused_with_a_reason(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 2);
        world_start(&world);
        world_refused(&world, "explode", "{}", "no verb 'explode'");
        world_refused(&world, "reset", "{}", "needs a GPU");
        world_refused(&world, "reset", "{'gpu':2}", "there is no GPU '2'");
        world_refused(&world, "reset", "{'gpu':'nonsense'}", "there is no GPU 'nonsense'");
        world_refused(&world, "reset", "{'gpu':{}}", "gpu must be");
        world_refused(&world, "hang", "{'gpu':0,'on':'perhaps'}", "true or false");
        world_refused(&world, "hang", "{'gpu':0,'which':'lid'}", "open or close");
        world_refused(&world, "fail", "{'gpu':0,'status':'NV_ERR_COFFEE'}", "not an NV_STATUS");
        world_refused(&world, "fail", "{'gpu':0,'errno':'ECOFFEE'}", "not an error");
        world_refused(&world, "fail", "{'gpu':0,'count':-2}", "whole number");
        world_refused(&world, "journal", "{'since':'yesterday'}", "whole number");
        assert_true(model_has_verb("journal"));
        assert_false(model_has_verb("explode"));
        assert_int_equal(world_count(&world, "control-failed", -1), 9); /* unknown verbs are not recorded */
}

static void gpus_are_named_by_index_address_uuid_or_all(void **state) {
        CLEANUP(world_done) struct world world;
        char arguments[128];
        json_t *result;

        world_prepare(&world, 2);
        world_start(&world);
        (void)text_format(arguments, sizeof(arguments), "{'gpu':'%s'}", world.scenario.gpus[1].uuid);
        result = world_control(&world, "drain", arguments);
        assert_string_equal(json_string_value(json_object_get(result, "gpu")), "0000:2a:00.0");
        json_decref(result);
        assert_true(world_gpu(&world, 1).spec.drain);
        assert_false(world_gpu(&world, 0).spec.drain);
        result = world_control(&world, "drain", "{'gpu':'all','on':false}");
        assert_int_equal(json_array_size(json_object_get(result, "gpus")), 2);
        json_decref(result);
        assert_false(world_gpu(&world, 1).spec.drain);
        world_do(&world, "drain", "{'gpu':'2A:00.0'}");
        assert_true(world_gpu(&world, 1).spec.drain);
}

static void the_journal_has_a_limit_and_counts_dropped_records(void **state) {
        enum { NOTES = 12000, ROOM = 10000 };
        CLEANUP(world_done) struct world world;
        json_t *journal, *first;

        world_prepare(&world, 1);
        world_start(&world); /* makes one record, "bound" */
        for (int i = 0; i < NOTES; i++)
                model_note(world.model, &world.user, "note %d", i);
        journal = world_control(&world, "journal", "{'since':1500}");
        assert_int_equal(json_array_size(json_object_get(journal, "records")), ROOM);
        assert_int_equal(json_integer_value(json_object_get(journal, "dropped")), NOTES + 1 - ROOM);
        assert_int_equal(json_integer_value(json_object_get(journal, "last")), NOTES + 1);
        first = json_array_get(json_object_get(journal, "records"), 0);
        assert_int_equal(json_integer_value(json_object_get(first, "seq")), NOTES + 2 - ROOM);
        assert_string_equal(json_string_value(json_object_get(first, "detail")), "note 2000");
        assert_int_equal(json_integer_value(json_object_get(first, "pid")), world.user.pid);
        json_decref(journal);
        journal = world_control(&world, "journal", "{'since':12000}");
        assert_int_equal(json_array_size(json_object_get(journal, "records")), 1);
        json_decref(journal);
}

static void a_wait_for_the_journal_ends_after_its_timeout(void **state) {
        CLEANUP(world_done) struct world world;
        uint64_t before_usec = clock_monotonic_usec();
        json_t *journal;

        world_prepare(&world, 1);
        world_start(&world);
        journal = world_control(&world, "journal", "{'event':'never','timeout':'20ms'}");
        assert_int_equal(json_array_size(json_object_get(journal, "records")), 0);
        assert_true(clock_monotonic_usec() - before_usec >= 20000);
        json_decref(journal);
}

static void unknown_ioctls_are_counted_by_node_and_number(void **state) {
        enum { MANY = 100 };
        CLEANUP(world_done) struct world world;
        json_t *status, *list;

        world_prepare(&world, 1);
        world_start(&world);
        for (unsigned long i = 0; i < MANY; i++)
                model_note_unknown_ioctl(world.model, MODEL_NODE_CTL, &world.root, i);
        model_note_unknown_ioctl(world.model, MODEL_NODE_CTL, &world.root, 3);
        model_note_unknown_ioctl(world.model, MODEL_NODE_GPU, &world.root, 3);
        (void)world_status(&world, 0, &status);
        list = json_object_get(status, "unknown_ioctls");
        assert_int_equal(json_array_size(list), 64);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 3), "count")), 2);
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, 3), "node")), "nvidiactl");
        assert_int_equal(json_integer_value(json_object_get(status, "unknown_ioctls_beyond")), MANY - 64 + 1);
        json_decref(status);
        assert_int_equal(world_count(&world, "ioctl-unknown", -1), MANY + 2);
}

/* ---- events ---- */

static void events_of_a_scenario_happen_in_the_order_of_their_times(void **state) {
        CLEANUP(world_done) struct world world;

        world_prepare(&world, 1);
        world.scenario.events[0] = (struct scenario_event){.at_usec = 40000, .verb = "add", .arguments = "{\"gpu\":0}"};
        world.scenario.events[1] = (struct scenario_event){.verb = "remove", .arguments = "{\"gpu\":0}"};
        world.scenario.events[2] = (struct scenario_event){.at_usec = 20000, .verb = "set", .arguments = "{\"gpu\":9}"};
        world.scenario.events[3] =
                (struct scenario_event){.at_usec = 3600 * USEC_PER_SEC, .verb = "remove", .arguments = "{\"gpu\":0}"};
        world.scenario.n_events = 4;
        world_start(&world);
        world_await(&world, "bound", 0, 2);
        assert_int_equal(world_count(&world, "removed", 0), 1);
        assert_int_equal(world_count(&world, "control-failed", -1), 1);
        assert_true(world_time_usec(&world, "added", 0, 0) >= 40000);
        assert_true(world_time_usec(&world, "control-failed", -1, 0) >= 20000);
        assert_int_equal(world_count(&world, "control", -1), 3);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_front_can_report_descriptors_that_were_passed_to_a_process),
                cmocka_unit_test(a_gpu_can_be_removed_while_the_close_of_its_registration_is_blocked),
                cmocka_unit_test(gpus_are_named_by_index_address_uuid_or_all),
                cmocka_unit_test(descriptors_of_a_gpu_removed_by_surprise_stay_dead),
                cmocka_unit_test(a_uvm_reference_survives_its_file_once_an_unbind_has_begun),
                cmocka_unit_test(a_reset_is_refused_while_anybody_holds_the_gpu),
                cmocka_unit_test(a_reset_is_refused_while_the_gpu_initialises),
                cmocka_unit_test(events_of_a_scenario_happen_in_the_order_of_their_times),
                cmocka_unit_test(a_setting_of_a_gpu_that_nobody_holds_is_lost_at_once),
                cmocka_unit_test(a_setting_out_of_range_is_refused),
                cmocka_unit_test(invalid_verbs_and_arguments_are_refused_with_a_reason),
                cmocka_unit_test(a_wait_for_the_journal_ends_after_its_timeout),
                cmocka_unit_test(an_absent_gpu_is_listed_last_and_can_be_added),
                cmocka_unit_test(an_interrupted_unbind_continues_in_the_background),
                cmocka_unit_test(an_older_driver_drops_the_uvm_reference_with_its_file),
                cmocka_unit_test(an_older_driver_lists_a_gpu_until_its_last_user_has_closed_it),
                cmocka_unit_test(an_unbind_tears_down_a_gpu_with_the_legacy_flag),
                cmocka_unit_test(the_legacy_flag_of_a_gpu_in_use_is_set_without_an_open),
                cmocka_unit_test(an_unbind_waits_for_the_last_user),
                cmocka_unit_test(attached_gpus_are_held_by_the_control_file),
                cmocka_unit_test(deferred_opens_are_refused_once_an_unbind_has_begun),
                cmocka_unit_test(only_root_may_set_the_numa_status_and_only_the_sole_user_may_offline),
                cmocka_unit_test(one_of_several_registrations_can_be_ended),
                cmocka_unit_test(status_lists_who_has_what_open),
                cmocka_unit_test(a_stop_ends_an_unbind),
                cmocka_unit_test(the_journal_has_a_limit_and_counts_dropped_records),
                cmocka_unit_test(memory_is_onlined_at_the_open_where_the_kernel_does_that),
                cmocka_unit_test(the_lowest_free_minor_is_reused),
                cmocka_unit_test(uvm_persistence_through_the_simulated_library_can_be_set_and_cleared),
                cmocka_unit_test(uevents_are_sent_in_the_kernels_order),
                cmocka_unit_test(unknown_ioctls_are_counted_by_node_and_number),
                cmocka_unit_test(a_drain_ends_with_an_unbind),
                cmocka_unit_test(uvm_ignores_the_fabric_before_570),
                cmocka_unit_test(uvm_initialises_one_gpu_after_another_to_find_a_uuid),
                cmocka_unit_test(uvm_refuses_a_lost_gpu_and_a_gpu_without_uvm),
                cmocka_unit_test(uvm_refuses_until_the_fabric_is_ready),
                cmocka_unit_test(uvm_registers_a_gpu_once_for_each_file),
                cmocka_unit_test(uvm_requires_that_the_caller_has_the_gpu_open),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
