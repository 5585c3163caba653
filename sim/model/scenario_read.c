/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reads a scenario's INI file: sections, keys, and errors in them. */

#include "sim/model/scenario.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <ini.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "sim/model/model.h"

/* ---- keys of a GPU ---- */

static int parse_bool(const char *value, void *field) {
        return scenario_parse_bool(value, field);
}

static int parse_duration(const char *value, void *field) {
        return scenario_parse_duration(value, field);
}

static int parse_status(const char *value, void *field) {
        return scenario_parse_status(value, field);
}

static int parse_errno(const char *value, void *field) {
        return scenario_parse_errno(value, field);
}

static int parse_fail_opens(const char *value, void *field) {
        uint64_t count;

        if (text_equal_nocase(value, "all")) {
                *(unsigned *)field = -1u;
                return 0;
        }
        if (text_parse_u64(value, 10, 1000000, &count) < 0)
                return -EINVAL;
        *(unsigned *)field = (unsigned)count;
        return 0;
}

static int parse_address(const char *value, void *field) {
        struct scenario_gpu *gpu = field;
        char derived[sizeof(gpu->uuid)];
        bool uuid_is_derived;

        scenario_derive_uuid(&gpu->address, derived);
        uuid_is_derived = text_equal(derived, gpu->uuid);
        if (pci_address_parse(value, &gpu->address) < 0)
                return -EINVAL;
        if (uuid_is_derived)
                scenario_derive_uuid(&gpu->address, gpu->uuid);
        return 0;
}

