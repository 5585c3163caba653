/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The verbs: events of hardware and actions of administrators, on command. docs/simulator.md lists them. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/model/private.h"

struct verb_call {
        struct model *model;
        json_t *arguments;
        struct who who;
        struct model_wait *wait;
        char *error;
        size_t error_size;
};

/* Writes the error message. Returns NULL, the result of a failed verb. */
__attribute__((format(printf, 2, 3))) static json_t *refuse(struct verb_call *call, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(call->error, call->error_size, format, arguments);
        va_end(arguments);
        return NULL;
}

#define NVML_NAME(gpu) pci_address_format_nvml(&(gpu)->spec.address, (char[PCI_ADDRESS_SIZE]){0})

/* ---- arguments: each getter leaves *ret_value unchanged if the argument is absent ---- */

/* Reads a text, or a number or boolean as text, since ctl sends texts and programs may send JSON types. Empty if
 * absent. */
static int get_text(struct verb_call *call, const char *name, char *buffer, size_t size) {
        json_t *value = json_object_get(call->arguments, name);
        bool fits = true;

        buffer[0] = '\0';
        if (json_is_string(value))
                fits = text_copy(buffer, size, json_string_value(value));
        else if (json_is_integer(value))
                fits = text_format(buffer, size, "%lld", (long long)json_integer_value(value)) == 0;
        else if (json_is_boolean(value))
                fits = text_copy(buffer, size, json_is_true(value) ? "true" : "false");
        else
                fits = !value;
        if (fits)
                return 0;
        (void)refuse(call, "%s must be a short text, a whole number, true or false", name);
        return -EINVAL;
}

static int get_bool(struct verb_call *call, const char *name, bool *ret_value) {
        char text[16];

        if (get_text(call, name, text, sizeof(text)) < 0)
                return -EINVAL;
        if (text[0] == '\0' || scenario_parse_bool(text, ret_value) == 0)
                return 0;
        (void)refuse(call, "%s must be true or false", name);
        return -EINVAL;
}

static int get_unsigned(struct verb_call *call, const char *name, unsigned minimum, unsigned maximum,
                        unsigned *ret_value) {
        char text[32];
        uint64_t value;

        if (get_text(call, name, text, sizeof(text)) < 0)
                return -EINVAL;
        if (text[0] == '\0')
                return 0;
        if (text_parse_u64(text, 10, maximum, &value) < 0 || value < minimum) {
                (void)refuse(call, "%s must be a whole number from %u to %u", name, minimum, maximum);
                return -EINVAL;
        }
        *ret_value = (unsigned)value;
        return 0;
}

static int get_duration(struct verb_call *call, const char *name, uint64_t *ret_usec) {
        char text[32];

        if (get_text(call, name, text, sizeof(text)) < 0)
                return -EINVAL;
        if (text[0] == '\0' || scenario_parse_duration(text, ret_usec) == 0)
                return 0;
        (void)refuse(call, "%s must be a time with its unit, such as 200ms or 20s", name);
        return -EINVAL;
}

/* ---- verbs on one GPU; the mutex is held ---- */

static json_t *done(void) {
        return json_object();
}

static json_t *verb_fail(struct verb_call *call, struct model_gpu *gpu) {
        char count_text[16], status_text[48], errno_text[32];
        uint32_t status = NV_ERR_OPERATING_SYSTEM;
        unsigned count = 1;
        int error = EIO;

        if (get_text(call, "count", count_text, sizeof(count_text)) < 0 ||
            get_text(call, "status", status_text, sizeof(status_text)) < 0 ||
            get_text(call, "errno", errno_text, sizeof(errno_text)) < 0)
                return NULL;
        if (text_equal(count_text, "all"))
                count = -1u;
        else if (get_unsigned(call, "count", 0, 1000000, &count) < 0)
                return NULL;
        if (status_text[0] != '\0' && scenario_parse_status(status_text, &status) < 0)
                return refuse(call,
                              "status '%s' is not an NV_STATUS: give a number or a name such as NV_ERR_GPU_IS_LOST",
                              status_text);
        if (errno_text[0] != '\0' && scenario_parse_errno(errno_text, &error) < 0)
                return refuse(call, "errno '%s' is not an error: give a number or a name such as EIO", errno_text);
        gpu->spec.fail_opens = count;
        gpu->spec.fail_status = status;
        gpu->spec.fail_errno = error;
        return done();
}

