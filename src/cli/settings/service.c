/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/settings/service.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/node/settings_state.h"
#include "cli/report/report.h"
#include "cli/settings/service_gpu.h"
#include "client/client.h"

#define ANSWER_USEC (5 * USEC_PER_SEC)
#define RETRY_USEC (1 * USEC_PER_SEC) /* to find the daemon */

/* How often time limits are checked, and all else without a descriptor. */
enum { TURN_BUSY_MSEC = 500, TURN_IDLE_MSEC = 5000 };

struct settings_service {
        const struct service_options *options;
        struct config config;
        int signal_fd;
        struct client *client; /* with a Watch call on its way, or NULL */
        uint64_t retry_usec;
        uint64_t serial;
        int32_t daemon_pid;
        bool said_missing;
        bool ends;
        bool is_followed; /* by another service, for which the state stays */
        bool changed;     /* the state is to be written */
        size_t n_gpus;
        struct service_gpu *gpus[HF_GPUS_MAX];
};

static void settings_service_done(struct settings_service *service) {
        for (size_t i = 0; i < service->n_gpus; i++)
                service->gpus[i] = service_gpu_free(service->gpus[i]);
        client_done(&service->client);
        service->signal_fd = fd_close(service->signal_fd);
}

/* ---- what is wanted ------------------------------------------------------------------------------------------- */

static void find_wanted(const struct settings_service *service, struct service_gpu *gpu) {
        struct gpu_info info = {.address = gpu->address};

        text_set(info.uuid, "%s", gpu->said.uuid);
        service_gpu_want(gpu, config_settings(&service->config, &info, (int)gpu->index));
}

/* Returns 0, also when there is no file; or negative errno after logging why. */
static int read_config(struct settings_service *service) {
        char error[CONFIG_ERROR_SIZE];
        int r = config_read(&service->config, service->options->config, error);

        if (r == -ENOENT) {
                config_init(&service->config);
                return 0;
        }
        if (r < 0)
                log_write(LOG_ERR, "%s", error);
        return r;
}

static void reload(struct settings_service *service) {
        if (read_config(service) < 0) {
                log_write(LOG_ERR, "the current configuration stays in effect");
                return;
        }
        log_write(LOG_INFO, "configuration read again");
        for (size_t i = 0; i < service->n_gpus; i++) {
                find_wanted(service, service->gpus[i]);
                service->gpus[i]->due = service_gpu_is_held(service->gpus[i]);
        }
        service->changed = true;
}

/* ---- what the daemon says ------------------------------------------------------------------------------------- */

/* Finds or adds the GPU's row. NULL: there is no room. */
static struct service_gpu *get_row(struct settings_service *service, const struct pci_address *address) {
        for (size_t i = 0; i < service->n_gpus; i++)
                if (pci_address_compare(&service->gpus[i]->address, address) == 0)
                        return service->gpus[i];
        if (service->n_gpus == HF_GPUS_MAX)
                return NULL;
        service->gpus[service->n_gpus] = service_gpu_new(address);
        return service->gpus[service->n_gpus] ? service->gpus[service->n_gpus++] : NULL;
}

static bool is_listed(const struct service_gpu *gpu, const struct hf_list_head *head, const struct hf_gpu *gpus) {
        for (uint32_t i = 0; i < head->n_gpus; i++) {
                const struct pci_address address = client_address(&gpus[i].address);

                if (pci_address_compare(&address, &gpu->address) == 0)
                        return true;
        }
        return false;
}

static void note_list(struct settings_service *service, const struct hf_list_head *head, struct hf_gpu *gpus) {
        service->serial = head->serial;
        service->daemon_pid = (int32_t)head->pid;
        for (uint32_t i = 0; i < head->n_gpus; i++) {
                const struct pci_address address = client_address(&gpus[i].address);
                struct service_gpu *gpu = get_row(service, &address);

                if (!gpu)
                        continue;
                (void)text_printable(gpus[i].uuid);
                gpu->index = i;
                service_gpu_note(gpu, &gpus[i], head->started_realtime_usec);
                find_wanted(service, gpu); /* its UUID may be known only now */
        }
        for (size_t i = 0; i < service->n_gpus; i++)
                if (service->gpus[i]->present && !is_listed(service->gpus[i], head, gpus))
                        service_gpu_note(service->gpus[i], NULL, head->started_realtime_usec);
        service->changed = true;
}

static void lose_daemon(struct settings_service *service) {
        client_done(&service->client);
        service->serial = 0;
        service->retry_usec = clock_monotonic_usec() + RETRY_USEC;
}

/* Sends a Watch call if there is none, and a daemon. */
static void watch(struct settings_service *service) {
        char path[128];
        int r;

        if (service->client || clock_monotonic_usec() < service->retry_usec)
                return;
        r = client_socket_path(path, sizeof(path), service->options->locations);
        if (r == 0)
                r = client_connect(&service->client, path, ANSWER_USEC);
        if (r == 0)
                r = client_watch_begin(service->client, service->serial);
        if (r == 0) {
                service->said_missing = false;
                return;
        }
        if (!take_bool(&service->said_missing)) {
                char why[384];

                client_connect_error(why, sizeof(why), path, r);
                log_write(LOG_WARNING, "%s. Waiting for it", why);
        }
        service->said_missing = true;
        lose_daemon(service);
}

