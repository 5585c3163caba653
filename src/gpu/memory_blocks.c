/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "gpu/memory_blocks.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/locations.h"
#include "base/log.h"
#include "base/text.h"
#include "gpu/abi.h"

#define MEMORY "/sys/devices/system/memory"

/* The blocks of a range: numbers first to end - 1. */
struct blocks {
        const struct locations *locations;
        uint64_t size_bytes;
        uint64_t first, end;
};

static int block_path(const struct blocks *blocks, uint64_t number, const char *file, char path[static PATH_MAX]) {
        char relative[128];

        (void)text_format(relative, sizeof(relative), MEMORY "/memory%" PRIu64 "/%s", number, file);
        return locations_path(path, blocks->locations, relative);
}

/* ---- reading the blocks ---- */

int memory_block_size(const struct locations *locations, uint64_t *ret_size_bytes) {
        char path[PATH_MAX], text[64];
        ssize_t length;
        uint64_t size_bytes;
        int r;

        r = locations_path(path, locations, MEMORY "/block_size_bytes");
        if (r < 0)
                return r;
        length = file_read(path, text, sizeof(text));
        if (length < 0)
                return (int)length;
        r = text_parse_u64(text_trim(text), 16, UINT64_MAX, &size_bytes); /* hexadecimal, without 0x */
        if (r < 0 || size_bytes == 0)
                return -EBADMSG;
        *ret_size_bytes = size_bytes;
        return 0;
}

static int find_blocks(const struct locations *locations, const struct memory_range *range, struct blocks *ret_blocks,
                       struct gpu_failure *ret_failure) {
        uint64_t size_bytes, end;
        int r;

        r = memory_block_size(locations, &size_bytes);
        if (r < 0)
                return gpu_failure_explain(ret_failure, r, NV_OK, "the kernel needs CONFIG_MEMORY_HOTPLUG",
                                           "cannot read " MEMORY "/block_size_bytes");
        if (range->size_bytes == 0 || range->address % size_bytes != 0 || range->size_bytes % size_bytes != 0 ||
            __builtin_add_overflow(range->address, range->size_bytes, &end))
                return gpu_failure_explain(ret_failure, -EINVAL, NV_OK, NULL,
                                           "memory 0x%" PRIx64 "+0x%" PRIx64
                                           " is not a whole number of blocks of 0x%" PRIx64,
                                           range->address, range->size_bytes, size_bytes);
        *ret_blocks = (struct blocks){
                .locations = locations,
                .size_bytes = size_bytes,
                .first = range->address / size_bytes,
                .end = end / size_bytes,
        };
        return 0;
}

/* Reads the first line of a block's file. Returns 0 or negative errno. */
static int read_block(const struct blocks *blocks, uint64_t number, const char *file, char *text, size_t size) {
        char path[PATH_MAX];
        ssize_t length;
        int r;

        r = block_path(blocks, number, file, path);
        if (r < 0)
                return r;
        length = file_read(path, text, size);
        if (length < 0)
                return (int)length;
        text[strcspn(text, "\n")] = '\0';
        return 0;
}

/* ---- one block ---- */

typedef int (*block_step)(const struct blocks *blocks, uint64_t number);

/* Makes the kernel look for the block's memory, if the platform does not announce it (POWER9). */
static int probe_block(const struct blocks *blocks, uint64_t number) {
        char path[PATH_MAX], text[32];
        int r;

        r = block_path(blocks, number, "state", path);
        if (r < 0)
                return r;
        if (access(path, F_OK) == 0)
                return 0;
        r = locations_path(path, blocks->locations, MEMORY "/probe");
        if (r < 0)
                return r;
        (void)text_format(text, sizeof(text), "0x%" PRIx64, number * blocks->size_bytes);
        r = file_write(path, text);
        return r == -EEXIST ? 0 : r;
}

/*
 * Checks that a block is in the movable zone: something else may have brought it online (the policy in
 * auto_online_blocks, or a udev rule). For an online block, valid_zones contains its zone.
 */
static int check_zone(const struct blocks *blocks, uint64_t number) {
        char zones[64];
        int r;

        r = read_block(blocks, number, "valid_zones", zones, sizeof(zones));
        if (r == -ENOENT) /* a kernel without CONFIG_MEMORY_HOTREMOVE has no such file */
                return 0;
        if (r < 0)
                return r;
        return text_starts_with(zones, "Movable") ? 0 : -EOPNOTSUPP;
}

