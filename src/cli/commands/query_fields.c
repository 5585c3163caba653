/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/commands/query_fields.h"

#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/report/report.h"

static void set_text(struct field_value *value, const char *text) {
        value->kind = text[0] != '\0' ? FIELD_TEXT : FIELD_NONE;
        (void)text_copy(value->text, sizeof(value->text), text);
}

static void set_number(struct field_value *value, uint64_t number) {
        value->kind = FIELD_NUMBER;
        value->number = number;
}

static void set_hex(struct field_value *value, unsigned digits, unsigned number) {
        value->kind = FIELD_TEXT;
        (void)text_format(value->text, sizeof(value->text), "0x%0*X", (int)digits, number);
}

/* ---- nvidia-smi's ------------------------------------------------------------ */

static void read_timestamp(const struct field_context *context, const struct snapshot_gpu *gpu,
                           struct field_value *value) {
        time_t seconds = (time_t)(context->now_realtime_usec / USEC_PER_SEC);
        char whole[32];
        struct tm parts;

        if (!localtime_r(&seconds, &parts) || strftime(whole, sizeof(whole), "%Y/%m/%d %H:%M:%S", &parts) == 0)
                return;
        value->kind = FIELD_TEXT;
        (void)text_format(value->text, sizeof(value->text), "%s.%03u", whole,
                          (unsigned)(context->now_realtime_usec % USEC_PER_SEC / USEC_PER_MSEC));
}

static void read_driver_version(const struct field_context *context, const struct snapshot_gpu *gpu,
                                struct field_value *value) {
        set_text(value, context->snapshot->driver_version);
}

static void read_count(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        size_t n = 0;

        each_gpu(other, context->snapshot)
                n += !other->info.excluded;
        set_number(value, n);
}

static void read_index(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        set_number(value, gpu->index);
}

static void read_name(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        set_text(value, gpu->info.model);
}

static void read_uuid(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        set_text(value, gpu->info.uuid);
}

static void read_bus_id(const struct field_context *context, const struct snapshot_gpu *gpu,
                        struct field_value *value) {
        char text[PCI_ADDRESS_SIZE];

        set_text(value, pci_address_format_nvml(&gpu->info.address, text));
}

static void read_domain(const struct field_context *context, const struct snapshot_gpu *gpu,
                        struct field_value *value) {
        set_hex(value, 4, gpu->info.address.domain);
}

static void read_bus(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        set_hex(value, 2, gpu->info.address.bus);
}

static void read_device(const struct field_context *context, const struct snapshot_gpu *gpu,
                        struct field_value *value) {
        set_hex(value, 2, gpu->info.address.slot);
}

static void read_vbios(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        /* The driver prints question marks until it has initialised the GPU once. */
        set_text(value, gpu->info.video_bios[0] == '?' ? "" : gpu->info.video_bios);
}

static void read_persistence(const struct field_context *context, const struct snapshot_gpu *gpu,
                             struct field_value *value) {
        static const char *const modes[] = {
                [PERSISTENCE_OFF] = "Disabled",
                [PERSISTENCE_ON] = "Enabled",
                [PERSISTENCE_UNKNOWN] = "",
        };

        set_text(value, modes[gpu->persistence]);
}

/* ---- ours -------------------------------------------------------------------- */

static void read_state(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        set_text(value, snapshot_state(context->snapshot, gpu));
}

/* Whether our daemon tells the rest of this GPU; if not, value says so. */
static bool has_detail(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        bool ours = context->snapshot->daemon == DAEMON_HOLDFAST;

        value->kind = ours ? FIELD_NONE : FIELD_NOT_SUPPORTED;
        return ours && gpu->in_daemon;
}

static void read_since(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        if (has_detail(context, gpu, value) && gpu->detail.since_realtime_usec != 0)
                set_text(value, report_time_utc(gpu->detail.since_realtime_usec).text);
}

static void read_open(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        if (has_detail(context, gpu, value) && gpu->detail.open_duration_usec != 0)
                set_number(value, gpu->detail.open_duration_usec / USEC_PER_MSEC);
}

static void read_failures(const struct field_context *context, const struct snapshot_gpu *gpu,
                          struct field_value *value) {
        if (has_detail(context, gpu, value))
                set_number(value, gpu->detail.failures);
}