static bool is_uuid(const char *text) {
        static const char shape[] = "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

        if (strlen(text) != sizeof(shape) - 1)
                return false;
        for (size_t i = 0; shape[i] != '\0'; i++)
                if (shape[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != shape[i])
                        return false;
        return true;
}

static int parse_uuid(const char *value, void *field) {
        if (!is_uuid(value))
                return -EINVAL;
        (void)text_copy(field, sizeof(((struct scenario_gpu *)NULL)->uuid), value);
        return 0;
}

static int parse_model(const char *value, void *field) {
        if (*value == '\0')
                return -EINVAL;
        return text_copy(field, sizeof(((struct scenario_gpu *)NULL)->model), value) ? 0 : -EINVAL;
}

static int parse_hang(const char *value, void *field) {
        struct scenario_gpu *gpu = field;

        gpu->hang_close = text_equal(value, "close");
        gpu->hang = text_equal(value, "open");
        if (gpu->hang || gpu->hang_close)
                return 0;
        return scenario_parse_bool(value, &gpu->hang);
}

static int parse_lost(const char *value, void *field) {
        struct scenario_gpu *gpu = field;

        gpu->surprise = text_equal(value, "surprise");
        if (gpu->surprise) {
                gpu->lost = true;
                return 0;
        }
        return parse_bool(value, &gpu->lost);
}

const char *const scenario_numa_words[] = {
        [NV_NUMA_DISABLED] = "disabled",
        [NV_NUMA_OFFLINE] = "offline",
        [NV_NUMA_ONLINE_IN_PROGRESS] = "online_in_progress",
        [NV_NUMA_ONLINE] = "online",
        [NV_NUMA_ONLINE_FAILED] = "online_failed",
        [NV_NUMA_OFFLINE_IN_PROGRESS] = "offline_in_progress",
        [NV_NUMA_OFFLINE_FAILED] = "offline_failed",
};

static int parse_numa(const char *value, void *field) {
        for (size_t i = 0; i < ARRAY_SIZE(scenario_numa_words); i++)
                if (text_equal(value, scenario_numa_words[i])) {
                        *(enum nv_numa_status *)field = (enum nv_numa_status)i;
                        return 0;
                }
        return -EINVAL;
}

static int parse_mig(const char *value, void *field) {
        static const char *const words[] = {
                [SCENARIO_MIG_UNSUPPORTED] = "unsupported",
                [SCENARIO_MIG_ENABLED] = "enabled",
                [SCENARIO_MIG_DISABLED] = "disabled",
        };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (text_equal(value, words[i])) {
                        *(enum scenario_mig *)field = (enum scenario_mig)i;
                        return 0;
                }
        return -EINVAL;
}

static int parse_below(const char *value, uint64_t maximum, void *field) {
        uint64_t number;

        if (text_parse_u64(value, 10, maximum, &number) < 0)
                return -EINVAL;
        *(unsigned *)field = (unsigned)number;
        return 0;
}

static int parse_memory(const char *value, void *field) {
        return parse_below(value, SCENARIO_MEMORY_MIB_MAX, field);
}

static int parse_temperature(const char *value, void *field) {
        return parse_below(value, SCENARIO_TEMPERATURE_MAX, field);
}

#define FIELD(name) offsetof(struct scenario_gpu, name)
#define WHOLE_GPU 0 /* the parser gets the whole struct */
#define A_BOOL "yes or no"
#define A_DURATION "a time such as 200ms, 1.3s, 2min (at most a day)"

static const struct key {
        const char *name;
        int (*parse)(const char *value, void *field);
        size_t offset;
        const char *allowed;
} gpu_keys[] = {
        {"address", parse_address, WHOLE_GPU, "a PCI address such as 0000:17:00.0"},
        {"coherent", parse_bool, FIELD(coherent), A_BOOL},
        {"confidential", parse_bool, FIELD(confidential), A_BOOL},
        {"drain", parse_bool, FIELD(drain), A_BOOL},
        {"excluded", parse_bool, FIELD(excluded), A_BOOL},
        {"fabric_delay", parse_duration, FIELD(fabric_delay_usec), A_DURATION},
        {"fail_errno", parse_errno, FIELD(fail_errno), "an errno by name (EIO) or number"},
        {"fail_opens", parse_fail_opens, FIELD(fail_opens), "a count up to 1000000, or all"},
        {"fail_status", parse_status, FIELD(fail_status), "an NV_STATUS by name (NV_ERR_OPERATING_SYSTEM) or number"},
        {"hang", parse_hang, WHOLE_GPU, "no, open, close, or yes (the same as open)"},
        {"init", parse_duration, FIELD(init_usec), A_DURATION},
        {"legacy", parse_bool, FIELD(legacy), A_BOOL},
        {"lock", parse_duration, FIELD(lock_usec), A_DURATION},
        {"lost", parse_lost, WHOLE_GPU, "no, yes or surprise"},
        {"memory", parse_memory, FIELD(memory_mib), "its size in MiB, up to 1048576"},
        {"mig", parse_mig, FIELD(mig), "unsupported, disabled or enabled"},
        {"model", parse_model, FIELD(model), "a name of up to 95 characters"},
        {"numa", parse_numa, FIELD(numa),
         "disabled, offline, online_in_progress, online, online_failed, offline_in_progress or offline_failed"},
        {"numa_auto_online", parse_bool, FIELD(numa_auto_online), A_BOOL},
        {"present", parse_bool, FIELD(present), A_BOOL},
        {"teardown", parse_duration, FIELD(teardown_usec), A_DURATION},
        {"temperature", parse_temperature, FIELD(temperature), "degrees Celsius, up to 127"},
        {"uuid", parse_uuid, FIELD(uuid), "GPU- and 32 hexadecimal digits as 8-4-4-4-12"},
        {"uvm", parse_bool, FIELD(has_uvm), A_BOOL},
};

static const struct key *find_key(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(gpu_keys); i++)
                if (text_equal(gpu_keys[i].name, name))
                        return &gpu_keys[i];
        return NULL;
}

/* ---- the file ---- */

struct reader {
        struct scenario *scenario;
        FILE *file;
        const char *path;
        unsigned line;
        char *error;
        size_t error_size;

        char section[64];
        bool gpu_section_seen;
        bool nonblocking_given, notices_given;
        struct scenario_event *event; /* the event of this [at ...], once its verb was read */
};

/* Returns 0, which means failure to inih. */
__attribute__((format(printf, 2, 3))) static int refuse(struct reader *reader, const char *format, ...) {
        char why[256];
        va_list arguments;

        if (reader->error[0] != '\0')
                return 0;
        va_start(arguments, format);
        (void)vsnprintf(why, sizeof(why), format, arguments);
        va_end(arguments);
        (void)text_format(reader->error, reader->error_size, "%s:%u: %s", reader->path, reader->line, why);
        return 0;
}

static int refuse_value(struct reader *reader, const char *name, const char *value, const char *allowed) {
        return refuse(reader, "%s = %s: expected %s", name, value, allowed);
}

static int refuse_gpu_key(struct reader *reader, const char *name) {
        char list[512] = "";

        for (size_t i = 0; i < ARRAY_SIZE(gpu_keys); i++)
                text_append_item(list, sizeof(list), ", ", "%s", gpu_keys[i].name);
        return refuse(reader, "unknown key '%s' in [%s]; a GPU's keys are: %s", name, reader->section, list);
}

