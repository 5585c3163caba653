/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "sim/rm/ioctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "sim/rm/user_memory.h"

enum {
        TRANSFER_SIZE_MAX = 16384, /* NV_ABSOLUTE_MAX_IOCTL_SIZE, nv-ioctl-numbers.h */
        NUMA_INFO_SIZE_OLD = 552,  /* struct nv_numa_info before 535.43.02: no use_auto_online */
        RM_ALLOC_SIZE_ACCESS = 48, /* NVOS64: struct nv_rm_alloc with a rights mask inside */

        VERSION_STRICT = 0,
        VERSION_RELAXED = '1',
        VERSION_QUERY = '2',
};

struct query_intr { /* nv_ioctl_query_device_intr */
        uint32_t interrupt_status;
        uint32_t status;
};

struct rm_alloc_access { /* NVOS64_PARAMETERS */
        uint32_t root, parent, object, class;
        uint64_t params, rights;
        uint32_t params_size, flags, status, pad;
};
_Static_assert(sizeof(struct rm_alloc_access) == RM_ALLOC_SIZE_ACCESS, "rm_alloc_access");

static struct model *model_of(const struct ioctl_call *call) {
        return model_file_model(call->file->model_file);
}

/* ---- /dev/nvidiactl ---- */

static void fill_card(const struct model_gpu_view *view, struct nv_card_info *ret_card) {
        const struct pci_address *address = &view->spec.address;

        *ret_card = (struct nv_card_info){
                .valid = 1,
                .pci = {.domain = address->domain,
                        .bus = address->bus,
                        .slot = address->slot,
                        .vendor_id = MODEL_PCI_VENDOR,
                        .device_id = MODEL_PCI_DEVICE},
                .gpu_id = nv_gpu_id(address->domain, address->bus, address->slot),
                .reg_size = 16 << 20,
                .fb_size = (uint64_t)view->spec.memory_mib << 20,
                .minor = view->minor,
        };
}

static int card_info(struct ioctl_call *call) {
        struct nv_card_info *cards = call->data;
        size_t n_cards = call->size_bytes / sizeof(*cards), n_bound = 0, n_views;
        struct model_gpu_view views[SCENARIO_GPUS_MAX];

        model_wait_device_list(model_of(call));
        n_views = model_list(model_of(call), views);
        memset(cards, 0, call->size_bytes);
        for (size_t i = 0; i < n_views; i++)
                n_bound += views[i].bound;
        if (n_cards < n_bound)
                return -EINVAL;
        for (size_t i = 0; i < n_views; i++)
                if (views[i].bound && !views[i].spec.excluded)
                        fill_card(&views[i], cards++);
        return 0;
}

static int status_code(struct ioctl_call *call) {
        struct nv_status_code *code = call->data;
        struct model_gpu_view views[SCENARIO_GPUS_MAX];
        size_t n_views;

        model_wait_device_list(model_of(call)); /* nv_get_adapter_state() */
        model_wait_api(model_of(call));         /* rm_get_adapter_status() */
        n_views = model_list(model_of(call), views);
        for (size_t i = 0; i < n_views; i++) {
                const struct pci_address *address = &views[i].spec.address;

                if (!views[i].bound || address->domain != code->domain || address->bus != code->bus ||
                    address->slot != code->slot)
                        continue;
                code->status = views[i].adapter_status;
                return 0;
        }
        return -EINVAL;
}

static bool version_matches(const struct nv_version_check *check, const char *ours) {
        size_t major_length = strcspn(ours, ".");

        switch (check->command) {
        case VERSION_STRICT:
                return strncmp(check->version, ours, sizeof(check->version)) == 0;
        case VERSION_RELAXED:
                return strncmp(check->version, ours, major_length) == 0 && check->version[major_length] == '.';
        case VERSION_QUERY:
                return true;
        default:
                return false;
        }
}

static int check_version(struct ioctl_call *call) {
        struct nv_version_check *check = call->data;
        const char *ours = model_scenario(model_of(call))->driver_version;
        bool matches = version_matches(check, ours);

        check->reply = matches;
        memset(check->version, 0, sizeof(check->version));
        (void)text_copy(check->version, sizeof(check->version), ours);
        if (matches)
                return 0;
        model_note(model_of(call), &call->caller, "API mismatch: the client's version is not %s", ours);
        return -EINVAL;
}

