/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/model/scenario.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#define DEFAULT_LOCK_USEC (200 * USEC_PER_MSEC)
#define DEFAULT_INIT_USEC (1300 * USEC_PER_MSEC)
#define DEFAULT_TEARDOWN_USEC (50 * USEC_PER_MSEC)
#define DURATION_USEC_MAX (24 * 3600 * USEC_PER_SEC)

/* ---- values ---- */

/* splitmix64: neighbouring addresses give UUIDs that do not look alike. */
static uint64_t mix(uint64_t value) {
        value += UINT64_C(0x9e3779b97f4a7c15);
        value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
        return value ^ value >> 31;
}

void scenario_derive_uuid(const struct pci_address *address, char buffer[static SCENARIO_UUID_SIZE]) {
        uint64_t packed = (uint64_t)address->domain << 24 | (uint64_t)address->bus << 16 |
                          (uint64_t)address->slot << 8 | address->function;
        uint64_t high = mix(packed), low = mix(~packed);

        (void)text_format(buffer, SCENARIO_UUID_SIZE, "GPU-%08x-%04x-%04x-%04x-%012llx", (unsigned)(high >> 32),
                          (unsigned)(high >> 16 & 0xffff), (unsigned)(high & 0xffff), (unsigned)(low >> 48),
                          (unsigned long long)(low & UINT64_C(0xffffffffffff)));
}

void scenario_uuid_bytes(const char *uuid, uint8_t ret_bytes[static NV_UUID_SIZE]) {
        size_t n_digits = 0;

        memset(ret_bytes, 0, NV_UUID_SIZE);
        for (const char *digit = uuid + strlen("GPU-"); *digit != '\0' && n_digits < 2 * NV_UUID_SIZE; digit++) {
                unsigned value = *digit <= '9' ? (unsigned)(*digit - '0') : (unsigned)((*digit | 0x20) - 'a' + 10);

                if (*digit == '-')
                        continue;
                ret_bytes[n_digits / 2] = (uint8_t)(ret_bytes[n_digits / 2] << 4 | value);
                n_digits++;
        }
}

static int unit_usec(const char *unit, uint64_t *ret_usec) {
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                {"us", 1},
                {"ms", USEC_PER_MSEC},
                {"s", USEC_PER_SEC},
                {"min", 60 * USEC_PER_SEC},
        };

        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (text_equal(unit, units[i].name)) {
                        *ret_usec = units[i].usec;
                        return 0;
                }
        return -EINVAL;
}

int scenario_parse_duration(const char *text, uint64_t *ret_usec) {
        uint64_t whole = 0, fraction = 0, scale = 1, unit;

        if (!isdigit((unsigned char)*text))
                return -EINVAL;
        for (; isdigit((unsigned char)*text); text++) {
                whole = whole * 10 + (uint64_t)(*text - '0');
                if (whole > DURATION_USEC_MAX)
                        return -EINVAL;
        }
        if (*text == '.') {
                if (!isdigit((unsigned char)*++text))
                        return -EINVAL;
                for (; isdigit((unsigned char)*text); text++)
                        if (scale < USEC_PER_SEC) {
                                fraction = fraction * 10 + (uint64_t)(*text - '0');
                                scale *= 10;
                        }
        }
        if (unit_usec(text, &unit) < 0 || whole > DURATION_USEC_MAX / unit)
                return -EINVAL;
        *ret_usec = whole * unit + fraction * unit / scale;
        return 0;
}

/* Parses a number in this base, after an optional 0x. */
static int parse_number(const char *text, uint64_t maximum, uint64_t *ret_value) {
        bool hex = text_starts_with(text, "0x");

        return text_parse_u64(hex ? text + 2 : text, hex ? 16 : 10, maximum, ret_value);
}

