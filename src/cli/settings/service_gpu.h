#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A GPU of the settings service: the daemon's last report, what is to be done, and its results. */

#include <jansson.h>

#include "cli/settings/worker.h"
#include "config/config.h"
#include "rpc/holdfast.h"

enum { SERVICE_EVENTS_MAX = 16 };

struct service_event {
        enum hook_event event;
        char reason[256];
};

struct service_gpu {
        struct pci_address address;
        size_t index;
        struct hf_gpu said; /* the daemon's last report */
        bool present;       /* in the last list */
        bool due;           /* opened anew: settings are to be applied */
        bool result_is_old; /* the worker applies the settings, and has not reported yet */
        bool known;         /* seen held: daemon_started, opens and since describe the last open */
        bool remembered;    /* the next three are from the file of the service before this one */
        uint64_t daemon_started;
        uint32_t opens;
        uint64_t since;
        bool failed; /* HOOK_FAILED was already queued for this failure */
        struct config_settings wanted;
        json_t *configured;                              /* the configured settings, as texts */
        struct service_event events[SERVICE_EVENTS_MAX]; /* in their order */
        size_t n_events;
        uint64_t look_usec; /* when it is compared next */
        struct settings_worker worker;
        json_t *result; /* of apply_run(), since the GPU was opened; or NULL */
        json_t *hooks;  /* the last result of each hook */
};

struct service_gpu *service_gpu_new(const struct pci_address *address);
struct service_gpu *service_gpu_free(struct service_gpu *gpu);

/* Takes over the row that the previous service has written, if that service had nothing left to do for this GPU. */
void service_gpu_remember(struct service_gpu *gpu, json_t *row);

/* Sets what is wanted. If that has changed, the settings are due. */
void service_gpu_want(struct service_gpu *gpu, struct config_settings wanted);

/* Takes the report of the daemon that started at that time, and queues events. said: NULL if it does not list the GPU.
 */
void service_gpu_note(struct service_gpu *gpu, const struct hf_gpu *said, uint64_t daemon_started);

/* Whether settings may be applied now: the GPU is held, and no client has a lease. */
bool service_gpu_is_held(const struct service_gpu *gpu);

/* Takes a line from the worker, and logs what is new in it. */
void service_gpu_take(struct service_gpu *gpu, json_t *line);

/* Kills the worker, whose results are then unknown. */
void service_gpu_give_up(struct service_gpu *gpu, const char *why);

/* Its row in docs/schemas/settings.json, or NULL when out of memory. */
json_t *service_gpu_json(const struct service_gpu *gpu);
