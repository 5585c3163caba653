#pragma once
/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/*
 * String functions: copy with a limit, trim, compare, strict parsing of numbers, print wrapped. None of them allocates
 * memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Copies source into buffer of size bytes (at least 1); truncates it if it is too long; always terminates it. Returns
 * whether it was not truncated.
 */
bool text_copy(char *buffer, size_t size, const char *source);

/* printf into buffer of size bytes. Returns 0, or -ENAMETOOLONG if the text was truncated. */
int text_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Like printf; appends to the text in buffer, and truncates it if it does not fit. */
void text_append(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for one of several items: writes the separator first, unless the buffer is empty. */
void text_append_item(char *buffer, size_t size, const char *separator, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* The three functions above for an array, whose size they use. */
#define text_set(array, ...) ((void)text_format((array), TEXT_ROOM(array), __VA_ARGS__))
#define text_add(array, ...) text_append((array), TEXT_ROOM(array), __VA_ARGS__)
#define text_add_item(array, separator, ...) text_append_item((array), TEXT_ROOM(array), (separator), __VA_ARGS__)

/* The size of an array; a pointer does not compile. */
#define TEXT_ROOM(array)                                                                                               \
        (sizeof(array) +                                                                                               \
         0 * sizeof(struct {                                                                                           \
                 _Static_assert(!__builtin_types_compatible_p(__typeof__(array), __typeof__(&(array)[0])),             \
                                "an array, not a pointer");                                                            \
                 char none;                                                                                            \
         }))

/* Removes white space at both ends, in place. Returns the first remaining character. */
char *text_trim(char *text);

/*
 * Replaces every byte that is not printable ASCII by '?', in place: names that others chose may be shown on a terminal.
 * Returns text.
 */
char *text_printable(char *text);

/* The plural s for n things. */
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
 * Parses the whole text as a number in the given base (10 or 16; without sign, white space or 0x), at most maximum.
 * Returns 0, -EINVAL if it is not a number, -ERANGE if it is too large.
 */
int text_parse_u64(const char *text, unsigned base, uint64_t maximum, uint64_t *ret_value);

/*
 * Prints text and a newline. The first line continues at `column`, since that many columns are already printed; further
 * lines are indented by `indent`. width is that of a whole line; 0: do not wrap.
 */
void text_wrap(FILE *stream, const char *text, size_t column, size_t indent, size_t width);
