/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Calls the driver for tests/hardware/run, with the daemon's own code and without a daemon:
 *
 *      hardware-probe ROOT notices          subscribes to bind notices, reads pending ones, unsubscribes
 *      hardware-probe ROOT legacy ADDRESS   reads the kernel's persistence flag before and after opening the GPU
 *      hardware-probe ROOT opens ADDRESS N  opens and closes the GPU N times; prints the microseconds of each
 *
 * ROOT is prepended to /dev and /proc; "" is the real system. The program changes no setting.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/locations.h"
#include "base/text.h"
#include "gpu/backend.h"
#include "gpu/rm.h"

enum {
        OPENS_MAX = 1000,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_HERE = 3, /* this driver does not support it */
        EXIT_BARRED =
                4, /* the node cannot be opened: a container's device rules, or a GPU excluded by the administrator */
};

static int fail(int error, const struct gpu_failure *failure) {
        fprintf(stderr, "%s\n", failure->text[0] != '\0' ? failure->text : strerror(-error));
        switch (error) {
        case -EOPNOTSUPP:
                return EXIT_NOT_HERE;
        case -EPERM:
        case -EACCES:
                return EXIT_BARRED;
        default:
                return EXIT_FAILED;
        }
}

/* ---- notices ---- */

static unsigned count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (dir && readdir(dir))
                n++;
        if (dir)
                (void)closedir(dir);
        return n;
}

static int show_notices(const struct locations *locations) {
        unsigned before = count_descriptors(), during;
        struct rm_event events[16];
        struct rm_events *subscription;
        struct gpu_failure failure = {0};
        size_t n = 0;
        int r;

        r = rm_events_open(&subscription, locations, &failure);
        if (r < 0)
                return fail(r, &failure);
        during = count_descriptors();
        r = rm_events_read(subscription, events, ARRAY_SIZE(events), &n, &failure);
        rm_events_free(subscription);
        if (r < 0)
                return fail(r, &failure);
        printf("notices %zu descriptors %u %u %u\n", n, before, during, count_descriptors());
        return 0;
}

/* ---- one GPU, held as the daemon holds it ---- */

struct subject {
        void *context;
        struct gpu_info info;
        struct gpu_hold hold;
};

static int subject_open(struct subject *subject, struct gpu_failure *ret_failure) {
        return gpu_kernel_ops.open(subject->context, &subject->info.address, &subject->hold, ret_failure);
}

static int subject_close(struct subject *subject, struct gpu_failure *ret_failure) {
        return gpu_kernel_ops.close(subject->context, &subject->info, &subject->hold, ret_failure);
}

static int show_legacy(struct subject *subject, const struct locations *locations) {
        struct gpu_failure refused = {0}, failure = {0};
        enum gpu_legacy legacy;
        bool enabled;
        int r;

        if (rm_query_legacy(locations, &subject->info.address, &enabled, &refused) == 0)
                puts("closed: answered");
        else
                printf("closed: %s\n", refused.text);
        r = subject_open(subject, &failure);
        if (r < 0)
                return fail(r, &failure);
        r = gpu_kernel_ops.query(subject->context, &subject->info, &legacy, &failure);
        if (r == 0)
                printf("open: %s\n", legacy == GPU_LEGACY_ON ? "on" : "off");
        else
                r = fail(r, &failure);
        (void)subject_close(subject, &failure);
        return r;
}

static int show_opens(struct subject *subject, unsigned n) {
        struct gpu_failure failure = {0};

        for (unsigned i = 0; i < n; i++) {
                uint64_t begin = clock_monotonic_usec(), opened;
                int r = subject_open(subject, &failure);

                opened = clock_monotonic_usec();
                if (r == 0)
                        r = subject_close(subject, &failure);
                if (r < 0)
                        return fail(r, &failure);
                printf("%llu %llu\n", (unsigned long long)(opened - begin),
                       (unsigned long long)(clock_monotonic_usec() - opened));
        }
        return 0;
}

static int find_subject(struct subject *subject, const struct locations *locations, const char *text) {
        const struct gpu_backend_config config = {.locations = locations};
        struct pci_address address;
        int r;

        subject->hold = GPU_HOLD_NONE;
        r = pci_address_parse(text, &address);
        if (r == 0)
                r = inventory_read_gpu(locations, &address, &subject->info);
        if (r == 0)
                r = gpu_kernel_ops.start(&config, &subject->context);
        if (r < 0)
                fprintf(stderr, "there is no GPU %s below %s/proc/driver/nvidia/gpus: %s\n", text, locations->root,
                        strerror(-r));
        return r;
}

static int run(int argc, char *argv[]) {
        struct subject subject = {0};
        bool legacy = argc == 4 && text_equal(argv[2], "legacy");
        const char *variable = getenv("HOLDFAST_ROOT");
        struct locations locations = locations_of(argv[1], variable && text_equal(variable, "/"));
        uint64_t n = 0;
        int status;

        if (argc == 3 && text_equal(argv[2], "notices"))
                return show_notices(&locations);
        if (!legacy && !(argc == 5 && text_equal(argv[2], "opens") && text_parse_u64(argv[4], 10, OPENS_MAX, &n) == 0))
                return EXIT_USAGE;
        if (find_subject(&subject, &locations, argv[3]) < 0)
                return EXIT_FAILED;
        status = legacy ? show_legacy(&subject, &locations) : show_opens(&subject, (unsigned)n);
        gpu_kernel_ops.stop(subject.context);
        return status;
}

int main(int argc, char *argv[]) {
        int status = run(argc, argv);

        if (status == EXIT_USAGE)
                fprintf(stderr, "usage: hardware-probe ROOT notices | legacy ADDRESS | opens ADDRESS N\n");
        return status;
}