static int set_gpu_key(struct reader *reader, struct scenario_gpu *gpus, size_t n, const char *name,
                       const char *value) {
        const struct key *key = find_key(name);

        if (!key)
                return refuse_gpu_key(reader, name);
        for (size_t i = 0; i < n; i++)
                if (key->parse(value, (char *)&gpus[i] + key->offset) < 0)
                        return refuse_value(reader, name, value, key->allowed);
        return 1;
}

static int read_driver_key(struct reader *reader, const char *name, const char *value) {
        struct scenario *scenario = reader->scenario;
        unsigned parts[3];
        char rest;

        if (text_equal(name, "version")) {
                if (sscanf(value, "%4u.%4u.%4u%c", &parts[0], &parts[1], &parts[2], &rest) != 3 ||
                    !text_copy(scenario->driver_version, sizeof(scenario->driver_version), value))
                        return refuse_value(reader, name, value, "three numbers such as 595.45.04");
                return 1;
        }
        if (text_equal(name, "nonblocking_open")) {
                reader->nonblocking_given = true;
                return parse_bool(value, &scenario->nonblocking_open) == 0 || refuse_value(reader, name, value, A_BOOL);
        }
        if (text_equal(name, "bind_notices")) {
                reader->notices_given = true;
                return parse_bool(value, &scenario->bind_notices) == 0 || refuse_value(reader, name, value, A_BOOL);
        }
        if (text_equal(name, "memory_probe"))
                return parse_bool(value, &scenario->memory_probe) == 0 || refuse_value(reader, name, value, A_BOOL);
        return refuse(reader,
                      "unknown key '%s' in [driver]; its keys are: version, nonblocking_open, bind_notices, "
                      "memory_probe",
                      name);
}

static int read_gpus_key(struct reader *reader, const char *name, const char *value) {
        uint64_t count;

        if (reader->gpu_section_seen)
                return refuse(reader, "[gpus] must stand before the first [gpu ...], whose keys it would overwrite");
        if (text_equal(name, "address") || text_equal(name, "uuid"))
                return refuse(reader, "'%s' belongs to one GPU: put it into [gpu N]", name);
        if (!text_equal(name, "count"))
                return set_gpu_key(reader, reader->scenario->gpus, SCENARIO_GPUS_MAX, name, value);
        if (text_parse_u64(value, 10, SCENARIO_GPUS_MAX, &count) < 0 || count == 0)
                return refuse_value(reader, name, value, "1 to 64");
        reader->scenario->n_gpus = (size_t)count;
        return 1;
}

/* selector: the text after "gpu " */
static struct scenario_gpu *find_gpu(struct scenario *scenario, const char *selector) {
        struct pci_address address;
        uint64_t index;

        if (text_parse_u64(selector, 10, UINT32_MAX, &index) == 0)
                return index < scenario->n_gpus ? &scenario->gpus[index] : NULL;
        if (pci_address_parse(selector, &address) < 0)
                return NULL;
        for (size_t i = 0; i < scenario->n_gpus; i++)
                if (pci_address_compare(&scenario->gpus[i].address, &address) == 0)
                        return &scenario->gpus[i];
        return NULL;
}

static int read_gpu_key(struct reader *reader, const char *selector, const char *name, const char *value) {
        struct scenario_gpu *gpu = find_gpu(reader->scenario, selector);

        reader->gpu_section_seen = true;
        if (!gpu)
                return refuse(reader, "[gpu %s]: no such GPU; there are %zu, with indices from 0 (see count in [gpus])",
                              selector, reader->scenario->n_gpus);
        return set_gpu_key(reader, gpu, 1, name, value);
}

/* Converts an argument to JSON: a number, a boolean, or otherwise a text. */
static json_t *argument_value(const char *value) {
        uint64_t number;
        bool truth;

        if (text_parse_u64(value, 10, INT64_MAX, &number) == 0)
                return json_integer((json_int_t)number);
        if (scenario_parse_bool(value, &truth) == 0)
                return json_boolean(truth);
        return json_string(value);
}

static int add_argument(struct reader *reader, const char *name, const char *value) {
        struct scenario_event *event = reader->event;
        json_t *arguments = json_loads(event->arguments, 0, NULL);
        char *text = NULL;
        int ok = 0;

        if (arguments && json_object_set_new(arguments, name, argument_value(value)) == 0)
                text = json_dumps(arguments, JSON_COMPACT);
        if (text)
                ok = text_copy(event->arguments, sizeof(event->arguments), text);
        free(text);
        json_decref(arguments);
        return ok || refuse(reader, "the arguments of this event are too long (at most %zu bytes as JSON)",
                            sizeof(event->arguments) - 1);
}

