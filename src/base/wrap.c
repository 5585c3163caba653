/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "base/wrap.h"

#include <stdbool.h>
#include <string.h>

void wrap_print(FILE *stream, const char *text, size_t column, size_t indent, size_t width) {
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