static int attach_gpus(struct ioctl_call *call) {
        return model_attach(call->file->model_file, call->data, call->size_bytes / sizeof(uint32_t), &call->caller);
}

static int sys_params(struct ioctl_call *call) {
        const struct nv_sys_params *parameters = call->data;

        return model_set_sys_params(model_of(call), parameters->memblock_size);
}

/* ---- /dev/nvidiaN ---- */

static int query_device_intr(struct ioctl_call *call) {
        *(struct query_intr *)call->data = (struct query_intr){.status = NV_OK};
        return 0;
}

static int numa_info(struct ioctl_call *call) {
        struct nv_numa_info info = {0};
        struct model_numa numa;
        int r = model_numa_info(call->file->model_file, &numa);

        if (r < 0)
                return r;
        info.nid = numa.node;
        info.status = (int32_t)numa.status;
        info.memblock_size = numa.memblock_size;
        info.memory_address = numa.memory_address;
        info.memory_size = numa.memory_size;
        info.use_auto_online = numa.auto_online;
        if (call->size_bytes == sizeof(info)) {
                memcpy(call->data, &info, sizeof(info));
                return 0;
        }
        /* The old layout is the new one without use_auto_online. The list of offline pages is always empty. */
        memset(call->data, 0, call->size_bytes);
        memcpy(call->data, &info, offsetof(struct nv_numa_info, use_auto_online));
        return 0;
}

static int set_numa_status(struct ioctl_call *call) {
        int32_t status;

        memcpy(&status, call->data, sizeof(status));
        return model_numa_set(call->file->model_file, &call->caller, status);
}

static int wait_open(struct ioctl_call *call) {
        struct nv_wait_open answer;
        int r, rc;
        uint32_t adapter_status;

        if (!scenario_driver_has(model_scenario(model_of(call)), DRIVER_DEFERS_OPENS)) /* nv.c logs it as unknown */
                model_note_unknown_ioctl(model_of(call), model_file_node(call->file->model_file), &call->caller,
                                         call->command);
        r = model_wait_open(call->file->model_file, call->wait, &rc, &adapter_status);
        if (r < 0)
                return r;
        answer = (struct nv_wait_open){.rc = rc, .adapter_status = adapter_status};
        memcpy(call->data, &answer, call->size_bytes < sizeof(answer) ? call->size_bytes : sizeof(answer));
        return 0;
}

/* ---- both nodes ---- */

static int register_fd(struct ioctl_call *call) {
        char path[64], link[4096];
        const char *last;
        ssize_t length;
        int32_t fd;

        memcpy(&fd, call->data, sizeof(fd));
        (void)text_format(path, sizeof(path), "/proc/%d/fd/%d", call->caller.pid, fd);
        /* readlink() returns the name without a call into our own file system. */
        length = readlink(path, link, sizeof(link) - 1);
        if (length < 0 || call->file->registered)
                return -EINVAL;
        link[length] = '\0';
        last = strrchr(link, '/');
        if (!last || !text_equal(last, "/nvidiactl"))
                return -EINVAL;
        call->file->registered = true;
        return 0;
}

static int alloc_os_event(struct ioctl_call *call) {
        rm_alloc_os_event(&call->file->rm, call->data);
        return 0;
}

static int free_os_event(struct ioctl_call *call) {
        rm_free_os_event(&call->file->rm, call->data);
        return 0;
}

static int run_rm_free(struct ioctl_call *call) {
        rm_free_object(&call->file->rm, call->data);
        return 0;
}

static int run_rm_control(struct ioctl_call *call) {
        rm_control(&call->file->rm, &call->caller, call->data);
        return 0;
}

