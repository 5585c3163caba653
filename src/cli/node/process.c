/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/node/process.h"

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

enum {
        FILE_SIZE_MAX = 8192,
        STALLS_MAX = 2,
        STAT_FIELDS_AFTER_NAME = 19, /* from the state, field 3, to the start time, field 22: proc(5) */
};

static int open_process(pid_t pid) {
        char path[32];

        text_set(path, "/proc/%d", (int)pid);
        return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void read_user(int folder_fd, struct process *process) {
        char text[FILE_SIZE_MAX], *line;
        const struct passwd *entry;
        uint64_t uid;

        if (file_read_at(folder_fd, "status", text, sizeof(text)) < 0 || !(line = strstr(text, "\nUid:\t")))
                return;
        line += strlen("\nUid:\t");
        line[strcspn(line, "\t\n")] = '\0';
        if (text_parse_u64(line, 10, UINT32_MAX, &uid) < 0)
                return;
        process->uid = (uid_t)uid;
        process->uid_known = true;
        entry = getpwuid(process->uid);
        text_set(process->user, "%s", entry ? entry->pw_name : line);
        (void)text_printable(process->user);
}

/* Arguments end in NULs. They may be of any length, so only the beginning is read. */
static void read_command(int folder_fd, struct process *process) {
        CLEANUP(fd_done) int fd = openat(folder_fd, "cmdline", O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, process->command, sizeof(process->command) - 1);

        while (length > 0 && process->command[length - 1] == '\0')
                length--;
        if (length <= 0) {
                process->command[0] = '\0';
                return;
        }
        process->command[length] = '\0';
        for (ssize_t i = 0; i < length; i++)
                if (process->command[i] == '\0')
                        process->command[i] = ' ';
        (void)text_printable(process->command);
}

/* A name may contain blanks and parentheses, so fields are counted from the last parenthesis. */
static void read_start(int folder_fd, struct process *process) {
        uint64_t ticks, now_usec = clock_realtime_usec(), booted_usec = clock_usec(CLOCK_BOOTTIME);
        long ticks_per_sec = sysconf(_SC_CLK_TCK);
        char text[FILE_SIZE_MAX], *field, *rest = NULL;

        if (file_read_at(folder_fd, "stat", text, sizeof(text)) < 0 || !(field = strrchr(text, ')')) ||
            ticks_per_sec <= 0)
                return;
        field = strtok_r(field + 1, " ", &rest);
        for (int i = 0; field && i < STAT_FIELDS_AFTER_NAME; i++)
                field = strtok_r(NULL, " ", &rest);
        if (field && text_parse_u64(field, 10, UINT64_MAX / USEC_PER_SEC, &ticks) == 0 && booted_usec <= now_usec)
                process->start_realtime_usec = now_usec - booted_usec + ticks * USEC_PER_SEC / (uint64_t)ticks_per_sec;
}

/* ---- with a time limit ----------------------------------------------------------------------------------------- */

/* The command line is in the process' memory, which may be a file of any file system, so it is read last, by itself. */
enum part {
        PART_KERNEL,
        PART_COMMAND,
        N_PARTS,
};

static void read_part(struct process *process, enum part part) {
        CLEANUP(fd_done) int folder_fd = open_process(process->pid);
        char text[FILE_SIZE_MAX];

        if (folder_fd < 0)
                return;
        if (part == PART_COMMAND) {
                read_command(folder_fd, process);
                return;
        }
        read_user(folder_fd, process);
        read_start(folder_fd, process);
        if (file_read_at(folder_fd, "cgroup", text, sizeof(text)) > 0)
                process->contained = container_of_cgroup(text, &process->container);
}

static int look_at_part(void *userdata, size_t item, struct aside_answer *answer) {
        struct process process = {.pid = ((const struct process *)userdata)[item / N_PARTS].pid};
        enum part part = item % N_PARTS;

        read_part(&process, part);
        if (part == PART_COMMAND)
                return aside_tell(answer, process.command, sizeof(process.command));
        return aside_tell(answer, &process, sizeof(process));
}

static int take_part(void *userdata, size_t item, const char *bytes, size_t size) {
        struct process *process = (struct process *)userdata + item / N_PARTS;

        if (item % N_PARTS == PART_COMMAND)
                memcpy(process->command, bytes, size);
        else
                memcpy(process, bytes, size);
        process->hanging = item % N_PARTS == PART_KERNEL; /* until the command is there, too */
        return 0;
}

int processes_read(struct process *processes, size_t n) {
        const struct aside aside = {
                .n = n * N_PARTS,
                .stalls_max = STALLS_MAX,
                .look = look_at_part,
                .take = take_part,
                .userdata = processes,
        };
        struct aside_gap gap;

        for (size_t i = 0; i < n; i++)
                processes[i] = (struct process){.pid = processes[i].pid, .hanging = true};
        return n > 0 ? aside_run(&aside, &gap) : 0;
}
