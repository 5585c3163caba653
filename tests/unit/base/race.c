/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two threads write to the same word. If ThreadSanitizer misses this race, its silence elsewhere proves nothing. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

static unsigned word;
static atomic_bool written;

static void *write_word(void *argument) {
        word++;
        atomic_store_explicit(&written, true, memory_order_relaxed);
        return NULL;
}

/* One write follows the other, because ThreadSanitizer may miss simultaneous ones; relaxed, so nothing orders them. */
int main(void) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, write_word, NULL) != 0)
                return 0;
        while (!atomic_load_explicit(&written, memory_order_relaxed))
                (void)sched_yield();
        word++;
        (void)pthread_join(thread, NULL);
        return 0;
}
