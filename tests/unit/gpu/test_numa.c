/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Onlining and offlining GPU memory, on a fake driver and a fake kernel: the linker wraps ioctl(), file_write() and
 * geteuid(). The kernel is a folder of files; a write to `state` or `probe` has the effect that it has in sysfs.
 */

#include "gpu/numa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "gpu/abi.h"
#include "tests/unit/tree.h"

#define MEMORY "/sys/devices/system/memory"

enum {
        BLOCK = 0x10000000, /* 256 MiB, as on POWER9 */
        FIRST = 0x400,      /* the first block of the GPU's memory */
        N_BLOCKS = 4,
};

/* ---- the driver and the kernel ---- */

static struct {
        const struct tree *tree;
        bool old_driver; /* before 535.43.02 */
        bool lost;       /* every ioctl gives EINVAL */
        int32_t status;
        bool auto_online;
        uint64_t size_bytes;
        uint32_t n_bad;
        uint64_t bad[NV_NUMA_OFFLINE_MAX];
        int refuse_errno; /* of a SET_NUMA_STATUS to refuse_status */
        int32_t refuse_status;
        uid_t uid;
        int busy_block;     /* cannot be offlined; -1: none */
        int broken_block;   /* cannot be onlined; -1: none */
        const char *zone;   /* of online memory */
        char journal[4096]; /* what was done, a word for each action */
        uint64_t block_size_told;
} world;

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...) {
        size_t length = strlen(world.journal);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(world.journal + length, sizeof(world.journal) - length, format, arguments);
        va_end(arguments);
}

static void fill_old(struct nv_numa_info_before_535 *info) {
        assert_int_equal(info->n_offline_addresses, NV_NUMA_OFFLINE_MAX);
        info->status = world.status;
        info->memory_address = (uint64_t)FIRST * BLOCK;
        info->memory_size = world.size_bytes;
        info->n_offline_addresses = world.n_bad;
        memcpy(info->offline_addresses, world.bad, sizeof(world.bad));
}

static void fill_new(struct nv_numa_info *info) {
        assert_int_equal(info->n_offline_addresses, NV_NUMA_OFFLINE_MAX);
        info->status = world.status;
        info->use_auto_online = world.auto_online;
        info->memory_address = (uint64_t)FIRST * BLOCK;
        info->memory_size = world.size_bytes;
        info->n_offline_addresses = world.n_bad;
        memcpy(info->offline_addresses, world.bad, sizeof(world.bad));
}

static int set_status(int32_t status) {
        if (world.refuse_errno != 0 && status == world.refuse_status) {
                errno = world.refuse_errno;
                return -1;
        }
        note("status:%d ", status);
        world.status = status;
        return 0;
}

int __wrap_ioctl(int fd, unsigned long command, void *argument);
int __wrap_file_write(const char *path, const char *text);
uid_t __wrap_geteuid(void);

int __wrap_ioctl(int fd, unsigned long command, void *argument) {
        switch (world.lost ? 0 : command) {
        case NV_ESC_SYS_PARAMS:
                world.block_size_told = ((const struct nv_sys_params *)argument)->memblock_size;
                return 0;
        case NV_ESC_SET_NUMA_STATUS:
                return set_status(*(const int32_t *)argument);
        case NV_ESC_NUMA_INFO:
                if (world.old_driver)
                        break;
                fill_new(argument);
                return 0;
        case NV_ESC_NUMA_INFO_BEFORE_535:
                if (!world.old_driver)
                        break;
                fill_old(argument);
                return 0;
        default:
                break;
        }
        errno = EINVAL;
        return -1;
}

uid_t __wrap_geteuid(void) {
        return world.uid;
}

static void put_block(int number, const char *state) {
        char path[128];

        (void)snprintf(path, sizeof(path), MEMORY "/memory%d/state", number);
        tree_put(world.tree, path, state);
        (void)snprintf(path, sizeof(path), MEMORY "/memory%d/valid_zones", number);
        tree_put(world.tree, path, world.zone);
}

static const char *get_block(int number) {
        char path[128];

        (void)snprintf(path, sizeof(path), MEMORY "/memory%d/state", number);
        return tree_get(world.tree, path);
}

