#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * A scenario: which GPUs there are and how they behave. Read from an INI file (docs/simulator.md lists every key), or
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

/* As RM's GPU_INFO_INDEX_GPU_SMC_MODE has it. Only the mode: there are no instances. */
enum scenario_mig {
        SCENARIO_MIG_UNSUPPORTED = 0,
        SCENARIO_MIG_ENABLED = 1,
        SCENARIO_MIG_DISABLED = 2,
};

struct scenario_gpu {
        struct pci_address address;
        char uuid[SCENARIO_UUID_SIZE];
        char model[96];
        bool present;           /* on the bus from the start; otherwise it is to be added */
        uint64_t lock_usec;     /* initialisation under the driver's global lock */
        uint64_t init_usec;     /* initialisation outside it (GSP boot) */
        uint64_t teardown_usec; /* teardown; under the global lock */
        unsigned fail_opens;    /* that many initialisations fail (-1u: all) */
        uint32_t fail_status;   /* with this NV_STATUS */
        int fail_errno;         /* and this errno (positive) */
        bool hang;              /* initialisation does not end until `ctl hang off`, or the end */
        bool hang_close;        /* likewise teardown */
        bool excluded;
        bool lost;     /* fallen off the bus: initialisation fails, a GPU in use stays open */
        bool surprise; /* and known to be gone (surprise removal): open gives ENODEV, ioctls EINVAL */
        bool drain;
        bool legacy;                /* the kernel's persistence flag */
        bool confidential;          /* initialises once per reset; the global lock is held throughout */
        bool coherent;              /* first open needs NV_ESC_SYS_PARAMS */
        bool numa_auto_online;      /* the kernel onlines the memory itself (use_auto_online) */
        enum nv_numa_status numa;   /* NV_NUMA_DISABLED: no NUMA memory */
        uint64_t fabric_delay_usec; /* after initialisation: UVM registration gives 0x81 for so long */
        bool has_uvm;
        unsigned memory_mib;
        unsigned temperature; /* degrees Celsius */
        enum scenario_mig mig;
};

/* The words of /proc/driver/nvidia/gpus/ADDRESS/numa_status, and of scenarios, by enum nv_numa_status. */
extern const char *const scenario_numa_words[NV_NUMA_OFFLINE_FAILED + 1];

/* Something that happens by itself, `at_usec` after the start: a verb with its arguments. */
struct scenario_event {
        uint64_t at_usec;
        char verb[32];
        char arguments[256]; /* a JSON object */
};

struct scenario {
        char driver_version[32]; /* decides what the driver does: versions.h */
        bool nonblocking_open;   /* NVreg_EnableNonblockingOpen, and the driver knows it (DRIVER_DEFERS_OPENS) */
        bool bind_notices;       /* RM announces bind and unbind (DRIVER_ANNOUNCES_UNBINDS) */
        bool memory_probe;       /* the kernel takes GPU memory in by `probe`, as on POWER9 */
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
 *      [gpus]           count = 8, and any key of a GPU, for all of them; stands before the next
 *      [gpu 3]          one GPU, by index or PCI address: address, uuid, model, present, lock = 200ms, init = 1.3s,
 *                       teardown = 50ms, fail_opens = 2 (or all), fail_status = NV_ERR_OPERATING_SYSTEM,
 *                       fail_errno = EIO, hang = no|open|close, excluded, lost = no|yes|surprise, drain, legacy,
 *                       confidential, coherent, numa = disabled|offline|online|..., numa_auto_online,
 *                       fabric_delay = 20s, uvm, memory = 81920, temperature = 30, mig = unsupported|disabled|enabled
 *      [at 5s]          verb = remove, then its arguments: gpu = 3
 */

/* n_gpus (1..SCENARIO_GPUS_MAX) alike, 0.2 s under the lock and 1.3 s outside it, from 0000:17:00.0 upwards. */
void scenario_default(struct scenario *ret_scenario, size_t n_gpus);

/*
 * Reads a file on top of `scenario` (which scenario_default() has filled). Returns 0 or negative errno; -EINVAL puts a
 * sentence with file, line and what is wrong into error.
 */
int scenario_read(struct scenario *scenario, const char *path, char *error, size_t error_size);

/* The UUID that a GPU at this address has unless the scenario says otherwise. */
void scenario_derive_uuid(const struct pci_address *address, char buffer[static SCENARIO_UUID_SIZE]);

/* The 16 bytes of a UUID, in the order in which the text has them. */
void scenario_uuid_bytes(const char *uuid, uint8_t ret_bytes[static NV_UUID_SIZE]);

/* "200ms", "1.3s", "2min", "500us". Returns 0 or -EINVAL. */
int scenario_parse_duration(const char *text, uint64_t *ret_usec);

/* yes/no, true/false, on/off, 1/0, in either case. Returns 0 or -EINVAL. */
int scenario_parse_bool(const char *text, bool *ret_value);

/* "NV_ERR_GPU_IS_LOST", "0x0f" or "15". Returns 0 or -EINVAL. */
int scenario_parse_status(const char *text, uint32_t *ret_status);

/* "EIO" or "5". Returns 0 or -EINVAL. */
int scenario_parse_errno(const char *text, int *ret_errno);

/* Whether the scenario's driver, by its version, behaves so. */
bool scenario_driver_has(const struct scenario *scenario, enum driver_trait trait);