static void read_answer(struct settings_service *service) {
        CLEANUP(free_ptr) struct hf_gpu *gpus = NULL;
        struct hf_list_head head;
        int r = client_watch_end(service->client, &head, &gpus);

        if (r == -EOPNOTSUPP && !service->said_missing) {
                log_write(LOG_ERR, "the daemon that runs is not Holdfast's: it does not report when a GPU was opened");
                service->said_missing = true;
        }
        if (r == 0)
                note_list(service, &head, gpus);
        if (r < 0 || client_watch_begin(service->client, service->serial) < 0)
                lose_daemon(service);
}

/* ---- what is done about it ------------------------------------------------------------------------------------ */

/* If NVML did not start or answer, each look tries again to apply the settings. */
static enum apply_mode mode_of_look(const struct service_gpu *gpu) {
        if (json_is_string(json_object_get(gpu->result, "problem")))
                return APPLY_CHANGE;
        return gpu->wanted.policy == CONFIG_ENFORCE ? APPLY_CHANGE_IF_IDLE : APPLY_COMPARE;
}

static void fill_call(const struct settings_service *service, const struct service_gpu *gpu,
                      struct hook_call *ret_call) {
        *ret_call = (struct hook_call){
                .index = gpu->index,
                .event = gpu->events[0].event,
                .limit_usec = service->options->hook_usec,
        };
        (void)locations_path(ret_call->folder, service->options->locations, HOOKS_FOLDER);
        (void)pci_address_format(&gpu->address, ret_call->address);
        text_set(ret_call->uuid, "%s", gpu->said.uuid);
        text_set(ret_call->reason, "%s", gpu->events[0].reason);
}

/* Starts the GPU's worker if there is something to do. After an open, settings come before hooks. */
static void employ(struct settings_service *service, struct service_gpu *gpu) {
        uint64_t now_usec = clock_monotonic_usec();
        bool held = service_gpu_is_held(gpu), has_event = gpu->n_events > 0;
        bool is_opening = has_event && gpu->events[0].event == HOOK_HELD;
        bool applies = held && gpu->due && (!has_event || is_opening);
        bool looks = held && !gpu->due && !has_event && now_usec >= gpu->look_usec && gpu->wanted.n > 0;
        struct apply apply = {
                .locations = service->options->locations,
                .nvml = service->options->nvml,
                .address = gpu->address,
                .minor = gpu->said.minor,
                .daemon_pid = service->daemon_pid,
                .mode = applies ? APPLY_CHANGE : mode_of_look(gpu),
                .wanted = &gpu->wanted,
                .previous = gpu->result,
        };
        struct hook_call call;

        if (!settings_worker_is_gone(&gpu->worker) || (!applies && !looks && !has_event))
                return;
        if (has_event)
                fill_call(service, gpu, &call);
        if (settings_worker_start(&gpu->worker, applies || looks ? &apply : NULL, has_event ? &call : NULL) < 0)
                return; /* tried again in the next turn */
        service->changed = true;
        if (has_event)
                memmove(&gpu->events[0], &gpu->events[1], --gpu->n_events * sizeof(gpu->events[0]));
        if (applies) {
                gpu->due = false;
                gpu->result_is_old = true;
        }
        gpu->look_usec = now_usec + service->options->look_usec;
}

static void read_worker(struct settings_service *service, struct service_gpu *gpu) {
        bool was_working = gpu->worker.fd >= 0;
        json_t *line;

        while ((line = settings_worker_next(&gpu->worker))) {
                service_gpu_take(gpu, line);
                json_decref(line);
                service->changed = true;
        }
        if (was_working && gpu->worker.fd < 0) {
                if (gpu->worker.applying)
                        service_gpu_give_up(gpu, "the process that applies its settings died; NVML may have crashed");
                service->changed = true;
        }
        if (gpu->worker.fd >= 0 && clock_monotonic_usec() >= gpu->worker.deadline_usec) {
                service_gpu_give_up(gpu, gpu->worker.applying ? "the driver did not answer for 30 s, so the GPU's "
                                                                "settings are not known"
                                                              : "a hook did not end in time, and was abandoned");
                service->changed = true;
        }
}

/* ---- what all may read ---------------------------------------------------------------------------------------- */

