/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/report.h"

#include <errno.h>

#include "base/cleanup.h"
#include "cli/node/settings_state.h"
#include "cli/report/gpu_values.h"

/* Unknown values are null and not left out: every key of the schema is there. */

/* ---- the daemon and the driver ----------------------------------------------- */

static json_t *daemon_json(const struct snapshot *snapshot) {
        bool ours = snapshot->daemon == DAEMON_HOLDFAST;
        json_int_t pid = ours ? (json_int_t)snapshot->head.pid : (json_int_t)snapshot->daemon_pid;

        return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "kind", snapshot_daemon_word(snapshot), "version",
                         report_json_text(ours ? snapshot->head.version : ""), "backend",
                         report_json_text(ours ? snapshot->head.backend : ""), "pid",
                         pid > 0 ? json_integer(pid) : json_null(), "started",
                         report_json_time(ours ? snapshot->head.started_realtime_usec : 0), "ready",
                         ours ? json_boolean(snapshot->head.ready) : json_null(), "socket", snapshot->daemon_socket,
                         "error", report_json_text(snapshot->daemon_error));
}

static json_t *driver_json(const struct snapshot *snapshot) {
        return json_pack("{s:b, s:o}", "loaded", snapshot->driver_loaded, "version",
                         report_json_text(snapshot->driver_version));
}

/* ---- GPUs -------------------------------------------------------------------- */

static json_t *error_json(const struct snapshot_gpu *gpu) {
        if (gpu->detail.error_text[0] == '\0')
                return json_null();
        return json_pack("{s:s, s:i, s:I}", "text", gpu->detail.error_text, "errno", (int)gpu->detail.error_number,
                         "nv_status", (json_int_t)gpu->detail.error_nv_status);
}

static const struct gpu_key detail_keys[] = {
        /* clang-format off */
        {"wanted", gpu_wanted},
        {"configured", gpu_configured},
        {"leased", gpu_leased},
        {"stuck", gpu_stuck},
        {"since", gpu_since},
        {"open_ms", gpu_open},
        {"opens", gpu_opens},
        {"failures", gpu_failures},
        {"error", gpu_error},
        {"uvm", gpu_uvm},
        {"uvm_reason", gpu_uvm_reason},
        /* clang-format on */
};

/* What only our daemon reports; null with any other. */
static json_t *detail_json(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        json_t *detail;

        if (!snapshot_has_detail(snapshot, gpu))
                return json_null();
        detail = gpu_keys_json(detail_keys, ARRAY_SIZE(detail_keys), snapshot, gpu);
        (void)json_object_set_new(detail, "error", error_json(gpu)); /* in the place of its text */
        return detail;
}

static json_t *clients_json(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        json_t *clients = json_array();

        for (size_t i = 0; i < gpu->n_clients; i++) {
                const struct holder *client = &gpu->clients[i];

                if (snapshot_is_client(snapshot, client))
                        (void)json_array_append_new(clients,
                                                    json_pack("{s:i, s:o, s:I}", "pid", (int)client->pid, "name",
                                                              report_json_text(client->name), "descriptors",
                                                              (json_int_t)client->n_descriptors));
        }
        return clients;
}

static json_t *settings_json(const struct snapshot_gpu *gpu) {
        if (!gpu->settings)
                return json_null();
        return json_pack("{s:b, s:o}", "applied", json_is_true(json_object_get(gpu->settings, "applied")), "problems",
                         settings_state_problems(gpu->settings));
}

static struct value persistence_word(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        static const char *const modes[] = {
                [PERSISTENCE_OFF] = "off",
                [PERSISTENCE_ON] = "on",
                [PERSISTENCE_UNKNOWN] = "unknown",
        };

        return value_text(modes[gpu->persistence]);
}

static const struct gpu_key keys[] = {
        /* clang-format off */
        {"index", gpu_index},
        {"address", gpu_address},
        {"bus_id", gpu_bus_id},
        {"minor", gpu_minor},
        {"uuid", gpu_uuid},
        {"name", gpu_name},
        {"excluded", gpu_excluded},
        {"persistence_mode", persistence_word},
        {"state", gpu_state},
        {"held", gpu_held},
        {"initialised", gpu_initialised},
        {"legacy_flag", gpu_legacy},
        {"legacy_flag_inferred", gpu_legacy_inferred},
        /* clang-format on */
};

static json_t *gpu_json(const struct snapshot *snapshot, const struct snapshot_gpu *gpu) {
        json_t *object = gpu_keys_json(keys, ARRAY_SIZE(keys), snapshot, gpu);

        (void)json_object_set_new(object, "detail", detail_json(snapshot, gpu));
        (void)json_object_set_new(object, "settings", settings_json(gpu));
        (void)json_object_set_new(object, "clients", clients_json(snapshot, gpu));
        return object;
}

/* ----------------------------------------------------------------------------- */

json_t *report_json_text(const char *text) {
        return text[0] != '\0' ? json_string(text) : json_null();
}

json_t *report_json_time(uint64_t realtime_usec) {
        return realtime_usec != 0 ? json_string(report_time_utc(realtime_usec).text) : json_null();
}

int report_json_print(json_t *document, FILE *stream) {
        if (!document)
                return -ENOMEM;
        /* With 16 digits 0.1 stays 0.1, and microseconds since the epoch are whole. An error of the stream is reported
         * when it is closed. */
        (void)json_dumpf(document, stream, JSON_INDENT(2) | JSON_REAL_PRECISION(16));
        (void)fputc('\n', stream);
        json_decref(document);
        return 0;
}

json_t *report_json(const struct snapshot *snapshot) {
        json_t *gpus = json_array();

        each_selected(gpu, snapshot)
                (void)json_array_append_new(gpus, gpu_json(snapshot, gpu));
        return json_pack("{s:s, s:o, s:o, s:I, s:I, s:o, s:o}", "schema", "holdfast.status/1", "daemon",
                         daemon_json(snapshot), "driver", driver_json(snapshot), "count", (json_int_t)snapshot->n_gpus,
                         "held", (json_int_t)snapshot_count_held(snapshot), "clients_complete",
                         snapshot->clients_known ? json_boolean(snapshot->clients_complete) : json_null(), "gpus",
                         gpus);
}