static int start_event(struct reader *reader, const char *when, const char *verb) {
        struct scenario *scenario = reader->scenario;
        struct scenario_event event = {.arguments = "{}"};

        if (scenario_parse_duration(when, &event.at_usec) < 0)
                return refuse(reader, "[at %s]: expected %s", when, A_DURATION);
        if (!text_copy(event.verb, sizeof(event.verb), verb) || !model_has_verb(verb))
                return refuse(reader, "verb = %s: there is no such verb; docs/simulator.md lists them", verb);
        if (scenario->n_events == ARRAY_SIZE(scenario->events))
                return refuse(reader, "too many events (at most %zu)", ARRAY_SIZE(scenario->events));
        reader->event = &scenario->events[scenario->n_events++];
        *reader->event = event;
        return 1;
}

static int read_event_key(struct reader *reader, const char *when, const char *name, const char *value) {
        if (text_equal(name, "verb"))
                return start_event(reader, when, value);
        if (!reader->event)
                return refuse(reader, "'%s' before 'verb' in [at %s]: an event begins with its verb", name, when);
        return add_argument(reader, name, value);
}

static int read_key(void *context, const char *section, const char *name, const char *value) {
        struct reader *reader = context;

        if (!text_equal(section, reader->section)) {
                reader->event = NULL;
                if (!text_copy(reader->section, sizeof(reader->section), section))
                        return refuse(reader, "section name too long");
        }
        if (text_equal(section, "driver"))
                return read_driver_key(reader, name, value);
        if (text_equal(section, "gpus"))
                return read_gpus_key(reader, name, value);
        if (text_starts_with(section, "gpu "))
                return read_gpu_key(reader, section + strlen("gpu "), name, value);
        if (text_starts_with(section, "at "))
                return read_event_key(reader, section + strlen("at "), name, value);
        return refuse(reader, "unknown section [%s]; there are [driver], [gpus], [gpu N], [gpu ADDRESS], [at TIME]",
                      section);
}

/* Counts the lines: inih calls this once for each, but passes line numbers to its handler only if built to do so. */
static char *read_line(char *buffer, int size, void *context) {
        struct reader *reader = context;

        reader->line++;
        return fgets(buffer, size, reader->file);
}

/* Sets what a driver of that version supports, unless the file sets it. */
static void derive_abilities(struct reader *reader) {
        struct scenario *scenario = reader->scenario;

        if (!reader->nonblocking_given)
                scenario->nonblocking_open = scenario_driver_has(scenario, DRIVER_DEFERS_OPENS);
        if (!reader->notices_given)
                scenario->bind_notices = scenario_driver_has(scenario, DRIVER_ANNOUNCES_UNBINDS);
}

static int check_identities(struct reader *reader) {
        const struct scenario_gpu *gpus = reader->scenario->gpus;

        for (size_t i = 0; i < reader->scenario->n_gpus; i++)
                for (size_t k = 0; k < i; k++)
                        if (pci_address_compare(&gpus[i].address, &gpus[k].address) == 0 ||
                            text_equal_nocase(gpus[i].uuid, gpus[k].uuid)) {
                                (void)text_format(reader->error, reader->error_size,
                                                  "%s: GPUs %zu and %zu have the same address or UUID", reader->path, k,
                                                  i);
                                return -EINVAL;
                        }
        return 0;
}

int scenario_read(struct scenario *scenario, const char *path, char *error, size_t error_size) {
        CLEANUP(stream_done) FILE *file = fopen(path, "re");
        struct reader reader = {
                .scenario = scenario,
                .file = file,
                .path = path,
                .error = error,
                .error_size = error_size,
        };
        int result;

        error[0] = '\0';
        if (!file) {
                result = -errno;
                (void)text_format(error, error_size, "cannot read scenario %s: %s", path, strerror(errno));
                return result;
        }
        result = ini_parse_stream(read_line, &reader, read_key, &reader);
        if (result < 0)
                return -ENOMEM;
        if (result > 0) {
                reader.line = (unsigned)result;
                (void)refuse(&reader, "neither a [section] nor key = value");
                return -EINVAL;
        }
        derive_abilities(&reader);
        return check_identities(&reader);
}