static int write_state(int number, const char *text) {
        if (strcmp(text, "online_movable") == 0) {
                if (number == world.broken_block)
                        return -ENOMEM;
                note("+%d ", number);
                put_block(number, "online\n");
                return 0;
        }
        assert_string_equal(text, "offline");
        if (number == world.busy_block)
                return -EBUSY;
        note("-%d ", number);
        put_block(number, "offline\n");
        return 0;
}

int __wrap_file_write(const char *path, const char *text) {
        int number;

        assert_memory_equal(path, world.tree->root, strlen(world.tree->root));
        if (access(path, F_OK) < 0)
                return -errno;
        path += strlen(world.tree->root);
        if (sscanf(path, MEMORY "/memory%d/state", &number) == 1)
                return write_state(number, text);
        if (strcmp(path, MEMORY "/probe") == 0) {
                number = (int)(strtoull(text, NULL, 0) / BLOCK);
                note("?%d ", number);
                put_block(number, "offline\n");
                return 0;
        }
        assert_string_equal(path, MEMORY "/hard_offline_page");
        note("bad:%s ", text);
        return 0;
}

/* ---- the tests ---- */

static const struct pci_address address = {.domain = 4, .bus = 4};

static int setup(void **state) {
        int r = tree_setup(state);

        memset(&world, 0, sizeof(world));
        world.tree = *state;
        world.status = NV_NUMA_OFFLINE;
        world.size_bytes = (uint64_t)N_BLOCKS * BLOCK;
        world.busy_block = world.broken_block = -1;
        world.zone = "Movable\n";
        tree_put(world.tree, "/proc/driver/nvidia/gpus/0004:04:00.0/numa_status", "");
        tree_put(world.tree, MEMORY "/block_size_bytes", "10000000\n");
        tree_put(world.tree, MEMORY "/probe", "");
        tree_put(world.tree, MEMORY "/hard_offline_page", "");
        tree_put(world.tree, "/dev/nvidiactl", "");
        return r;
}

static int set(bool online, struct gpu_failure *failure) {
        CLEANUP(fd_done) int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return numa_set(&world.tree->locations, &address, fd, online, failure);
}

static void set_ok(bool online) {
        struct gpu_failure failure = {0};
        int r = set(online, &failure);

        if (r < 0)
                fail_msg("%s", failure.text);
}

/* Expects this error, and a text that contains these words. */
static void set_fails(bool online, int error, const char *words) {
        struct gpu_failure failure = {0};

        assert_int_equal(set(online, &failure), error);
        assert_int_equal(failure.error, error);
        if (!strstr(failure.text, words))
                fail_msg("\"%s\" is not in \"%s\"", words, failure.text);
}

static void assert_blocks(const char *state) {
        for (int i = 0; i < N_BLOCKS; i++)
                assert_string_equal(get_block(FIRST + i), state);
}

static void memory_is_probed_and_onlined_and_then_the_driver_is_told(void **state) {
        set_ok(true);
        assert_string_equal(world.journal, "status:2 ?1024 ?1025 ?1026 ?1027 +1024 +1025 +1026 +1027 status:3 ");
        assert_blocks("online");
}

static void existing_blocks_are_not_probed(void **state) {
        put_block(FIRST, "offline\n");
        put_block(FIRST + 1, "online\n");
        set_ok(true);
        assert_string_equal(world.journal, "status:2 ?1026 ?1027 +1024 +1026 +1027 status:3 ");
}

static void bad_pages_are_retired_before_the_driver_is_told(void **state) {
        world.n_bad = 2;
        world.bad[0] = (uint64_t)FIRST * BLOCK;
        world.bad[1] = (uint64_t)(FIRST + N_BLOCKS) * BLOCK - 0x10000;
        set_ok(true);
        assert_non_null(strstr(world.journal, "+1027 bad:0x4000000000 bad:0x403fff0000 status:3"));
}

static void a_bad_page_outside_the_gpus_memory_is_refused(void **state) {
        world.n_bad = 1;
        world.bad[0] = (uint64_t)(FIRST + N_BLOCKS) * BLOCK;
        set_fails(true, -ERANGE, "cannot retire the bad page at 0x4040000000");
        assert_null(strstr(world.journal, "bad:"));
        assert_blocks("offline");
        assert_int_equal(world.status, NV_NUMA_ONLINE_FAILED);
}

