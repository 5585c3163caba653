/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Files in /proc: the driver's files, below a root in which every file has the input as its content, and the kernel's
 * files about processes, whose names any user may choose.
 */

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/node/container.h"
#include "cli/node/holders.h"
#include "cli/node/initialised.h"
#include "daemon/serve/origin.h"
#include "gpu/inventory.h"
#include "gpu/nodes.h"
#include "gpu/uvm.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/input_file.h"

/* ---- the root ---- */

static char root[] = "/tmp/holdfast-fuzz-XXXXXX";
static const struct locations locations = {.root = root};

static const char *const folders[] = {
        "/dev",
        "/proc",
        "/proc/driver",
        "/proc/driver/nvidia",
        "/proc/driver/nvidia/gpus",
        "/proc/driver/nvidia/gpus/0000:17:00.0",
};

static const char *const files[] = {
        "/proc/devices",
        "/proc/driver/nvidia/gpus/0000:17:00.0/information",
        "/proc/driver/nvidia/gpus/0000:17:00.0/power",
        "/proc/driver/nvidia/params",
        "/proc/driver/nvidia/version",
};

static const char *rooted(const char *path) {
        static char full[PATH_MAX];

        fuzz_require(text_format(full, sizeof(full), "%s%s", root, path) == 0);
        return full;
}

static int drop(const char *path, const struct stat *status, int type, struct FTW *walk) {
        return remove(path);
}

static void remove_root(void) {
        (void)nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

/* With a node that this process has open, so holders_scan_process() finds it. */
static void make_root(const char *input) {
        fuzz_require(mkdtemp(root) && atexit(remove_root) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
                fuzz_require(mkdir(rooted(folders[i]), 0755) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                fuzz_require(symlink(input, rooted(files[i])) == 0);
        fuzz_require(open(rooted("/dev/nvidia0"), O_RDWR | O_CREAT | O_CLOEXEC, 0600) >= 0);
}

/* ---- the driver's files ---- */

static bool is_text(const char *text, size_t size) {
        return memchr(text, '\0', size) != NULL;
}

static void check_info(const struct gpu_info *info) {
        fuzz_require(is_text(info->uuid, sizeof(info->uuid)) && is_text(info->model, sizeof(info->model)));
        fuzz_require(is_text(info->video_bios, sizeof(info->video_bios)));
        fuzz_require(info->minor >= GPU_MINOR_UNKNOWN && info->minor <= INT16_MAX);
}

static void try_inventory(void) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        char version[32];
        bool initialised;
        size_t n = 0;

        fuzz_require(inventory_read(&locations, &gpus, &n) == 0 && n == 1);
        check_info(&gpus[0]);
        (void)initialised_read(&locations, &gpus[0].address, &initialised);
        if (inventory_driver_version(&locations, version, sizeof(version)) == 0)
                fuzz_require(version[strspn(version, "0123456789.")] == '\0');
}

static int do_not_run(const char *const arguments[]) {
        return -1;
}

/* Only nodes of the driver or of UVM may be made, with a valid mode. */
static int check_node(const struct locations *where, const struct node *node,
                      const struct node_parameters *parameters) {
        fuzz_require(text_starts_with(node->path, "/dev/nvidia") && !strstr(node->path, ".."));
        fuzz_require((parameters->mode & ~0777U) == 0);
        return 0;
}

static void try_nodes(void) {
        static const struct node_ops ops = {.run = do_not_run, .make = check_node};

        const struct node_selection one = {.kind = NODES_OF_GPU, .gpu = {0, 0x17, 0, 0}};

        (void)nodes_make_with(&locations, NULL, &ops);
        (void)nodes_make_with(&locations, &one, &ops);
}

/* ---- the kernel's files about processes ---- */

static void try_process_texts(const char *text, size_t size) {
        CLEANUP(free_ptr) char *copy = malloc(size + 1);
        struct container container;
        uint8_t uuid[16];
        unsigned depth;
        uint64_t ticks;

        fuzz_require(copy);
        memcpy(copy, text, size + 1);
        if (origin_parse_depth(text, &depth) == 0)
                fuzz_require(depth > 0);
        (void)origin_parse_start(text, &ticks);
        (void)uvm_uuid_parse(text, uuid);
        if (container_of_cgroup(copy, &container))
                fuzz_require(is_text(container.runtime, sizeof(container.runtime)) &&
                             is_text(container.name, sizeof(container.name)));
}

static void try_holders(const char *name) {
        CLEANUP(free_ptr) struct holder *holders = NULL;
        size_t n = 0;

        fuzz_require(prctl(PR_SET_NAME, name) == 0);
        fuzz_require(holders_scan_process(&locations, getpid(), &holders, &n) == 0 && n == 1);
        fuzz_require(holders[0].pid == getpid() && holders[0].minor == 0);
        for (const char *c = holders[0].name; *c; c++)
                fuzz_require(*c >= ' ' && *c <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        CLEANUP(free_ptr) char *text = malloc(size + 1);
        const char *input = input_file(bytes, size);
        static bool made = false;

        if (!made)
                make_root(input);
        made = true;
        fuzz_require(text);
        memcpy(text, bytes, size);
        text[size] = '\0';
        try_inventory();
        try_nodes();
        try_process_texts(text, size);
        try_holders(text);
        return 0;
}