static int run_rm_alloc(struct ioctl_call *call) {
        struct rm_alloc_access *access = call->data;
        struct nv_rm_alloc alloc;

        if (model_file_node(call->file->model_file) == MODEL_NODE_GPU && !rm_allows_alloc_on_gpu(access->class))
                return -EINVAL;
        if (call->size_bytes == sizeof(alloc)) {
                rm_alloc(&call->file->rm, &call->caller, call->data);
                return 0;
        }
        alloc = (struct nv_rm_alloc){
                .root = access->root,
                .parent = access->parent,
                .object = access->object,
                .class = access->class,
                .params = access->params,
                .params_size = access->params_size,
        };
        rm_alloc(&call->file->rm, &call->caller, &alloc);
        access->object = alloc.object;
        access->status = alloc.status;
        return 0;
}

static int transfer(struct ioctl_call *call);

/* ---- the table ---- */

enum { ON_CTL = 1 << MODEL_NODE_CTL, ON_GPU = 1 << MODEL_NODE_GPU, ON_BOTH = ON_CTL | ON_GPU };

static const struct ioctl_row {
        unsigned number;
        unsigned size_bytes;
        unsigned other_size_bytes; /* also allowed; 0: none */
        bool is_array;             /* one or more elements of size_bytes */
        unsigned nodes;
        int (*run)(struct ioctl_call *call);
} rows[] = {
        {0x29, sizeof(struct nv_rm_free), 0, false, ON_CTL, run_rm_free},
        {0x2a, sizeof(struct nv_rm_control), 0, false, ON_CTL, run_rm_control},
        {0x2b, sizeof(struct nv_rm_alloc), RM_ALLOC_SIZE_ACCESS, false, ON_BOTH, run_rm_alloc},
        {200, sizeof(struct nv_card_info), 0, true, ON_CTL, card_info},
        {201, sizeof(int32_t), 0, false, ON_BOTH, register_fd},
        {206, sizeof(struct nv_os_event), 0, false, ON_BOTH, alloc_os_event},
        {207, sizeof(struct nv_os_event), 0, false, ON_BOTH, free_os_event},
        {209, sizeof(struct nv_status_code), 0, false, ON_CTL, status_code},
        {210, sizeof(struct nv_version_check), 0, false, ON_CTL, check_version},
        {211, sizeof(struct nv_transfer), 0, false, ON_BOTH, transfer},
        {212, sizeof(uint32_t), 0, true, ON_CTL, attach_gpus},
        {213, sizeof(struct query_intr), 0, false, ON_GPU, query_device_intr},
        {214, sizeof(struct nv_sys_params), 0, false, ON_CTL, sys_params},
        {215, sizeof(struct nv_numa_info), NUMA_INFO_SIZE_OLD, false, ON_GPU, numa_info},
        {216, sizeof(int32_t), 0, false, ON_GPU, set_numa_status},
        {218, sizeof(struct nv_wait_open), 0, false, ON_BOTH, wait_open},
};

static const struct ioctl_row *find_row(unsigned number) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (rows[i].number == number)
                        return &rows[i];
        return NULL;
}

static bool size_fits(const struct ioctl_call *call, const struct ioctl_row *row) {
        if (row->is_array)
                return call->size_bytes > 0 && call->size_bytes % row->size_bytes == 0;
        if (row->number == 215) { /* one size per driver version */
                bool is_new = scenario_driver_has(model_scenario(model_of(call)), DRIVER_NUMA_AUTO_ONLINE);

                return call->size_bytes == (is_new ? row->size_bytes : row->other_size_bytes);
        }
        if (row->number == 218 && model_file_node(call->file->model_file) == MODEL_NODE_CTL &&
            !scenario_driver_has(model_scenario(model_of(call)), DRIVER_CHECKS_ALL_SIZES))
                return true;
        return call->size_bytes == row->size_bytes ||
               (row->other_size_bytes > 0 && call->size_bytes == row->other_size_bytes);
}