static void read_error(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        if (has_detail(context, gpu, value))
                set_text(value, gpu->detail.error_text);
}

static void read_uvm(const struct field_context *context, const struct snapshot_gpu *gpu, struct field_value *value) {
        static const char *const states[] = {[HF_UVM_OFF] = "off", [HF_UVM_WAITING] = "waiting", [HF_UVM_ON] = "on"};

        if (has_detail(context, gpu, value))
                set_text(value, states[gpu->detail.uvm]);
}

static void read_legacy(const struct field_context *context, const struct snapshot_gpu *gpu,
                        struct field_value *value) {
        static const char *const values[] = {[HF_NO] = "Disabled", [HF_YES] = "Enabled", [HF_UNKNOWN] = ""};

        set_text(value, values[gpu->legacy]);
}

static void read_held_by(const struct field_context *context, const struct snapshot_gpu *gpu,
                         struct field_value *value) {
        char text[sizeof(value->text)];

        (void)report_held_by(context->snapshot, gpu, SIZE_MAX, text, sizeof(text));
        set_text(value, text_equal(text, "-") ? "" : text);
}

enum { SNAPSHOT_ALL = SNAPSHOT_DAEMON | SNAPSHOT_CLIENTS | SNAPSHOT_MODE };

/* ---- the table --------------------------------------------------------------- */

const struct field fields[] = {
        {"timestamp", NULL, "time of the question, local", NULL, 0, read_timestamp},
        {"driver_version", NULL, "version of the kernel driver", NULL, 0, read_driver_version},
        {"count", NULL, "how many GPUs the driver offers", NULL, 0, read_count},
        {"index", NULL, "number in the order of PCI addresses, as nvidia-smi counts while every GPU initialises", NULL,
         0, read_index},
        {"name", "gpu_name", "product name", NULL, 0, read_name},
        {"uuid", "gpu_uuid", "the GPU's own identifier", NULL, 0, read_uuid},
        {"pci.bus_id", "gpu_bus_id", "PCI address, domain with 8 digits", NULL, 0, read_bus_id},
        {"pci.domain", NULL, "PCI domain, hexadecimal", NULL, 0, read_domain},
        {"pci.bus", NULL, "PCI bus, hexadecimal", NULL, 0, read_bus},
        {"pci.device", NULL, "PCI device (slot), hexadecimal", NULL, 0, read_device},
        {"vbios_version", NULL, "version of the video BIOS, once the GPU was initialised", NULL, 0, read_vbios},
        {"persistence_mode", NULL, "Enabled: the daemon holds the GPU, or the kernel's flag is on", NULL, SNAPSHOT_ALL,
         read_persistence},
        {"holdfast.state", NULL,
         "held, released, leased, opening, closing, failed, stuck, excluded, unknown; without "
         "a daemon: initialised, not initialised",
         NULL, SNAPSHOT_DAEMON | SNAPSHOT_MODE, read_state},
        {"holdfast.since", NULL, "since when it is in that state (UTC)", NULL, SNAPSHOT_DAEMON, read_since},
        {"holdfast.open_ms", NULL, "how long the driver took to open it", "ms", SNAPSHOT_DAEMON, read_open},
        {"holdfast.failures", NULL, "failed opens so far", NULL, SNAPSHOT_DAEMON, read_failures},
        {"holdfast.error", NULL, "why it is not held, a sentence", NULL, SNAPSHOT_DAEMON, read_error},
        {"holdfast.uvm", NULL, "UVM persistence: off, waiting, on", NULL, SNAPSHOT_DAEMON, read_uvm},
        {"holdfast.legacy_flag", NULL, "the kernel's own flag: Enabled, Disabled", NULL, SNAPSHOT_ALL, read_legacy},
        {"holdfast.held_by", NULL, "who keeps it initialised", NULL, SNAPSHOT_ALL, read_held_by},
};

const size_t n_fields = ARRAY_SIZE(fields);

const struct field *field_find(const char *name) {
        for (size_t i = 0; i < n_fields; i++)
                if (text_equal_nocase(fields[i].name, name) ||
                    (fields[i].alias && text_equal_nocase(fields[i].alias, name)))
                        return &fields[i];
        return NULL;
}