static void write_state(struct settings_service *service) {
        char path[PATH_MAX], *text = NULL;
        json_t *gpus = json_array(), *document;
        int r;

        for (size_t i = 0; i < service->n_gpus; i++)
                if (service->gpus[i]->present)
                        (void)json_array_append_new(gpus, service_gpu_json(service->gpus[i]));
        document = json_pack("{s:s, s:i, s:s, s:o}", "schema", "holdfast.settings/1", "pid", (int)getpid(), "written",
                             report_time_utc(clock_realtime_usec()).text, "gpus", gpus);
        text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
        r = locations_path(path, service->options->locations, SETTINGS_STATE_FILE);
        if (r == 0)
                r = text ? file_replace(path, text, strlen(text), 0644) : -ENOMEM;
        if (r < 0)
                (void)log_errno(LOG_ERR, r, "cannot write %s", path);
        free(text);
        json_decref(document);
        service->changed = false;
}

static int make_folder(const struct settings_service *service) {
        char path[PATH_MAX];
        int r = locations_path(path, service->options->locations, SETTINGS_STATE_FOLDER);

        if (r == 0 && mkdir(path, 0755) < 0 && errno != EEXIST)
                r = -errno;
        return r < 0 ? log_errno(LOG_ERR, r, "cannot make %s", path) : 0;
}

/* Takes over the state of the service before this one: a restart must not apply anything again. */
static void remember_state(struct settings_service *service) {
        json_t *document = NULL, *row;
        size_t i;

        if (settings_state_read_last(service->options->locations, &document) < 0)
                return;
        json_array_foreach(json_object_get(document, "gpus"), i, row) {
                const char *text = json_string_value(json_object_get(row, "address"));
                struct pci_address address;
                struct service_gpu *gpu;

                if (!text || pci_address_parse(text, &address) < 0)
                        continue;
                gpu = get_row(service, &address);
                if (gpu)
                        service_gpu_remember(gpu, row);
        }
        json_decref(document);
}

static void remove_state(const struct settings_service *service) {
        char path[PATH_MAX];

        if (locations_path(path, service->options->locations, SETTINGS_STATE_FILE) == 0)
                (void)unlink(path);
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

static void read_signals(struct settings_service *service) {
        struct signalfd_siginfo signal;

        while (read(service->signal_fd, &signal, sizeof(signal)) == sizeof(signal))
                switch (signal.ssi_signo) {
                case SIGHUP:
                        reload(service);
                        break;
                case SIGUSR1: /* a restart */
                        service->ends = service->is_followed = true;
                        break;
                case SIGCHLD: /* turn() looks for workers that have ended */
                        break;
                default:
                        service->ends = true;
                }
}

static int init(struct settings_service *service) {
        static const int numbers[] = {SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        sigset_t set;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                (void)sigaddset(&set, numbers[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        service->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (service->signal_fd < 0)
                return log_errno(LOG_ERR, -errno, "cannot receive signals");
        if (read_config(service) < 0)
                return -EINVAL;
        remember_state(service);
        return make_folder(service);
}

static int timeout_msec(const struct settings_service *service) {
        uint64_t now_usec = clock_monotonic_usec(), next_usec = now_usec + TURN_IDLE_MSEC * USEC_PER_MSEC;

        if (!service->client)
                return TURN_BUSY_MSEC;
        for (size_t i = 0; i < service->n_gpus; i++) {
                const struct service_gpu *gpu = service->gpus[i];

                if (gpu->worker.pid > 0 || gpu->n_events > 0 || gpu->due)
                        return TURN_BUSY_MSEC;
                if (service_gpu_is_held(gpu) && gpu->wanted.n > 0 && gpu->look_usec < next_usec)
                        next_usec = gpu->look_usec;
        }
        return next_usec > now_usec ? (int)((next_usec - now_usec) / USEC_PER_MSEC + 1) : 0;
}

static void wait_for_news(struct settings_service *service) {
        struct pollfd fds[2 + HF_GPUS_MAX];

        fds[0] = (struct pollfd){.fd = service->signal_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = service->client ? client_fd(service->client) : -1, .events = POLLIN};
        for (size_t i = 0; i < service->n_gpus; i++)
                fds[2 + i] = (struct pollfd){.fd = service->gpus[i]->worker.fd, .events = POLLIN};
        (void)poll(fds, 2 + service->n_gpus, timeout_msec(service));
        if (fds[0].revents != 0)
                read_signals(service);
        if (fds[1].revents != 0)
                read_answer(service);
}

static void turn(struct settings_service *service) {
        watch(service);
        wait_for_news(service);
        for (size_t i = 0; i < service->n_gpus; i++) {
                read_worker(service, service->gpus[i]);
                employ(service, service->gpus[i]);
        }
        if (service->changed)
                write_state(service);
}

int service_run(const struct service_options *options) {
        static struct settings_service service; /* some hundred KiB, and only one */

        service.options = options;
        service.signal_fd = -1;
        service.changed = true;
        log_open("holdfast-settings", LOG_TO_STDERR, true);
        if (init(&service) < 0) {
                settings_service_done(&service);
                return EXIT_FAILURE;
        }
        while (!service.ends)
                turn(&service);
        if (!service.is_followed)
                remove_state(&service);
        settings_service_done(&service);
        return EXIT_SUCCESS;
}