static int run_number(struct ioctl_call *call, unsigned number) {
        enum model_node node = model_file_node(call->file->model_file);
        const struct ioctl_row *row = find_row(number);
        int r;

        if (!row) {
                model_note_unknown_ioctl(model_of(call), node, &call->caller, call->command);
                return -EINVAL;
        }
        if (!size_fits(call, row)) {
                model_note(model_of(call), &call->caller, "ioctl 0x%x (number %u): invalid structure size %zu",
                           call->command, number, call->size_bytes);
                return -EINVAL;
        }
        if (node == MODEL_NODE_GPU && row->run != wait_open && row->run != transfer) {
                r = model_file_usable(call->file->model_file, call->wait);
                if (r < 0)
                        return r;
        }
        return row->nodes & (1U << node) ? row->run(call) : -EINVAL;
}

/* Wraps another command, usually one whose payload is too large for the size field. */
static int transfer(struct ioctl_call *call) {
        const struct nv_transfer *wanted = call->data;
        CLEANUP(free_ptr) void *payload = NULL;
        struct ioctl_call inner = *call;
        int r;

        if (wanted->size > TRANSFER_SIZE_MAX || wanted->command == 211)
                return -EINVAL;
        payload = calloc(1, wanted->size > 0 ? wanted->size : 1);
        if (!payload)
                return -ENOMEM;
        r = user_memory_read(call->caller.pid, wanted->pointer, payload, wanted->size);
        if (r < 0)
                return r;
        inner.data = payload;
        inner.size_bytes = wanted->size;
        r = run_number(&inner, wanted->command);
        if (user_memory_write(call->caller.pid, wanted->pointer, payload, wanted->size) < 0)
                return -EFAULT;
        return r;
}

/* ---- /dev/nvidia-uvm: raw numbers, the argument lies in the caller's memory ---- */

union uvm_arguments {
        struct uvm_initialize initialize;
        struct uvm_register_gpu add;
        struct uvm_unregister_gpu drop;
};

static void run_uvm_initialize(struct ioctl_call *call, union uvm_arguments *arguments) {
        arguments->initialize.rm_status = model_uvm_initialize(call->file->model_file, arguments->initialize.flags);
}

static void run_uvm_deinitialize(struct ioctl_call *call, union uvm_arguments *arguments) {
}

static void run_uvm_register(struct ioctl_call *call, union uvm_arguments *arguments) {
        struct uvm_register_gpu *add = &arguments->add;

        add->rm_status = model_uvm_register(call->file->model_file, add->uuid, &call->caller, call->wait);
        add->numa_enabled = 0;
        add->numa_node = -1;
}

static void run_uvm_unregister(struct ioctl_call *call, union uvm_arguments *arguments) {
        arguments->drop.rm_status = model_uvm_unregister(call->file->model_file, arguments->drop.uuid);
}

static const struct uvm_row {
        uint32_t command;
        size_t size_bytes;
        void (*run)(struct ioctl_call *call, union uvm_arguments *arguments);
} uvm_rows[] = {
        {UVM_INITIALIZE, sizeof(struct uvm_initialize), run_uvm_initialize},
        {UVM_DEINITIALIZE, 0, run_uvm_deinitialize},
        {UVM_REGISTER_GPU, sizeof(struct uvm_register_gpu), run_uvm_register},
        {UVM_UNREGISTER_GPU, sizeof(struct uvm_unregister_gpu), run_uvm_unregister},
};

static int run_uvm_row(struct ioctl_call *call, const struct uvm_row *row) {
        union uvm_arguments arguments = {0};

        if (user_memory_read(call->caller.pid, call->argument, &arguments, row->size_bytes) < 0)
                return -EFAULT;
        row->run(call, &arguments);
        if (user_memory_write(call->caller.pid, call->argument, &arguments, row->size_bytes) < 0)
                return -EFAULT;
        return 0;
}

static int run_uvm(struct ioctl_call *call) {
        for (size_t i = 0; i < ARRAY_SIZE(uvm_rows); i++)
                if (uvm_rows[i].command == call->command)
                        return run_uvm_row(call, &uvm_rows[i]);
        model_note_unknown_ioctl(model_of(call), MODEL_NODE_UVM, &call->caller, call->command);
        return -EINVAL;
}

int ioctl_run(struct ioctl_call *call) {
        if (model_file_node(call->file->model_file) == MODEL_NODE_UVM)
                return run_uvm(call);
        return run_number(call, _IOC_NR(call->command));
}
