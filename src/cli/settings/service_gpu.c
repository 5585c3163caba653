/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/settings/service_gpu.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/node/settings_state.h"
#include "cli/report/report.h"

struct service_gpu *service_gpu_new(const struct pci_address *address) {
        struct service_gpu *gpu = calloc(1, sizeof(*gpu));

        if (!gpu)
                return NULL;
        gpu->address = *address;
        gpu->worker.fd = -1;
        gpu->hooks = json_array();
        return gpu;
}

struct service_gpu *service_gpu_free(struct service_gpu *gpu) {
        if (gpu) {
                settings_worker_kill(&gpu->worker);
                json_decref(gpu->result);
                json_decref(gpu->hooks);
                json_decref(gpu->configured);
        }
        free(gpu);
        return NULL;
}

bool service_gpu_is_held(const struct service_gpu *gpu) {
        return gpu->present && gpu->said.state == HF_GPU_HELD && !gpu->said.leased;
}

/* ---- what is wanted ------------------------------------------------------------------------------------------- */

void service_gpu_remember(struct service_gpu *gpu, json_t *row) {
        json_t *hooks = json_object_get(row, "hooks");

        if (!json_is_true(json_object_get(row, "applied")) || json_is_true(json_object_get(row, "busy")))
                return; /* applied, but busy: there were hooks left to run */
        gpu->known = gpu->remembered = true;
        gpu->daemon_started = (uint64_t)json_integer_value(json_object_get(row, "daemon_started"));
        gpu->opens = (uint32_t)json_integer_value(json_object_get(row, "opens"));
        gpu->since = (uint64_t)json_integer_value(json_object_get(row, "held_since"));
        gpu->configured = json_incref(json_object_get(row, "configured"));
        gpu->result = json_incref(row);
        if (json_is_array(hooks)) {
                json_decref(gpu->hooks);
                gpu->hooks = json_incref(hooks);
        }
}

void service_gpu_want(struct service_gpu *gpu, struct config_settings wanted) {
        json_t *configured = json_array();

        gpu->wanted = wanted;
        for (enum setting i = 0; i < N_SETTINGS; i++) {
                char text[SETTING_TEXT_SIZE];

                if (wanted.values[i].is_set)
                        (void)json_array_append_new(
                                configured,
                                json_sprintf("%s = %s", setting_name(i), setting_format(i, &wanted.values[i], text)));
        }
        if (!json_equal(configured, gpu->configured))
                gpu->due = service_gpu_is_held(gpu);
        json_decref(gpu->configured);
        gpu->configured = configured;
}

/* ---- what the daemon says ------------------------------------------------------------------------------------- */

/* If the queue is full, the new event replaces the last one. */
static void queue_event(struct service_gpu *gpu, enum hook_event event, const char *reason) {
        struct service_event *place =
                &gpu->events[gpu->n_events < SERVICE_EVENTS_MAX ? gpu->n_events++ : SERVICE_EVENTS_MAX - 1];

        place->event = event;
        text_set(place->reason, "%s", reason);
        (void)text_printable(place->reason);
}

/* Drops the results: the GPU was released or opened anew. */
static void forget(struct service_gpu *gpu) {
        json_decref(gpu->result);
        gpu->result = NULL;
        gpu->result_is_old = false;
        if (gpu->worker.applying)
                settings_worker_kill(&gpu->worker);
}

/*
 * Decides whether the GPU was opened anew. With the same daemon: if the number of opens or the time of the last change
 * of state differs. The number alone does not suffice: it begins again when a GPU is removed and comes back. With a new
 * daemon: if it has opened the GPU (a daemon that adopted the GPU reports 0 opens), if the GPU was not known before, or
 * if the daemon was started while no settings service ran.
 */
static void note_held(struct service_gpu *gpu, uint64_t daemon_started) {
        bool same_daemon = gpu->known && gpu->daemon_started == daemon_started;
        bool same_hold = gpu->opens == gpu->said.opens && gpu->since == gpu->said.since_realtime_usec;
        bool anew = same_daemon ? !same_hold : !gpu->known || gpu->remembered || gpu->said.opens > 0;

        gpu->known = true;
        gpu->remembered = false;
        gpu->failed = false;
        gpu->daemon_started = daemon_started;
        gpu->opens = gpu->said.opens;
        gpu->since = gpu->said.since_realtime_usec;
        if (!anew)
                return;
        forget(gpu);
        gpu->due = true;
        queue_event(gpu, HOOK_HELD, "opened anew");
}

static const char *reason_of_release(const struct service_gpu *gpu) {
        if (!gpu->present)
                return "the daemon does not list it any more";
        return gpu->said.leased ? "leased" : gpu->said.wanted ? "being opened again" : "not wanted";
}

void service_gpu_note(struct service_gpu *gpu, const struct hf_gpu *said, uint64_t daemon_started) {
        bool was_held = gpu->present && gpu->said.state == HF_GPU_HELD;
        bool was_leased = gpu->present && gpu->said.leased;

        gpu->present = said != NULL;
        if (said)
                gpu->said = *said;
        if (!was_leased && gpu->present && gpu->said.leased)
                queue_event(gpu, HOOK_LEASE_BEGUN, "");
        if (was_held && (!gpu->present || gpu->said.state != HF_GPU_HELD)) {
                forget(gpu);
                queue_event(gpu, HOOK_RELEASED, reason_of_release(gpu));
        }
        if (was_leased && (!gpu->present || !gpu->said.leased))
                queue_event(gpu, HOOK_LEASE_ENDED, "");
        if (service_gpu_is_held(gpu))
                note_held(gpu, daemon_started);
        if (gpu->present && gpu->said.state == HF_GPU_FAILED && !gpu->failed) {
                gpu->failed = true;
                queue_event(gpu, HOOK_FAILED, gpu->said.error_text);
        }
}

