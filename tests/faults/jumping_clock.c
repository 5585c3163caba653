/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Preloaded into a program: shifts the time of day by the seconds in the file HOLDFAST_CLOCK_OFFSET, which may change
 * at any time. The other clocks do not change, as when an administrator or NTP sets the time.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_sec; /* mapped, because the sandbox may later forbid to open files */

static void __attribute__((constructor)) begin(void) {
        const char *path = getenv("HOLDFAST_CLOCK_OFFSET");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*offset_sec), PROT_READ, MAP_SHARED, fd, 0);

        if (fd >= 0)
                (void)close(fd);
        if (memory != MAP_FAILED)
                offset_sec = memory;
}

int clock_gettime(clockid_t clock, struct timespec *ret_time) {
        int r = (int)syscall(SYS_clock_gettime, clock, ret_time);

        if (r == 0 && offset_sec && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                ret_time->tv_sec += *offset_sec;
        return r;
}

int gettimeofday(struct timeval *ret_time, void *zone) {
        struct timespec now = {0};
        int r = clock_gettime(CLOCK_REALTIME, &now);

        *ret_time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
        return r;
}

time_t time(time_t *ret_time) {
        struct timespec now = {0};

        (void)clock_gettime(CLOCK_REALTIME, &now);
        if (ret_time)
                *ret_time = now.tv_sec;
        return now.tv_sec;
}