int scenario_parse_status(const char *text, uint32_t *ret_status) {
        static const struct {
                const char *name;
                uint32_t status;
        } names[] = {
                {"NV_ERR_GPU_IS_LOST", NV_ERR_GPU_IS_LOST},
                {"NV_ERR_ILLEGAL_ACTION", NV_ERR_ILLEGAL_ACTION},
                {"NV_ERR_INSUFFICIENT_PERMISSIONS", NV_ERR_INSUFFICIENT_PERMISSIONS},
                {"NV_ERR_INSUFFICIENT_POWER", NV_ERR_INSUFFICIENT_POWER},
                {"NV_ERR_INVALID_ARGUMENT", NV_ERR_INVALID_ARGUMENT},
                {"NV_ERR_INVALID_DEVICE", NV_ERR_INVALID_DEVICE},
                {"NV_ERR_INVALID_STATE", NV_ERR_INVALID_STATE},
                {"NV_ERR_NOT_SUPPORTED", NV_ERR_NOT_SUPPORTED},
                {"NV_ERR_OPERATING_SYSTEM", NV_ERR_OPERATING_SYSTEM},
        };
        uint64_t value;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (text_equal(text, names[i].name)) {
                        *ret_status = names[i].status;
                        return 0;
                }
        if (parse_number(text, UINT32_MAX, &value) < 0)
                return -EINVAL;
        *ret_status = (uint32_t)value;
        return 0;
}

int scenario_parse_errno(const char *text, int *ret_errno) {
        enum { ERRNO_MAX = 133 }; /* EHWPOISON, Linux's last */
        uint64_t number;

        if (text_parse_u64(text, 10, ERRNO_MAX, &number) < 0)
                number = 0;
        for (int error = 1; error <= ERRNO_MAX; error++) {
                const char *name = strerrorname_np(error); /* NULL: there are gaps */

                if (name && (text_equal(text, name) || number == (uint64_t)error)) {
                        *ret_errno = error;
                        return 0;
                }
        }
        return -EINVAL;
}

int scenario_parse_bool(const char *text, bool *ret_value) {
        static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (text_equal_nocase(text, words[i])) {
                        *ret_value = i % 2 == 1;
                        return 0;
                }
        return -EINVAL;
}

/* ---- the default ---- */

/* The bus numbers of an eight-GPU board. Each further eight GPUs have their own PCI domain. */
static struct pci_address default_address(size_t index) {
        static const uint8_t buses[] = {0x17, 0x2a, 0x3a, 0x5d, 0x9a, 0xab, 0xba, 0xdb};

        return (struct pci_address){
                .domain = (uint32_t)(index / ARRAY_SIZE(buses)),
                .bus = buses[index % ARRAY_SIZE(buses)],
        };
}

static void default_gpu(struct scenario_gpu *gpu, size_t index) {
        *gpu = (struct scenario_gpu){
                .address = default_address(index),
                .model = "Simulated H100 80GB",
                .present = true,
                .lock_usec = DEFAULT_LOCK_USEC,
                .init_usec = DEFAULT_INIT_USEC,
                .teardown_usec = DEFAULT_TEARDOWN_USEC,
                .fail_status = NV_ERR_OPERATING_SYSTEM,
                .fail_errno = EIO,
                .numa = NV_NUMA_DISABLED,
                .has_uvm = true,
                .memory_mib = 80 * 1024,
                .temperature = 30,
                .mig = SCENARIO_MIG_DISABLED,
        };
        scenario_derive_uuid(&gpu->address, gpu->uuid);
}

void scenario_default(struct scenario *ret_scenario, size_t n_gpus) {
        *ret_scenario = (struct scenario){
                .driver_version = "595.45.04",
                .nonblocking_open = true,
                .bind_notices = true,
                .n_gpus = n_gpus < SCENARIO_GPUS_MAX ? n_gpus : SCENARIO_GPUS_MAX,
        };
        /* Fill all entries, because a file may increase the count after it has set keys for all GPUs. */
        for (size_t i = 0; i < SCENARIO_GPUS_MAX; i++)
                default_gpu(&ret_scenario->gpus[i], i);
}

bool scenario_driver_has(const struct scenario *scenario, enum driver_trait trait) {
        return version_has(version_parse(scenario->driver_version), trait);
}