static json_t *verb_hang(struct verb_call *call, struct model_gpu *gpu) {
        char which[16];
        bool on = true;

        if (get_bool(call, "on", &on) < 0 || get_text(call, "which", which, sizeof(which)) < 0)
                return NULL;
        if (text_equal(which, "close"))
                gpu->spec.hang_close = on;
        else if (which[0] == '\0' || text_equal(which, "open"))
                gpu->spec.hang = on;
        else
                return refuse(call, "which must be open or close");
        return done();
}

static json_t *verb_lose(struct verb_call *call, struct model_gpu *gpu) {
        bool on = true, surprise = false;

        if (get_bool(call, "on", &on) < 0 || get_bool(call, "surprise", &surprise) < 0)
                return NULL;
        gpu->spec.lost = on;
        gpu->spec.surprise = on && surprise;
        return done();
}

static json_t *verb_drain(struct verb_call *call, struct model_gpu *gpu) {
        bool on = true;

        if (get_bool(call, "on", &on) < 0)
                return NULL;
        gpu->spec.drain = on;
        return done();
}

static json_t *verb_fabric(struct verb_call *call, struct model_gpu *gpu) {
        uint64_t delay_usec = 0;

        if (get_duration(call, "delay", &delay_usec) < 0)
                return NULL;
        gpu->spec.fabric_delay_usec = delay_usec;
        gpu->fabric_ready_usec = clock_monotonic_usec() + delay_usec;
        return done();
}

/* ---- the bus ---- */

static json_t *wait_unbound(struct verb_call *call, struct model_gpu *gpu) {
        char holders[256];

        if (gpu_wait_unbound(call->model, gpu, call->wait) == 0)
                return done();
        holders_format(call->model, gpu, holders, sizeof(holders));
        return refuse(call, "interrupted: GPU %s is still held by %s; it is unbound when they close it", NVML_NAME(gpu),
                      holders);
}

static json_t *unbind(struct verb_call *call, struct model_gpu *gpu, bool remove_device) {
        int result;

        if (gpu->removing)
                return refuse(call, "GPU %s is being unbound already", NVML_NAME(gpu));
        result = gpu_start_unbind(call->model, gpu, remove_device);
        if (result < 0)
                return refuse(call, "cannot unbind GPU %s: %s", NVML_NAME(gpu), strerror(-result));
        return wait_unbound(call, gpu);
}

static json_t *verb_unbind(struct verb_call *call, struct model_gpu *gpu) {
        if (!gpu->probed)
                return refuse(call, "GPU %s is not bound to the driver", NVML_NAME(gpu));
        return unbind(call, gpu, false);
}

static json_t *verb_remove(struct verb_call *call, struct model_gpu *gpu) {
        if (gpu->probed)
                return unbind(call, gpu, true);
        gpu_remove_unbound(call->model, gpu, &call->who);
        return done();
}

static json_t *verb_bind(struct verb_call *call, struct model_gpu *gpu) {
        if (gpu->probed)
                return refuse(call, "GPU %s is bound already%s", NVML_NAME(gpu),
                              gpu->removing ? "; its unbind waits for its users" : "");
        (void)gpu_bind(call->model, gpu);
        return done();
}

/* To the driver, a GPU that returns is new, and it binds to it automatically. */
static json_t *verb_add(struct verb_call *call, struct model_gpu *gpu) {
        if (gpu->spec.present)
                return refuse(call, "GPU %s is on the bus already", NVML_NAME(gpu));
        (void)gpu_add(call->model, gpu, &call->who);
        return done();
}

/* ---- actions of nvidia-smi ---- */

static json_t *refuse_in_use(struct verb_call *call, struct model_gpu *gpu) {
        char holders[256];

        holders_format(call->model, gpu, holders, sizeof(holders));
        return refuse(call, "GPU %s: In use by another client: %s. Let go of it there first, then reset again",
                      NVML_NAME(gpu), holders);
}

static json_t *verb_reset(struct verb_call *call, struct model_gpu *gpu) {
        char text[96];

        if (gpu_reset(call->model, gpu, &call->who) < 0)
                return refuse_in_use(call, gpu);
        (void)text_format(text, sizeof(text), "GPU %s was successfully reset.", NVML_NAME(gpu));
        return json_pack("{s:s}", "message", text);
}