static void a_driver_before_535_is_supported(void **state) {
        world.old_driver = true;
        world.n_bad = 1;
        world.bad[0] = (uint64_t)FIRST * BLOCK;
        set_ok(true);
        assert_non_null(strstr(world.journal, "bad:0x4000000000 status:3"));
}

static void if_one_block_cannot_be_onlined_all_are_offlined_again(void **state) {
        world.broken_block = FIRST + 2;
        set_fails(true, -ENOMEM, "cannot online memory block memory1026");
        assert_blocks("offline");
        assert_int_equal(world.status, NV_NUMA_ONLINE_FAILED);
        world.broken_block = -1;
        set_ok(true); /* a retry succeeds */
        assert_blocks("online");
}

static void memory_onlined_outside_zone_movable_is_refused(void **state) {
        world.zone = "Normal\n";
        set_fails(true, -EOPNOTSUPP, "auto_online_blocks");
        assert_int_equal(world.status, NV_NUMA_ONLINE_FAILED);
        assert_blocks("offline");
}

static void memory_that_cannot_be_probed_is_refused(void **state) {
        assert_int_equal(unlink(tree_path(world.tree, MEMORY "/probe")), 0);
        set_fails(true, -ENOENT, "probe is missing");
        assert_int_equal(world.status, NV_NUMA_ONLINE_FAILED);
}

static void if_the_driver_refuses_the_online_state_all_blocks_are_offlined_again(void **state) {
        world.refuse_status = NV_NUMA_ONLINE;
        world.refuse_errno = EBUSY;
        set_fails(true, -EBUSY, "the driver refuses to bring its memory online");
        assert_blocks("offline");
        assert_int_equal(world.status, NV_NUMA_ONLINE_FAILED);
}

static void offlining_undoes_onlining(void **state) {
        set_ok(true);
        world.journal[0] = '\0';
        set_ok(false);
        assert_string_equal(world.journal, "status:5 -1024 -1025 -1026 -1027 status:1 ");
        assert_blocks("offline");
}

static void if_pages_are_in_use_all_blocks_are_onlined_again(void **state) {
        set_ok(true);
        world.busy_block = FIRST + 2;
        set_fails(false, -EBUSY, "cannot offline memory block memory1026");
        assert_blocks("online");
        assert_int_equal(world.status, NV_NUMA_OFFLINE_FAILED);
        set_ok(true); /* it can also be set online again */
        assert_int_equal(world.status, NV_NUMA_ONLINE);
}

static void memory_stays_online_while_others_have_the_gpu_open(void **state) {
        set_ok(true);
        world.journal[0] = '\0';
        world.refuse_status = NV_NUMA_OFFLINE_IN_PROGRESS;
        world.refuse_errno = EBUSY;
        set_fails(false, -EBUSY, "others have the GPU open");
        assert_string_equal(world.journal, "");
        assert_blocks("online");
}

static void memory_that_is_already_in_the_wanted_state_is_left_alone(void **state) {
        set_ok(false);
        world.status = NV_NUMA_ONLINE;
        set_ok(true);
        assert_string_equal(world.journal, "");
}

static void nothing_is_done_where_the_kernel_onlines_the_memory_itself(void **state) {
        world.auto_online = true;
        set_ok(true);
        world.auto_online = false;
        world.status = NV_NUMA_DISABLED;
        set_ok(true);
        world.uid = 998;
        set_ok(true);
        assert_string_equal(world.journal, "");
}

static void without_privilege_nothing_is_changed(void **state) {
        world.uid = 998;
        set_fails(true, -EPERM, "as uid 998: Operation not permitted; on this machine user space must do this");
        world.uid = 0;
        world.refuse_status = NV_NUMA_ONLINE_IN_PROGRESS;
        world.refuse_errno = EACCES;
        set_fails(true, -EPERM, "CAP_SYS_ADMIN");
        assert_string_equal(world.journal, "");
}

static void a_transition_begun_by_another_process_is_left_alone(void **state) {
        world.status = NV_NUMA_OFFLINE_IN_PROGRESS;
        set_fails(true, -EALREADY, "offline_failed");
        assert_string_equal(world.journal, "");
}

