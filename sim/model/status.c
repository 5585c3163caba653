/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The whole state as JSON, for `status`. docs/simulator.md describes each member. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/model/private.h"

enum { STATUS_VERSION = 1 };

/* The users of a GPU: files of its node, and references by other files. */
static bool file_uses(const struct model_file *file, const struct model_gpu *gpu) {
        return file->gpu == gpu || file_references(file, gpu, true) || file_references(file, gpu, false);
}

static const char *state_name(enum file_state state) {
        static const char *const names[] = {
                [FILE_OPENING] = "opening",
                [FILE_OPEN] = "open",
                [FILE_FAILED] = "failed",
                [FILE_GONE] = "gone",
        };

        return names[state];
}

static json_t *handle_json(const struct model_file *file, const char *node) {
        json_t *comm = json_string(file->who.comm);

        return json_pack("{s:i, s:o, s:s, s:s}", "pid", (int)file->who.pid, "comm", comm ? comm : json_string("?"),
                         "node", node, "state", state_name(file->state));
}

static json_t *handles_json(const struct model *model, const struct model_gpu *gpu) {
        json_t *handles = json_array();

        for (const struct model_file *file = LIST_FIRST(&model->files); handles && file; file = LIST_NEXT(file, link)) {
                if (file->gpu == gpu)
                        (void)json_array_append_new(handles, handle_json(file, "gpu"));
                if (file_references(file, gpu, true))
                        (void)json_array_append_new(handles, handle_json(file, "uvm"));
                if (file_references(file, gpu, false))
                        (void)json_array_append_new(handles, handle_json(file, "ctl"));
        }
        return handles;
}

void holders_format(struct model *model, const struct model_gpu *gpu, char *buffer, size_t size) {
        const struct model_file *file;

        buffer[0] = '\0';
        LIST_FOREACH(file, &model->files, link) {
                if (!file_uses(file, gpu) || file->state == FILE_FAILED || file->state == FILE_GONE)
                        continue;
                text_append_item(buffer, size, ", ", "%s (pid %d)", file->who.comm, (int)file->who.pid);
        }
        if (buffer[0] == '\0')
                (void)text_copy(buffer, size, "nobody whom the simulator knows");
}

static json_t *settings_json(const struct gpu_settings *settings) {
        return json_pack("{s:i, s:i, s:i, s:s}", "power_limit_w", (int)settings->power_limit_w, "graphics_clock_mhz",
                         (int)settings->graphics_clock_mhz, "memory_clock_mhz", (int)settings->memory_clock_mhz,
                         "compute_mode", settings->compute_mode);
}

static json_t *numa_json(const struct model *model, const struct model_gpu *gpu) {
        struct model_numa numa;

        numa_fill(model, gpu, &numa);
        return json_pack("{s:i, s:b, s:i, s:I, s:I}", "status", (int)numa.status, "auto_online", (int)numa.auto_online,
                         "node", numa.node, "memory_address", (json_int_t)numa.memory_address, "memory_size",
                         (json_int_t)numa.memory_size);
}

static json_t *minor_json(const struct model_gpu *gpu) {
        return gpu->minor == MODEL_MINOR_NONE ? json_null() : json_integer(gpu->minor);
}

static json_t *life_json(const struct model_gpu *gpu) {
        return json_pack("{s:b, s:b, s:b, s:b, s:i, s:i, s:i, s:i, s:i}", "initialised",
                         (int)(gpu->initialised || gpu->kept), "initialising", (int)gpu->initialising, "unbinding",
                         (int)gpu->removing, "ever_initialised", (int)gpu->ever_initialised, "usage_count",
                         (int)gpu->usage, "initialisations", (int)gpu->initialisations, "teardowns",
                         (int)gpu->teardowns, "adapter_status", (int)gpu->adapter_status, "uvm",
                         (int)gpu->uvm_registrations);
}

static json_t *spec_json(const struct scenario_gpu *spec) {
        bool all = spec->fail_opens == -1u;

        return json_pack("{s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:s?, s:o}", "uuid", spec->uuid, "model",
                         spec->model, "present", (int)spec->present, "legacy", (int)spec->legacy, "drain",
                         (int)spec->drain, "excluded", (int)spec->excluded, "lost", (int)spec->lost, "surprise",
                         (int)spec->surprise, "confidential", (int)spec->confidential, "hang",
                         spec->hang         ? "open"
                         : spec->hang_close ? "close"
                                            : NULL,
                         "fail_opens", all ? json_string("all") : json_integer(spec->fail_opens));
}

static json_t *gpu_json(const struct model *model, const struct model_gpu *gpu) {
        char address[PCI_ADDRESS_SIZE];
        json_t *object = json_pack("{s:i, s:s, s:o, s:b, s:o, s:o, s:o}", "index", (int)(gpu - model->gpus), "address",
                                   pci_address_format(&gpu->spec.address, address), "minor", minor_json(gpu), "bound",
                                   (int)gpu->bound, "settings", settings_json(&gpu->settings), "numa",
                                   numa_json(model, gpu), "handles", handles_json(model, gpu));
        json_t *spec = spec_json(&gpu->spec), *life = life_json(gpu);

        if (object && (json_object_update(object, spec) < 0 || json_object_update(object, life) < 0)) {
                json_decref(object);
                object = NULL;
        }
        json_decref(spec);
        json_decref(life);
        return object;
}

static json_t *unknown_json(const struct model *model) {
        json_t *list = json_array();

        for (size_t i = 0; list && i < model->n_unknown; i++)
                (void)json_array_append_new(list,
                                            json_pack("{s:s, s:I, s:I}", "node", node_name(model->unknown[i].node),
                                                      "command", (json_int_t)model->unknown[i].command, "count",
                                                      (json_int_t)model->unknown[i].count));
        return list;
}

json_t *status_json(struct model *model) {
        json_t *gpus = json_array();

        for (size_t i = 0; gpus && i < model->n_gpus; i++)
                if (json_array_append_new(gpus, gpu_json(model, &model->gpus[i])) < 0) {
                        json_decref(gpus);
                        gpus = NULL;
                }
        return json_pack("{s:i, s:s, s:I, s:I, s:o, s:o, s:I}", "version", STATUS_VERSION, "driver_version",
                         model->scenario.driver_version, "t_usec",
                         (json_int_t)(clock_monotonic_usec() - model->started_usec), "journal_last",
                         (json_int_t)journal_last(model->journal), "gpus", gpus, "unknown_ioctls", unknown_json(model),
                         "unknown_ioctls_beyond", (json_int_t)model->unknown_beyond);
}