/* ---- what the worker says ------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key) {
        return settings_state_text(object, key, "");
}

static void log_setting(const struct service_gpu *gpu, const json_t *row) {
        char address[PCI_ADDRESS_SIZE];

        (void)pci_address_format(&gpu->address, address);
        if (json_is_true(json_object_get(row, "differs")))
                log_write(LOG_WARNING, "GPU %zu (%s): %s is not as wanted (%s): %s", gpu->index, address,
                          text_of(row, "name"), text_of(row, "wanted"), text_of(row, "reason"));
        else
                log_write(LOG_INFO, "GPU %zu (%s): %s is %s", gpu->index, address, text_of(row, "name"),
                          text_of(row, "wanted"));
}

/* "since" stays while the setting does not change. */
static void note_since(const struct service_gpu *gpu, json_t *row, const char *now) {
        size_t place;
        const json_t *before =
                settings_state_find_row(json_object_get(gpu->result, "settings"), "name", text_of(row, "name"), &place);
        bool is_same = before && text_equal(text_of(before, "actual"), text_of(row, "actual")) &&
                       text_equal(text_of(before, "wanted"), text_of(row, "wanted")) &&
                       json_equal(json_object_get(before, "differs"), json_object_get(row, "differs"));

        (void)json_object_set_new(row, "since", json_string(is_same ? text_of(before, "since") : now));
        if (!is_same)
                log_setting(gpu, row);
}

static void take_hook(struct service_gpu *gpu, json_t *row, const char *now) {
        const char *name = text_of(row, "name"), *failure = text_of(row, "failure");
        char address[PCI_ADDRESS_SIZE];
        size_t place;

        (void)json_object_set_new(row, "at", json_string(now));
        if (failure[0] != '\0')
                log_write(LOG_ERR, "GPU %zu (%s): hook %s failed at event %s: %s", gpu->index,
                          pci_address_format(&gpu->address, address), name, text_of(row, "event"), failure);
        if (settings_state_find_row(gpu->hooks, "name", name, &place))
                (void)json_array_set(gpu->hooks, place, row);
        else
                (void)json_array_append(gpu->hooks, row);
}

void service_gpu_take(struct service_gpu *gpu, json_t *line) {
        const struct report_text now = report_time_utc(clock_realtime_usec());
        json_t *row;
        size_t i;

        if (!json_object_get(line, "settings")) {
                take_hook(gpu, line, now.text);
                return;
        }
        json_array_foreach(json_object_get(line, "settings"), i, row)
                note_since(gpu, row, now.text);
        json_decref(gpu->result);
        gpu->result = json_incref(line);
        gpu->result_is_old = false;
}

void service_gpu_give_up(struct service_gpu *gpu, const char *why) {
        char address[PCI_ADDRESS_SIZE];

        log_write(LOG_ERR, "GPU %zu (%s): %s", gpu->index, pci_address_format(&gpu->address, address), why);
        if (gpu->worker.applying) {
                json_decref(gpu->result);
                gpu->result = json_pack("{s:s, s:o}", "problem", why, "settings",
                                        apply_rows_unknown(&gpu->wanted, true, why));
                gpu->result_is_old = false;
        }
        settings_worker_kill(&gpu->worker);
}

/* ---- what all may read ---------------------------------------------------------------------------------------- */

static json_t *settings_json(const struct service_gpu *gpu) {
        json_t *settings = json_object_get(gpu->result, "settings");

        if (settings)
                return json_incref(settings);
        return apply_rows_unknown(&gpu->wanted, false,
                                  service_gpu_is_held(gpu) ? "being applied"
                                  : gpu->said.leased       ? "not applied: a client has a lease of the GPU"
                                                           : "not applied: the GPU is not held");
}

json_t *service_gpu_json(const struct service_gpu *gpu) {
        char address[PCI_ADDRESS_SIZE];
        json_t *problem = json_object_get(gpu->result, "problem");
        bool is_applied = service_gpu_is_held(gpu) && !gpu->due && !gpu->result_is_old && gpu->result;
        bool is_busy = gpu->due || gpu->n_events > 0 || gpu->worker.fd >= 0;

        return json_pack("{s:I, s:s, s:s, s:s, s:O, s:b, s:b, s:I, s:I, s:I, s:O, s:o, s:O}", "index",
                         (json_int_t)gpu->index, "address", pci_address_format(&gpu->address, address), "uuid",
                         gpu->said.uuid, "policy", gpu->wanted.policy == CONFIG_ENFORCE ? "enforce" : "at-open",
                         "configured", gpu->configured, "applied", (int)is_applied, "busy", (int)is_busy,
                         "daemon_started", (json_int_t)gpu->daemon_started, "opens", (json_int_t)gpu->opens,
                         "held_since", (json_int_t)gpu->since, "problem", problem ? problem : json_null(), "settings",
                         settings_json(gpu), "hooks", gpu->hooks);
}