static int online_block(const struct blocks *blocks, uint64_t number) {
        char path[PATH_MAX], state[32];
        int r;

        r = read_block(blocks, number, "state", state, sizeof(state));
        if (r < 0)
                return r;
        if (text_equal(state, "online"))
                return 0;
        r = block_path(blocks, number, "state", path);
        return r < 0 ? r : file_write(path, "online_movable");
}

static int offline_block(const struct blocks *blocks, uint64_t number) {
        char path[PATH_MAX], state[32];
        int r;

        r = read_block(blocks, number, "state", state, sizeof(state));
        if (r == -ENOENT || (r == 0 && text_equal(state, "offline")))
                return 0;
        if (r < 0)
                return r;
        r = block_path(blocks, number, "state", path);
        return r < 0 ? r : file_write(path, "offline");
}

/* ---- all of them ---- */

/* Takes the step for every block in ascending order. Returns the first block for which it fails, or end. */
static uint64_t step_each(const struct blocks *blocks, block_step step, int *ret_error) {
        uint64_t number = blocks->first;

        while (number < blocks->end) {
                *ret_error = step(blocks, number);
                if (*ret_error < 0)
                        break;
                number++;
        }
        return number;
}

/*
 * Restores as many blocks as possible, in descending order. Only logs failures, and only once: the caller returns the
 * failure that led here.
 */
static void put_back(const struct blocks *blocks, block_step step, const char *state) {
        uint64_t n_failed = 0;
        int error = 0;

        for (uint64_t number = blocks->end; number-- > blocks->first;) {
                int r = step(blocks, number);

                if (r < 0 && n_failed++ == 0)
                        error = r;
        }
        if (n_failed > 0)
                (void)log_errno(LOG_WARNING, error,
                                "%" PRIu64 " of %" PRIu64 " blocks of GPU memory could not be set back to %s", n_failed,
                                blocks->end - blocks->first, state);
}

static const char *online_cure(int error) {
        switch (error) {
        case -ENOENT:
                return "the kernel has not added this memory: memory/probe is missing, or a write to it had no effect";
        case -EOPNOTSUPP:
                return "something else onlined it outside the movable zone: see auto_online_blocks and udev's rules";
        default:
                return "the kernel log may say why";
        }
}

int memory_blocks_online(const struct locations *locations, const struct memory_range *range,
                         struct gpu_failure *ret_failure) {
        static const block_step steps[] = {probe_block, online_block, check_zone};
        struct blocks blocks;
        uint64_t number;
        int r;

        r = find_blocks(locations, range, &blocks, ret_failure);
        if (r < 0)
                return r;
        number = blocks.end;
        for (size_t i = 0; i < ARRAY_SIZE(steps) && number == blocks.end; i++)
                number = step_each(&blocks, steps[i], &r);
        if (number == blocks.end)
                return 0;
        put_back(&blocks, offline_block, "offline");
        return gpu_failure_explain(ret_failure, r, NV_OK, online_cure(r), "cannot online memory block memory%" PRIu64,
                                   number);
}

int memory_blocks_offline(const struct locations *locations, const struct memory_range *range,
                          struct gpu_failure *ret_failure) {
        struct blocks blocks;
        uint64_t number;
        int r;

        r = find_blocks(locations, range, &blocks, ret_failure);
        if (r < 0)
                return r;
        number = step_each(&blocks, offline_block, &r);
        if (number == blocks.end)
                return 0;
        put_back(&blocks, online_block, "online");
        return gpu_failure_explain(ret_failure, r, NV_OK, "end the programs that use the GPU's memory, then try again",
                                   "cannot offline memory block memory%" PRIu64, number);
}

int memory_page_retire(const struct locations *locations, uint64_t address) {
        char path[PATH_MAX], text[32];
        int r;

        r = locations_path(path, locations, MEMORY "/hard_offline_page");
        if (r < 0)
                return r;
        (void)text_format(text, sizeof(text), "0x%" PRIx64, address);
        r = file_write(path, text);
        return r == -EHWPOISON ? 0 : r; /* already retired, by us or by the kernel */
}