static int get_settings(struct verb_call *call, struct gpu_settings *settings) {
        static const char *const modes[] = {"Default", "Exclusive_Process", "Prohibited"};
        char mode[32];

        if (get_unsigned(call, "power_limit_w", 200, 700, &settings->power_limit_w) < 0 ||
            get_unsigned(call, "graphics_clock_mhz", 345, 1980, &settings->graphics_clock_mhz) < 0 ||
            get_unsigned(call, "memory_clock_mhz", 1593, 2619, &settings->memory_clock_mhz) < 0 ||
            get_text(call, "compute_mode", mode, sizeof(mode)) < 0)
                return -EINVAL;
        if (mode[0] == '\0')
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
                if (text_equal_nocase(mode, modes[i])) {
                        settings->compute_mode = modes[i];
                        return 0;
                }
        (void)refuse(call, "compute_mode must be Default, Exclusive_Process or Prohibited");
        return -EINVAL;
}

static int open_for_verb(struct verb_call *call, struct model_gpu *gpu, struct model_file **ret_file) {
        int result = file_open_address(call->model, &gpu->spec.address, &call->who, ret_file);

        if (result < 0)
                (void)refuse(call, "cannot open GPU %s: %s (%s)", NVML_NAME(gpu), strerror(-result),
                             strerrorname_np(-result));
        return result;
}

/* Opening initialises a cold GPU. If this is the only open, the settings are lost again at the close. */
static json_t *verb_set(struct verb_call *call, struct model_gpu *gpu) {
        struct gpu_settings settings = gpu->settings;
        struct model_file *file;
        bool kept;

        if (get_settings(call, &settings) < 0 || open_for_verb(call, gpu, &file) < 0)
                return NULL;
        settings = gpu->settings; /* the values after initialisation */
        (void)get_settings(call, &settings);
        gpu->settings = settings;
        kept = gpu->usage > 1 || gpu->spec.legacy;
        file_close(call->model, file);
        return json_pack("{s:b}", "kept", (int)kept);
}

/* Setting the flag opens nothing, but RM requires an initialised GPU, so the caller must have it open. */
static json_t *verb_legacy(struct verb_call *call, struct model_gpu *gpu) {
        struct model_file *file = NULL;
        bool on = true;

        if (get_bool(call, "on", &on) < 0 || (gpu->usage == 0 && open_for_verb(call, gpu, &file) < 0))
                return NULL;
        gpu->spec.legacy = on;
        journal_add(call->model, gpu, &call->who, "legacy", "%s", on ? "on" : "off");
        if (file)
                file_close(call->model, file);
        return json_pack("{s:b}", "legacy", (int)on);
}

/* ---- verbs on no GPU ---- */

static json_t *verb_status(struct verb_call *call, struct model_gpu *gpu) {
        return status_json(call->model);
}

/* With a timeout, sleeps until there is a record. */
static json_t *verb_journal(struct verb_call *call, struct model_gpu *gpu) {
        uint64_t until_usec, timeout_usec = 0;
        unsigned since = 0;
        char event[32];

        if (get_unsigned(call, "since", 0, UINT32_MAX, &since) < 0 ||
            get_text(call, "event", event, sizeof(event)) < 0 || get_duration(call, "timeout", &timeout_usec) < 0)
                return NULL;
        until_usec = clock_monotonic_usec() + timeout_usec;
        for (;;) {
                json_t *result = journal_read(call->model, since, event[0] != '\0' ? event : NULL);

                if (json_array_size(json_object_get(result, "records")) > 0 || call->model->stopping ||
                    (call->wait && call->wait->interrupted) || clock_monotonic_usec() >= until_usec)
                        return result;
                json_decref(result);
                model_sleep_until(call->model, until_usec);
        }
}

/* ---- dispatch ---- */

enum verb_target {
        ON_NONE,   /* reads the model; not journalled */
        ON_GPU,    /* needs a GPU on the bus */
        ON_ABSENT, /* needs one that is not */
};

static const struct verb {
        const char *name;
        enum verb_target target;
        json_t *(*run)(struct verb_call *call, struct model_gpu *gpu);
} verbs[] = {
        /* clang-format off */
        {"add", ON_ABSENT, verb_add},
        {"bind", ON_GPU, verb_bind},
        {"drain", ON_GPU, verb_drain},
        {"fabric", ON_GPU, verb_fabric},
        {"fail", ON_GPU, verb_fail},
        {"hang", ON_GPU, verb_hang},
        {"journal", ON_NONE, verb_journal},
        {"legacy", ON_GPU, verb_legacy},
        {"lose", ON_GPU, verb_lose},
        {"remove", ON_GPU, verb_remove},
        {"reset", ON_GPU, verb_reset},
        {"set", ON_GPU, verb_set},
        {"status", ON_NONE, verb_status},
        {"unbind", ON_GPU, verb_unbind},
        /* clang-format on */
};

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (text_equal(verbs[i].name, name))
                        return &verbs[i];
        return NULL;
}

