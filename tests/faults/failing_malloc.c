/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * Preloaded into a program: its n-th allocation fails once. A test looks at what the program does then.
 *
 *      HOLDFAST_FAIL_ALLOCATION=n       counted from the start of main(); 0 or none: nothing fails
 *      HOLDFAST_ALLOCATION_REPORT=FILE  is the count, always up to date: it is mapped, since at its end the program may
 *                                       be forbidden to open anything
 *
 * The allocator itself is glibc's, or a sanitizer's, which reports leaks.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_ulong *count; /* NULL: not in main() yet */
static unsigned long failing;

/* Counts an allocation. Returns whether it must fail. */
static bool fails(void) {
        if (!count || atomic_fetch_add(count, 1) + 1 != failing)
                return false;
        errno = ENOMEM;
        return true;
}

/* The next function of this name, looked up at its first use, because other code allocates before our constructor. */
#define NEXT(name)                                                                                                     \
        ({                                                                                                             \
                static __typeof__(name) *next_;                                                                        \
                if (!next_)                                                                                            \
                        next_ = (__typeof__(name) *)(uintptr_t)dlsym(RTLD_NEXT, #name);                                \
                next_;                                                                                                 \
        })

void *malloc(size_t size) {
        return fails() ? NULL : NEXT(malloc)(size);
}

void *calloc(size_t n, size_t size) {
        return fails() ? NULL : NEXT(calloc)(n, size);
}

void *realloc(void *block, size_t size) {
        return fails() ? NULL : NEXT(realloc)(block, size);
}

void *memalign(size_t alignment, size_t size) {
        return fails() ? NULL : NEXT(memalign)(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
        return fails() ? NULL : NEXT(aligned_alloc)(alignment, size);
}

int posix_memalign(void **ret_block, size_t alignment, size_t size) {
        return fails() ? ENOMEM : NEXT(posix_memalign)(ret_block, alignment, size);
}

/* Maps the counter in the report file. Returns NULL if there is none. */
static atomic_ulong *open_report(void) {
        const char *path = getenv("HOLDFAST_ALLOCATION_REPORT");
        int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
        void *memory = MAP_FAILED;

        if (fd >= 0 && ftruncate(fd, sizeof(*count)) == 0)
                memory = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd >= 0)
                (void)close(fd);
        return memory == MAP_FAILED ? NULL : memory;
}

static void __attribute__((constructor)) begin(void) {
        const char *number = getenv("HOLDFAST_FAIL_ALLOCATION");

        failing = number ? strtoul(number, NULL, 10) : 0;
        count = open_report();
}
