/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool text_copy(char *buffer, size_t size, const char *source) {
        size_t length = strnlen(source, size);
        bool fits = length < size;

        if (!fits)
                length = size - 1;
        memcpy(buffer, source, length);
        buffer[length] = '\0';
        return fits;
}

int text_format(char *buffer, size_t size, const char *format, ...) {
        va_list arguments;
        int length;

        va_start(arguments, format);
        length = vsnprintf(buffer, size, format, arguments);
        va_end(arguments);
        return length >= 0 && (size_t)length < size ? 0 : -ENAMETOOLONG;
}

__attribute__((format(printf, 3, 0))) static void append(char *buffer, size_t size, const char *format,
                                                         va_list arguments) {
        size_t length = strlen(buffer);

        (void)vsnprintf(buffer + length, size - length, format, arguments);
}

void text_append(char *buffer, size_t size, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        append(buffer, size, format, arguments);
        va_end(arguments);
}

void text_append_item(char *buffer, size_t size, const char *separator, const char *format, ...) {
        va_list arguments;

        if (buffer[0] != '\0')
                text_append(buffer, size, "%s", separator);
        va_start(arguments, format);
        append(buffer, size, format, arguments);
        va_end(arguments);
}

char *text_trim(char *text) {
        size_t length;

        while (isspace((unsigned char)*text))
                text++;
        length = strlen(text);
        while (length > 0 && isspace((unsigned char)text[length - 1]))
                length--;
        text[length] = '\0';
        return text;
}

char *text_printable(char *text) {
        for (char *byte = text; *byte != '\0'; byte++)
                if (*byte < 0x20 || *byte > 0x7e)
                        *byte = '?';
        return text;
}

bool text_equal(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

bool text_equal_nocase(const char *a, const char *b) {
        return strcasecmp(a, b) == 0;
}

bool text_starts_with(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_take_item(const char **list, char *buffer, size_t size) {
        const char *item = *list;
        size_t length;

        if (!item)
                return false;
        length = strcspn(item, ",");
        *list = item[length] == ',' ? item + length + 1 : NULL;
        (void)text_format(buffer, size, "%.*s", (int)length, item);
        return true;
}

static int digit_value(char character) {
        if (character >= '0' && character <= '9')
                return character - '0';
        if (character >= 'a' && character <= 'f')
                return character - 'a' + 10;
        if (character >= 'A' && character <= 'F')
                return character - 'A' + 10;
        return -1;
}

int text_parse_u64(const char *text, unsigned base, uint64_t maximum, uint64_t *ret_value) {
        uint64_t value = 0;

        if (*text == '\0')
                return -EINVAL;
        for (; *text != '\0'; text++) {
                int digit = digit_value(*text);

                if (digit < 0 || (unsigned)digit >= base)
                        return -EINVAL;
                if (value > (maximum - (uint64_t)digit) / base)
                        return -ERANGE;
                value = value * base + (uint64_t)digit;
        }
        if (value > maximum)
                return -ERANGE;
        *ret_value = value;
        return 0;
}

void text_wrap(FILE *stream, const char *text, size_t column, size_t indent, size_t width) {
        bool begins = true; /* the line has no word yet */

        while (*text != '\0') {
                size_t length = strcspn(text, " ");

                if (width > 0 && !begins && column + 1 + length > width) {
                        (void)fprintf(stream, "\n%*s", (int)indent, "");
                        column = indent;
                        begins = true;
                }
                (void)fprintf(stream, "%s%.*s", begins ? "" : " ", (int)length, text);
                column += length + !begins;
                begins = false;
                text += length;
                text += strspn(text, " ");
        }
        (void)fputc('\n', stream);
}
