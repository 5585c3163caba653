/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Questions to the driver: one at a time, each on its own thread, and only while no GPU has a job. A question opens the
 * driver's control node. Before 550.40.07 that waits, uninterruptibly, while any GPU initialises; later drivers take
 * their one global lock for it. Nothing waits for an answer. If it never comes, the thread is lost and no further
 * question is asked.
 */

#include "daemon/gpus/registry_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

struct question {
        struct worker_job job;
        struct registry *registry;
        struct gpu_inquiry inquiry;
};

static void log_legacy(const struct gpu_inquiry *inquiry) {
        char text[PCI_ADDRESS_SIZE];
        const char *address = pci_address_format(&inquiry->info.address, text);

        if (inquiry->result < 0)
                log_write(LOG_DEBUG, "device %s - the legacy persistence flag is not available. %s", address,
                          inquiry->failure.text);
        else
                log_write(LOG_DEBUG, "device %s - read the legacy persistence flag.", address);
}

/* Logs each reason once, since every retry of a failing GPU asks again. */
static void log_reason(struct entry *entry) {
        const struct gpu *gpu = &entry->gpu;
        char text[PCI_ADDRESS_SIZE];

        if (gpu->failure.error != entry->told_error || gpu->failures_in_row <= 1)
                log_write(LOG_ERR, "device %s - %s", entry_address(entry, text), gpu->failure.text);
        entry->told_error = gpu->failure.error;
}

static void question_done(struct worker_job *job) {
        CLEANUP(free_ptr) struct question *question = container_of(job, struct question, job);
        const struct gpu_inquiry *inquiry = &question->inquiry;
        struct registry *registry = question->registry;

        registry->asking = NULL;
        if (inquiry->question == GPU_QUESTION_LEGACY)
                log_legacy(inquiry);
        for (size_t i = 0; i < registry->n_entries; i++) { /* the GPU may be gone */
                struct entry *entry = registry->entries[i];

                if (pci_address_compare(&entry->gpu.info.address, &inquiry->info.address) != 0 ||
                    !gpu_end_question(&entry->gpu, inquiry, clock_monotonic_usec()))
                        continue;
                registry->changed = true;
                if (inquiry->question == GPU_QUESTION_FAILURE)
                        log_reason(entry);
        }
        registry_advance(registry);
}

static void question_run(struct worker_job *job) {
        gpu_inquiry_run(&container_of(job, struct question, job)->inquiry);
}

static int ask(struct registry *registry, struct gpu *gpu, enum gpu_question kind) {
        struct question *question = calloc(1, sizeof(*question));
        int r;

        if (!question)
                return -ENOMEM;
        *question = (struct question){
                .job = {.run = question_run, .done = question_done},
                .registry = registry,
                .inquiry = {.ops = registry->config.ops, .context = registry->config.context},
        };
        gpu_begin_question(gpu, kind, &question->inquiry);
        r = worker_start(registry->config.worker, &question->job);
        if (r < 0)
                free(question);
        else
                registry->asking = question;
        return r;
}

/* Without memory or a thread the question is dropped; the next open or registry_refresh() asks it again. */
void registry_ask(struct registry *registry) {
        if (registry->asking || registry->stopping || registry_count(registry).busy > 0)
                return;
        for (size_t i = 0; i < registry->n_entries; i++) {
                struct gpu *gpu = &registry->entries[i]->gpu;
                enum gpu_question question = gpu_next_question(gpu);

                if (question == GPU_QUESTION_NONE)
                        continue;
                (void)ask(registry, gpu, question);
                return;
        }
}
