#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Small work on strings: copy with a limit, trim, compare, and strict numbers. Nothing here allocates. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies source into buffer of size bytes (at least 1), cut if too long, always terminated. Returns whether it fitted.
 */
bool text_copy(char *buffer, size_t size, const char *source);

/* printf into buffer of size bytes. Returns 0, or -ENAMETOOLONG when it did not fit (the buffer then holds the cut
 * text). */
int text_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* printf behind the text that is in buffer; what does not fit is cut. */
void text_append(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for one of several items: with the separator before it, unless the buffer is empty. */
void text_append_item(char *buffer, size_t size, const char *separator, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* These three for a whole array, as its size says: printf into it, behind its text, as one more of several items. */
#define text_set(array, ...) ((void)text_format((array), TEXT_ROOM(array), __VA_ARGS__))
#define text_add(array, ...) text_append((array), TEXT_ROOM(array), __VA_ARGS__)
#define text_add_item(array, separator, ...) text_append_item((array), TEXT_ROOM(array), (separator), __VA_ARGS__)

/* Of an array; a pointer does not compile. */
#define TEXT_ROOM(array)                                                                                               \
        (sizeof(array) +                                                                                               \
         0 * sizeof(struct {                                                                                           \
                 _Static_assert(!__builtin_types_compatible_p(__typeof__(array), __typeof__(&(array)[0])),             \
                                "an array, not a pointer");                                                            \
                 char none;                                                                                            \
         }))

/* Drops white space at both ends, in place; returns the first remaining character. */
char *text_trim(char *text);

/* Replaces every byte that is not printable ASCII by '?', in place: what others named may go to a terminal. Returns
 * text. */
char *text_printable(char *text);

/* The s of so many things. */
static inline const char *text_plural(size_t n) {
        return n == 1 ? "" : "s";
}

bool text_equal(const char *a, const char *b);
bool text_equal_nocase(const char *a, const char *b);
bool text_starts_with(const char *text, const char *prefix);

/* Copies the first item of a list with commas into the array, cut if too long, and leaves the others in *list: NULL
 * after the last. Returns false when there is none. */
#define text_next_item(list, array) text_take_item((list), (array), TEXT_ROOM(array))
bool text_take_item(const char **list, char *buffer, size_t size);

/*
 * The whole text as a number in the given base (10 or 16, no sign, no white space, no 0x), at most maximum.
 * Returns 0, -EINVAL when it is not a number, -ERANGE when it is too large.
 */
int text_parse_u64(const char *text, unsigned base, uint64_t maximum, uint64_t *ret_value);
