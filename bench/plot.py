# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Draws the figures that have a limit: their ratios to the limit, on a logarithmic axis."""

import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, ROW, FOOT = 1100, 560, 30, 50, 18, 40
FILLS = ("black", "#999", "white")  # for the contenders, in their order


def decades(ratios):
    """Returns the exponents of the powers of ten that enclose the ratios, at least those of 1 and 10."""
    return math.floor(math.log10(min([1, *ratios]))), math.ceil(math.log10(max([10, *ratios])))


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def as_svg(figures, names):
    figures = [figure for figure in figures if figure.limit]
    points = [(at, name, figure.ratio(name)) for at, figure in enumerate(figures) for name in names]
    points = [point for point in points if point[2]]
    first, last = decades([ratio for _, _, ratio in points])
    height = TOP + ROW * len(figures) + FOOT

    def x_of(ratio):
        return LEFT + (math.log10(ratio) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y_of(at):
        return TOP + ROW * (at + 0.5)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             text(LEFT, 18, "times the limit measured in the same run; |: the goal")]
    for at, (name, fill) in enumerate(zip(names, FILLS)):
        parts += [f'<circle cx="{LEFT + 8 + 170 * at}" cy="34" r="5" fill="{fill}" stroke="black"/>',
                  text(LEFT + 20 + 170 * at, 38, name)]
    for power in range(first, last + 1):
        x = x_of(10.0**power)
        parts += [f'<path d="M{x:.1f} {TOP}V{height - FOOT}" stroke="{"black" if power == 0 else "#ccc"}"/>',
                  text(x, height - FOOT + 16, f"{10.0**power:g} x", "middle")]
    for at, figure in enumerate(figures):
        parts.append(text(LEFT - 10, y_of(at) + 4, f"{figure.group}: {figure.name}", "end"))
        if figure.ratio_goal:
            parts.append(f'<path d="M{x_of(figure.ratio_goal):.1f} {y_of(at) - 8}v16" stroke="black" stroke-width="2"/>')
    parts += [f'<circle cx="{x_of(ratio):.1f}" cy="{y_of(at)}" r="5" fill="{FILLS[names.index(name)]}" stroke="black"/>'
              for at, name, ratio in points]
    return "\n".join([*parts, "</svg>"]) + "\n"
