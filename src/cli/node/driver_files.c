/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/driver_files.h"

#include <string.h>

#include "base/aside.h"
#include "base/cleanup.h"
#include "base/locations.h"
#include "cli/node/initialised.h"

struct driver_reading {
        const struct locations *locations;
        struct gpu_info *gpus;
        const struct pci_address *addresses;
        enum hf_tristate *initialised;
};

/* ---- information ----------------------------------------------------------------------------------------------- */

static int look_at_information(void *userdata, size_t item, struct aside_answer *answer) {
        const struct driver_reading *reading = userdata;
        struct gpu_info info;

        /* The file cannot be read, for example while the GPU is being removed. */
        if (inventory_read_gpu(reading->locations, &reading->gpus[item].address, &info) < 0)
                return 0;
        return aside_tell(answer, &info, sizeof(info));
}

static int take_information(void *userdata, size_t item, const char *bytes, size_t size) {
        const struct driver_reading *reading = userdata;

        memcpy(&reading->gpus[item], bytes, size);
        return 0;
}

static int read_information(const struct locations *locations, struct gpu_info *gpus, size_t n,
                            struct aside_gap *ret_gap) {
        struct driver_reading reading = {.locations = locations, .gpus = gpus};
        const struct aside aside = {
                .n = n,
                .look = look_at_information,
                .take = take_information,
                .userdata = &reading,
        };

        return aside_run(&aside, ret_gap);
}

int driver_files_read(const struct locations *locations, struct gpu_info **ret_gpus, size_t *ret_n, size_t *ret_n_left,
                      struct pci_address *ret_hanging) {
        CLEANUP(free_ptr) struct gpu_info *gpus = NULL;
        struct aside_gap gap;
        size_t n = 0;
        int r;

        r = inventory_read_addresses(locations, &gpus, &n);
        if (r == 0)
                r = read_information(locations, gpus, n, &gap);
        if (r < 0)
                return r;
        *ret_n_left = gap.n_left;
        if (gap.n_left > 0)
                *ret_hanging = gpus[gap.first_left].address;
        *ret_gpus = take_ptr(gpus);
        *ret_n = n;
        return 0;
}

void driver_files_read_gpus(const struct locations *locations, struct gpu_info *gpus, size_t n) {
        struct aside_gap gap;

        (void)read_information(locations, gpus, n, &gap);
}

/* ---- power ----------------------------------------------------------------------------------------------------- */

static int look_at_power(void *userdata, size_t item, struct aside_answer *answer) {
        const struct driver_reading *reading = userdata;
        bool initialised;

        if (initialised_read(reading->locations, &reading->addresses[item], &initialised) < 0)
                return 0;
        return aside_tell(answer, &initialised, sizeof(initialised));
}

static int take_power(void *userdata, size_t item, const char *bytes, size_t size) {
        const struct driver_reading *reading = userdata;
        bool initialised;

        memcpy(&initialised, bytes, sizeof(initialised));
        reading->initialised[item] = initialised ? HF_YES : HF_NO;
        return 0;
}

void driver_files_read_initialised(const struct locations *locations, const struct pci_address *addresses, size_t n,
                                   enum hf_tristate *initialised) {
        struct driver_reading reading = {.locations = locations, .addresses = addresses, .initialised = initialised};
        const struct aside aside = {.n = n, .look = look_at_power, .take = take_power, .userdata = &reading};
        struct aside_gap gap;

        for (size_t i = 0; i < n; i++)
                initialised[i] = HF_UNKNOWN;
        (void)aside_run(&aside, &gap);
}