static void invalid_values_from_the_driver_are_refused(void **state) {
        world.n_bad = NV_NUMA_OFFLINE_MAX + 1;
        set_fails(true, -EBADMSG, "is invalid");
        world.n_bad = 0;
        world.size_bytes = 0;
        set_fails(true, -EBADMSG, "is invalid");
        assert_string_equal(world.journal, "");
        world.size_bytes = BLOCK / 2;
        set_fails(true, -EINVAL, "not a whole number of blocks");
        world.status = NV_NUMA_OFFLINE;
        world.size_bytes = UINT64_MAX - BLOCK + 1;
        set_fails(true, -EINVAL, "not a whole number of blocks");
        assert_string_equal(world.journal, "status:2 status:4 status:2 status:4 ");
}

static void for_a_gpu_without_numa_memory_nothing_is_done(void **state) {
        static const struct pci_address other = {.domain = 5};
        struct gpu_failure failure;

        numa_prepare(&world.tree->locations, &other);
        assert_int_equal(world.block_size_told, 0);
        assert_int_equal(numa_set(&world.tree->locations, &other, -1, true, &failure), 0);
}

static void memory_of_a_released_gpu_cannot_be_onlined(void **state) {
        struct gpu_failure failure;

        assert_int_equal(numa_set(&world.tree->locations, &address, -1, false, &failure), 0);
        assert_int_equal(numa_set(&world.tree->locations, &address, -1, true, &failure), -ENODEV);
        assert_non_null(strstr(failure.text, "persistence mode"));
}

/* Returns what numa_release() returns. */
static int let_go(struct gpu_failure *failure) {
        CLEANUP(fd_done) int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return numa_release(&world.tree->locations, &address, fd, failure);
}

static void a_release_offlines_the_memory_or_fails(void **state) {
        struct gpu_failure failure = {0};

        set_ok(true);
        world.busy_block = FIRST;
        assert_int_equal(let_go(&failure), -EBUSY);
        assert_blocks("online");
        world.busy_block = -1;
        assert_int_equal(let_go(&failure), 0);
        assert_blocks("offline");
        assert_int_equal(world.status, NV_NUMA_OFFLINE);
}

static void a_gpu_whose_driver_does_not_answer_is_released(void **state) {
        struct gpu_failure failure = {0};

        world.status = NV_NUMA_ONLINE;
        world.lost = true;
        assert_int_equal(set(false, &failure), -EINVAL);
        assert_int_equal(let_go(&failure), 0);
        world.lost = false;
        world.auto_online = true;
        assert_int_equal(let_go(&failure), 0);
        assert_int_equal(world.status, NV_NUMA_ONLINE);
        assert_string_equal(world.journal, "");
}

static void the_driver_is_told_the_block_size(void **state) {
        numa_prepare(&world.tree->locations, &address);
        assert_int_equal(world.block_size_told, BLOCK);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, tree_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(memory_is_probed_and_onlined_and_then_the_driver_is_told),
                TEST(existing_blocks_are_not_probed),
                TEST(bad_pages_are_retired_before_the_driver_is_told),
                TEST(a_bad_page_outside_the_gpus_memory_is_refused),
                TEST(a_driver_before_535_is_supported),
                TEST(if_one_block_cannot_be_onlined_all_are_offlined_again),
                TEST(memory_onlined_outside_zone_movable_is_refused),
                TEST(memory_that_cannot_be_probed_is_refused),
                TEST(if_the_driver_refuses_the_online_state_all_blocks_are_offlined_again),
                TEST(offlining_undoes_onlining),
                TEST(if_pages_are_in_use_all_blocks_are_onlined_again),
                TEST(memory_stays_online_while_others_have_the_gpu_open),
                TEST(memory_that_is_already_in_the_wanted_state_is_left_alone),
                TEST(nothing_is_done_where_the_kernel_onlines_the_memory_itself),
                TEST(without_privilege_nothing_is_changed),
                TEST(a_transition_begun_by_another_process_is_left_alone),
                TEST(invalid_values_from_the_driver_are_refused),
                TEST(for_a_gpu_without_numa_memory_nothing_is_done),
                TEST(memory_of_a_released_gpu_cannot_be_onlined),
                TEST(a_release_offlines_the_memory_or_fails),
                TEST(a_gpu_whose_driver_does_not_answer_is_released),
                TEST(the_driver_is_told_the_block_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
