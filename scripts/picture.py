# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Draws SVG pictures for the documentation: a terminal's screen, and times as bars. Each has colours for light and dark
pages; the viewer's setting (prefers-color-scheme) decides."""

import re
import statistics
from html import escape

FONT = "ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', Menlo, Consolas, monospace"
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 19, 16

# The codes that the programs use (src/cli/report/table.c): bold, red, green, yellow.
STYLES = {"1": "bold", "31": "bad", "32": "good", "33": "warn"}

COLOURS = {
    "light": {"page": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "faint": "#656d76", "good": "#116329",
              "warn": "#7d4e00", "bad": "#cf222e", "cold": "#b35806", "held": "#2166ac"},
    "dark": {"page": "#0d1117", "edge": "#30363d", "text": "#e6edf3", "faint": "#8d96a0", "good": "#3fb950",
             "warn": "#d29922", "bad": "#ff7b72", "cold": "#f1a340", "held": "#67a9cf"},
}


class Terminal:
    """The screen of a terminal after some output. It knows the sequences that our programs send, and fails at others."""

    SEQUENCE = re.compile(r"\033\[(\??[\d;]*)([A-Za-z])")

    def __init__(self, columns):
        self.columns = columns
        self.rows = [[]]
        self.row = self.column = 0
        self.style = ""

    def feed(self, text):
        at = 0
        while at < len(text):
            if text[at] == "\033":
                match = self.SEQUENCE.match(text, at)
                assert match, f"unknown: {text[at:at + 10]!r}"
                self._sequence(*match.groups())
                at = match.end()
            else:
                self._character(text[at])
                at += 1

    def _sequence(self, numbers, letter):
        if letter == "m":
            self.style = STYLES.get(numbers, "") if numbers not in ("", "0") else ""
        elif letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif letter == "K":
            del self.rows[self.row][self.column:]
        elif letter == "J":
            del self.rows[self.row if numbers != "2" else 0:]
            self._reach()
        elif letter == "H":
            self.row = self.column = 0
        else:
            assert letter in "hl", f"unknown: ESC [ {numbers} {letter}"

    def _character(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            self._reach()
        else:
            if self.column == self.columns:
                self.row, self.column = self.row + 1, 0
                self._reach()
            line = self.rows[self.row]
            line.extend([(" ", "")] * (self.column - len(line)))
            line[self.column:self.column + 1] = [(character, self.style)]
            self.column += 1

    def _reach(self):
        while len(self.rows) <= self.row:
            self.rows.append([])

    def lines(self):
        """Returns each line as [(text, style), ...], without empty lines at the end."""
        lines = []
        for row in self.rows:
            pieces = []
            for character, style in row:
                if pieces and pieces[-1][1] == style:
                    pieces[-1] = (pieces[-1][0] + character, style)
                else:
                    pieces.append((character, style))
            lines.append(pieces)
        while lines and not "".join(text for text, _ in lines[-1]).strip():
            lines.pop()
        return lines


def style_sheet(extra=""):
    def colours(theme):
        return "".join(f"--{name}:{value};" for name, value in COLOURS[theme].items())

    return (f"<style>svg{{{colours('light')}}}@media(prefers-color-scheme:dark){{svg{{{colours('dark')}}}}}"
            "text{fill:var(--text);white-space:pre}.bold{font-weight:bold}.faint{fill:var(--faint)}.good{fill:var(--good)}"
            f".warn{{fill:var(--warn)}}.bad{{fill:var(--bad)}}{extra}</style>\n")


def frame_of(width, height, title, inside, font=FONT, size=14, extra=""):
    """Sets no colours directly, so a viewer that does not support variables draws black on white."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="{font}" font-size="{size}" role="img">\n'
            f"<!-- SPDX-License-Identifier: MIT -->\n<title>{escape(title)}</title>\n{style_sheet(extra)}"
            f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="6" '
            f'style="fill:var(--page);stroke:var(--edge)" fill="white"/>\n{inside}</svg>\n')


def text_of(lines):
    """Places each piece of text at its column, so columns are aligned in any font."""
    inside = ""
    for row, pieces in enumerate(lines):
        column = 0
        for text, style in pieces:
            # Spaces are not drawn. Each word has its own x, so the font's widths do not matter.
            for match in re.finditer(r"\S+(?: \S+)*", text):
                x = MARGIN + (column + match.start()) * CELL_WIDTH
                width = (match.end() - match.start()) * CELL_WIDTH
                inside += (f'<text x="{x:.1f}" y="{MARGIN + (row + 0.75) * CELL_HEIGHT:.1f}" textLength="{width:.1f}" '
                           f'lengthAdjust="spacingAndGlyphs"{f" class={chr(34)}{style}{chr(34)}" if style else ""}>'
                           f"{escape(match[0], quote=False)}</text>\n")
            column += len(text)
    return inside


def size_of(frames):
    columns = max(sum(len(text) for text, _ in line) for lines in frames for line in lines)
    return columns * CELL_WIDTH + 2 * MARGIN, max(map(len, frames)) * CELL_HEIGHT + 2 * MARGIN


def terminal(frames, title, seconds=1.0):
    """Shows frames one after another, the last one longest. A viewer without animation shows only the last one."""
    width, height = size_of(frames)
    if len(frames) == 1:
        return frame_of(width, height, title, text_of(frames[0]))
    steps = len(frames) + 4
    extra = ".f{visibility:hidden}.last{visibility:visible}@media(prefers-reduced-motion:no-preference){"
    inside = ""
    for number, lines in enumerate(frames):
        begin = 100 * number / steps
        end = 100 * (number + 1) / steps if number < len(frames) - 1 else 100
        around = [f"0%,{begin - 0.01:.2f}%{{visibility:hidden}}"] if number else []
        around += [f"{begin:.2f}%,{end - 0.01 if end < 100 else 100:.2f}%{{visibility:visible}}"]
        around += [f"{end:.2f}%,100%{{visibility:hidden}}"] if end < 100 else []
        extra += f"@keyframes k{number}{{{''.join(around)}}}.n{number}{{animation:k{number} {steps * seconds:.1f}s step-end infinite}}"
        inside += (f'<g class="f n{number}{" last" if number == len(frames) - 1 else ""}">\n{text_of(lines)}</g>\n')
    return frame_of(width, height, title, inside, extra=extra + "}")


def bars(title, note, kinds):
    """Draws a bar for each run, all to one scale. kinds: (name, colour class, seconds of each run)."""
    longest = max(seconds for _, _, times in kinds for seconds in times)
    left, wide, y = 170, 440, 74
    inside = f'<text x="{MARGIN}" y="30" font-size="16" class="bold">{escape(title)}</text>\n'
    inside += f'<text x="{MARGIN}" y="50" class="faint">{escape(note)}</text>\n'
    for name, colour, times in kinds:
        median = statistics.median(times)
        inside += f'<text x="{MARGIN}" y="{y + 10 * len(times)}" class="bold">{escape(name)}</text>\n'
        for number, seconds in enumerate(times):
            width = max(2, seconds / longest * wide)
            inside += (f'<rect x="{left}" y="{y + 18 * number}" width="{width:.1f}" height="14" rx="2" fill="gray" '
                       f'style="fill:var(--{colour})"/>\n'
                       f'<text x="{left + width + 6:.1f}" y="{y + 18 * number + 12}" font-size="12">'
                       f"{in_words(seconds)}</text>\n")
        inside += f'<text x="{MARGIN}" y="{y + 10 * len(times) + 18}" class="faint">median {in_words(median)}</text>\n'
        y += 18 * len(times) + 20
    return frame_of(720, y + 4, title, inside, font="system-ui, 'DejaVu Sans', sans-serif", size=13)


def in_words(seconds):
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.0f} µs"
