/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "tests/peer/holdfast_print.h"

static void print_gpu(FILE *output, const hf_gpu *gpu) {
        fprintf(output, "gpu address=%x:%x:%x.%x minor=%d uuid=\"%s\" model=\"%s\" state=%d wanted=%u",
                gpu->address.domain, gpu->address.bus, gpu->address.slot, gpu->address.function, gpu->minor, gpu->uuid,
                gpu->model, (int)gpu->state, gpu->wanted);
        fprintf(output, " since_realtime=%llu open_duration=%llu opens=%u failures=%u stuck=%u",
                (unsigned long long)gpu->since_realtime, (unsigned long long)gpu->open_duration, gpu->opens,
                gpu->failures, gpu->stuck);
        fprintf(output, " error_number=%d error_nv_status=%u error_text=\"%s\"", gpu->error_number,
                gpu->error_nv_status, gpu->error_text);
        fprintf(output, " uvm=%d uvm_text=\"%s\" legacy_flag=%d leased=%u\n", (int)gpu->uvm, gpu->uvm_text,
                (int)gpu->legacy_flag, gpu->leased);
}

void holdfast_print(FILE *output, const hf_list *list) {
        fprintf(output,
                "daemon version=\"%s\" backend=\"%s\" pid=%u started_realtime=%llu ready=%u serial=%llu gpus=%u\n",
                list->daemon_version, list->backend, list->pid, (unsigned long long)list->started_realtime, list->ready,
                (unsigned long long)list->serial, list->gpus.gpus_len);
        for (u_int i = 0; i < list->gpus.gpus_len; i++)
                print_gpu(output, &list->gpus.gpus_val[i]);
}

void holdfast_print_stats(FILE *output, const hf_stats *stats) {
        fprintf(output, "stats started_realtime=%llu sessions=%u sessions_max=%u leases=%u",
                (unsigned long long)stats->started_realtime, stats->sessions, stats->sessions_max, stats->leases);
        fprintf(output, " accepted=%llu evicted=%llu expired=%llu malformed=%llu", (unsigned long long)stats->accepted,
                (unsigned long long)stats->evicted, (unsigned long long)stats->expired,
                (unsigned long long)stats->malformed);
        fprintf(output, " calls=%llu rejected=%llu refused=%llu\n", (unsigned long long)stats->calls,
                (unsigned long long)stats->rejected, (unsigned long long)stats->refused);
}

void holdfast_print_configured(FILE *output, const hf_configured *configured) {
        for (u_int i = 0; i < configured->gpus.gpus_len; i++) {
                const hf_gpu_configured *gpu = &configured->gpus.gpus_val[i];

                fprintf(output, "configured address=%x:%x:%x.%x persistence=%u uvm_persistence=%u\n",
                        gpu->address.domain, gpu->address.bus, gpu->address.slot, gpu->address.function,
                        gpu->persistence, gpu->uvm_persistence);
        }
}