bool model_has_verb(const char *verb) {
        return find_verb(verb);
}

static struct model_gpu *find_gpu(struct model *model, const char *selector) {
        struct pci_address address;
        uint64_t index;

        if (text_parse_u64(selector, 10, UINT32_MAX, &index) == 0)
                return index < model->n_gpus ? &model->gpus[index] : NULL;
        for (size_t i = 0; i < model->n_gpus; i++)
                if (text_equal_nocase(model->gpus[i].spec.uuid, selector))
                        return &model->gpus[i];
        if (pci_address_parse(selector, &address) < 0)
                return NULL;
        for (size_t i = 0; i < model->n_gpus; i++)
                if (pci_address_compare(&model->gpus[i].spec.address, &address) == 0)
                        return &model->gpus[i];
        return NULL;
}

/* The result for one GPU: the verb's members, and the GPU's index. */
static json_t *run_on(struct verb_call *call, const struct verb *verb, struct model_gpu *gpu) {
        char address[PCI_ADDRESS_SIZE];
        json_t *result;

        if (verb->target == ON_GPU && !gpu->spec.present)
                return refuse(call, "GPU %s is not on the bus; `add` brings it back", NVML_NAME(gpu));
        result = verb->run(call, gpu);
        model_changed(call->model);
        if (result)
                (void)json_object_set_new(result, "gpu", json_string(pci_address_format(&gpu->spec.address, address)));
        return result;
}

static json_t *run_on_all(struct verb_call *call, const struct verb *verb) {
        json_t *list = json_array(), *result;

        for (size_t i = 0; i < call->model->n_gpus; i++) {
                struct model_gpu *gpu = &call->model->gpus[i];

                if (gpu->spec.present != (verb->target == ON_GPU))
                        continue;
                result = run_on(call, verb, gpu);
                if (!result) {
                        json_decref(list);
                        return NULL;
                }
                (void)json_array_append_new(list, result);
        }
        return json_pack("{s:o}", "gpus", list);
}

static json_t *run(struct verb_call *call, const struct verb *verb) {
        char selector[64];
        struct model_gpu *gpu;

        if (verb->target == ON_NONE)
                return verb->run(call, NULL);
        if (get_text(call, "gpu", selector, sizeof(selector)) < 0)
                return NULL;
        if (selector[0] == '\0')
                return refuse(call, "%s needs a GPU: its index, PCI address or UUID, or all", verb->name);
        if (text_equal(selector, "all"))
                return run_on_all(call, verb);
        gpu = find_gpu(call->model, selector);
        if (!gpu)
                return refuse(call, "there is no GPU '%s': the scenario has %zu, with indices from 0", selector,
                              call->model->n_gpus);
        return run_on(call, verb, gpu);
}

static void record(struct verb_call *call, const struct verb *verb) {
        char *text = json_dumps(call->arguments, JSON_COMPACT);

        journal_add(call->model, NULL, &call->who, "control", "%s %s", verb->name, text ? text : "{}");
        free(text);
}

json_t *model_run_verb(struct model *model, const char *verb_name, json_t *arguments, const struct model_caller *caller,
                       struct model_wait *wait, char *error, size_t error_size) {
        const struct verb *verb = find_verb(verb_name);
        struct verb_call call = {
                .model = model,
                .arguments = arguments,
                .who = who_is(caller),
                .wait = wait,
                .error = error,
                .error_size = error_size,
        };
        json_t *result;
        MODEL_LOCKED(model);

        (void)text_copy(error, error_size, "out of memory");
        if (!verb)
                return refuse(&call, "there is no verb '%s'; docs/simulator.md lists them", verb_name);
        if (verb->target != ON_NONE)
                record(&call, verb);
        result = run(&call, verb);
        if (!result && verb->target != ON_NONE)
                journal_add(model, NULL, &call.who, "control-failed", "%s: %s", verb->name, error);
        return result;
}
