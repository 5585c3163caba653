/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

#include "cli/report/screen.h"

#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

/* From ECMA-48 and, for the wrapping of long lines (DECAWM), from DEC. */
#define CURSOR_UP "\033[%zuA"
#define ERASE_LINE_END "\033[K"
#define ERASE_BELOW "\033[J"
#define ERASE_ALL "\033[H\033[2J"
#define WRAP_OFF "\033[?7l"
#define WRAP_ON "\033[?7h"

static size_t count_lines(const char *text) {
        size_t n = 0;

        for (const char *end = strchr(text, '\n'); end; end = strchr(end + 1, '\n'))
                n++;
        return n;
}

/* The cursor needs the row below the drawing. */
static size_t room_of(const struct screen *screen) {
        struct winsize size;

        return ioctl(fileno(screen->stream), TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row - 1U : SIZE_MAX;
}

void screen_draw(struct screen *screen, const char *text) {
        size_t n_lines = count_lines(text), room = room_of(screen), shown = n_lines <= room ? n_lines : room - 1;

        (void)fputs(WRAP_OFF, screen->stream);
        if (screen->n_lines > 0)
                (void)fprintf(screen->stream, CURSOR_UP, screen->n_lines);
        for (size_t i = 0; i < shown; i++) {
                size_t length = strcspn(text, "\n");

                (void)fprintf(screen->stream, "\r%.*s" ERASE_LINE_END "\n", (int)length, text);
                text += length + 1;
        }
        screen->n_lines = shown;
        if (shown < n_lines) {
                (void)fprintf(screen->stream, "\r... %zu more lines; a higher terminal shows them" ERASE_LINE_END "\n",
                              n_lines - shown);
                screen->n_lines++;
        }
        (void)fputs(ERASE_BELOW WRAP_ON, screen->stream);
        (void)fflush(screen->stream);
}

void screen_clear(struct screen *screen) {
        (void)fputs(ERASE_ALL, screen->stream);
        screen->n_lines = 0;
}
