#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A scenario: the GPUs and their behaviour. It is read from an INI file (docs/simulator.md lists every key), or
 * made by scenario_default(). Times are what the model spends, in microseconds; they are a model, not a measurement.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/abi.h"
#include "gpu/pci.h"
#include "sim/model/versions.h"

enum {
        SCENARIO_GPUS_MAX = 64,
        SCENARIO_UUID_SIZE = 64,
        SCENARIO_MEMORY_MIB_MAX = 1024 * 1024, /* its KiB fit RM's 32 bits */
        SCENARIO_TEMPERATURE_MAX = 127,
};

/* The values of RM's GPU_INFO_INDEX_GPU_SMC_MODE. Only the mode is modelled, not the instances. */
enum scenario_mig {
        SCENARIO_MIG_UNSUPPORTED = 0,
        SCENARIO_MIG_ENABLED = 1,
        SCENARIO_MIG_DISABLED = 2,
};

struct scenario_gpu {
        struct pci_address address;
        char uuid[SCENARIO_UUID_SIZE];
        char model[96];
        bool present;           /* on the bus from the start; otherwise a verb adds it */
        uint64_t lock_usec;     /* initialisation under the driver's global lock */
        uint64_t init_usec;     /* initialisation outside it (GSP boot) */
        uint64_t teardown_usec; /* teardown; under the global lock */
        unsigned fail_opens;    /* how many initialisations fail (-1u: all) */
        uint32_t fail_status;   /* with this NV_STATUS */
        int fail_errno;         /* and this errno (positive) */
        bool hang;              /* initialisation hangs until `ctl hang off` or the simulator's end */
        bool hang_close;        /* the same for teardown */
        bool excluded;
        bool lost;     /* fallen off the bus: initialisation fails, a GPU in use stays open */
        bool surprise; /* and the driver knows it (surprise removal): open gives ENODEV, ioctls EINVAL */
        bool drain;
        bool legacy;                /* the kernel's persistence flag */
        bool confidential;          /* initialises once per reset; the global lock is held throughout */
        bool coherent;              /* first open needs NV_ESC_SYS_PARAMS */
        bool numa_auto_online;      /* the kernel onlines the memory itself (use_auto_online) */
        enum nv_numa_status numa;   /* NV_NUMA_DISABLED: no NUMA memory */
        uint64_t fabric_delay_usec; /* how long UVM registrations fail with 0x81 after initialisation */
        bool has_uvm;
        unsigned memory_mib;
        unsigned temperature; /* degrees Celsius */
        enum scenario_mig mig;
};

/* The words for enum nv_numa_status in scenarios and in /proc/driver/nvidia/gpus/ADDRESS/numa_status. */
extern const char *const scenario_numa_words[NV_NUMA_OFFLINE_FAILED + 1];

/* An event `at_usec` after the start: a verb with its arguments. */
struct scenario_event {
        uint64_t at_usec;
        char verb[32];
        char arguments[256]; /* a JSON object */
};

struct scenario {
        char driver_version[32]; /* decides how the driver behaves: versions.h */
        bool nonblocking_open;   /* NVreg_EnableNonblockingOpen is set and supported (DRIVER_DEFERS_OPENS) */
        bool bind_notices;       /* RM announces bind and unbind (DRIVER_ANNOUNCES_UNBINDS) */
        bool memory_probe;       /* user space adds GPU memory through `probe`, as on POWER9 */
        size_t n_gpus;
        struct scenario_gpu gpus[SCENARIO_GPUS_MAX];
        size_t n_events;
        struct scenario_event events[SCENARIO_GPUS_MAX];
};

/*
 * An INI file:
 *
 *      [driver]         version = 595.45.04, nonblocking_open = yes, bind_notices = yes,
 *                       memory_probe = no
 *      [gpus]           count = 8, and any key of a GPU, for all of them; must come before [gpu N]
 *      [gpu 3]          one GPU, by index or PCI address: address, uuid, model, present, lock = 200ms, init = 1.3s,
 *                       teardown = 50ms, fail_opens = 2 (or all), fail_status = NV_ERR_OPERATING_SYSTEM,
 *                       fail_errno = EIO, hang = no|open|close, excluded, lost = no|yes|surprise, drain, legacy,
 *                       confidential, coherent, numa = disabled|offline|online|..., numa_auto_online,
 *                       fabric_delay = 20s, uvm, memory = 81920, temperature = 30, mig = unsupported|disabled|enabled
 *      [at 5s]          verb = remove, then its arguments: gpu = 3
 */

/* Makes n_gpus (1..SCENARIO_GPUS_MAX) equal GPUs, from 0000:17:00.0 upwards: 0.2 s under the lock, 1.3 s outside it. */
void scenario_default(struct scenario *ret_scenario, size_t n_gpus);

/*
 * Reads a file and changes `scenario`, which scenario_default() has filled. Returns 0 or negative errno. With -EINVAL,
 * error contains a sentence with the file, the line and the reason.
 */
int scenario_read(struct scenario *scenario, const char *path, char *error, size_t error_size);

/* Derives the default UUID of a GPU from its address. */
void scenario_derive_uuid(const struct pci_address *address, char buffer[static SCENARIO_UUID_SIZE]);

/* Converts a UUID to its 16 bytes, in the order of the text. */
void scenario_uuid_bytes(const char *uuid, uint8_t ret_bytes[static NV_UUID_SIZE]);

/* Parses "200ms", "1.3s", "2min", "500us". Returns 0 or -EINVAL. */
int scenario_parse_duration(const char *text, uint64_t *ret_usec);

/* Parses yes/no, true/false, on/off, 1/0, in upper or lower case. Returns 0 or -EINVAL. */
int scenario_parse_bool(const char *text, bool *ret_value);

/* Parses "NV_ERR_GPU_IS_LOST", "0x0f" or "15". Returns 0 or -EINVAL. */
int scenario_parse_status(const char *text, uint32_t *ret_status);

/* Parses "EIO" or "5". Returns 0 or -EINVAL. */
int scenario_parse_errno(const char *text, int *ret_errno);

/* Whether the version of the scenario's driver has this behaviour. */
bool scenario_driver_has(const struct scenario *scenario, enum driver_trait trait);
