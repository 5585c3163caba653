/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration file: it is accepted completely, or refused with an error that names it, and then changes nothing.
 */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "config/config.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/input_file.h"

static void ask(const struct config *config) {
        const struct gpu_info info = {.address = {.bus = 0x17}, .uuid = "GPU-00000000-0000-0000-0000-000000000017"};

        fuzz_require(config->n_rules <= CONFIG_RULES_MAX);
        fuzz_require(config->stuck_sec <= 1000000 && config->sessions <= 1000000 &&
                     config->sessions_per_uid <= 1000000);
        fuzz_require(config_persistence(config, &info, 0) <= CONFIG_OFF && config_uvm(config, &info, 0) <= CONFIG_OFF);
        fuzz_require(config_settings(config, &info, 0).n <= N_SETTINGS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const char *path = input_file(bytes, size);
        char error[CONFIG_ERROR_SIZE] = "";
        struct config config, before;
        int r;

        memset(&config, 0x5a, sizeof(config));
        before = config;
        r = config_read(&config, path, error);
        if (r == 0) {
                ask(&config);
                return 0;
        }
        fuzz_require(r == -EINVAL && strstr(error, path) && memchr(error, '\0', sizeof(error)));
        fuzz_require(memcmp(&config, &before, sizeof(config)) == 0);
        return 0;
}
