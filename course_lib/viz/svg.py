"""Small pictures as SVG text, made in a millisecond or two: what an explorer redraws while a slider moves.

matplotlib, which draws all other pictures of the course, needs 70 to 150 ms for one; a hand that moves a slider sees
that. Here is only what the explorers need: curves, bars, a heat map, tokens in boxes, arrows, and a tree.

Every function returns a complete ``<svg>`` element on a white card, without ids and with coordinates of one decimal, so
that the same numbers give the same text everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from course_lib.viz.plots import COLOURS

INK, FAINT = "#111111", "#D5D5D5"
WIDTH, HEIGHT = 600, 290
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 50, 46  # the margins that hold title, legend, labels and ticks
SVG_DASHES = ("", "7 3", "7 3 2 3", "2 3", "10 3", "6 2 2 2 2 2")  # one a colour: curves differ without colour, too
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
Limits = tuple[float, float]


def number(value: float) -> str:
    """One decimal at most, and no minus sign before a zero."""
    return f"{round(value, 1) + 0.0:g}"


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, style: str = "") -> str:
    """Words at a place; ``anchor`` says which of their ends, "start", "middle" or "end", is there."""
    return (
        f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" font-size="{size}" fill="{INK}"{style}>'
        f"{escape(words)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT, width: float = 1) -> str:
    """A straight line."""
    ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{number(width)}"/>'


def rectangle(x: float, y: float, width: float, height: float, fill: str, border: str = "none") -> str:
    """A filled rectangle."""
    size = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {size} fill="{fill}" stroke="{border}"/>'


def card(parts: Sequence[str], title: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Put the parts of a picture on a white card under a title."""
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" '
        f'style="max-width:100%;height:auto">{rectangle(0, 0, width, height, "#FFFFFF")}'
        f"{text(12, 20, title, size=13)}{''.join(parts)}</svg>"
    )


def ticks(limits: Limits) -> list[float]:
    """Round numbers within the limits, five or so: steps of 1, 2 or 5 times a power of ten."""
    low, high = limits
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


class Axes:
    """The frame of a plot: limits, ticks and labels, and where a pair of values comes to lie."""

    def __init__(self, x_limits: Limits, y_limits: Limits, x_label: str, y_label: str, x_ticks: bool = True) -> None:
        """Raises ValueError for limits that are not finite or not in order."""
        for name, (low, high) in (("x", x_limits), ("y", y_limits)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{name} limits must be finite and in order, got {low} to {high}")
        self.x_limits, self.y_limits = x_limits, y_limits
        bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
        self.parts = [line(LEFT, bottom, WIDTH - RIGHT, bottom, INK), line(LEFT, TOP, LEFT, bottom, INK)]
        for value in ticks(y_limits):
            y = self.y(value)
            self.parts += [line(LEFT, y, WIDTH - RIGHT, y), text(LEFT - 6, y + 4, f"{value:.6g}", anchor="end")]
        for value in ticks(x_limits) if x_ticks else ():
            self.parts.append(text(self.x(value), bottom + 16, f"{value:.6g}", anchor="middle"))
        self.parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, anchor="middle"))
        turned = f' transform="rotate(-90 14 {number(middle)})"'
        self.parts.append(text(14, middle, y_label, anchor="middle", style=turned))

    def x(self, value: float) -> float:
        """Where a value lies across."""
        low, high = self.x_limits
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value lies down the card. What is beyond the limits is drawn at the limit."""
        low, high = self.y_limits
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def legend(names: Sequence[str], filled: bool = False) -> list[str]:
    """Name the colours of bars (``filled``), or colours and dashes of curves, under the title; one alone needs none."""
    parts, x = [], float(LEFT)
    for i, name in enumerate(names if len(names) > 1 else ()):
        sample = rectangle(x + 12, 30, 14, 12, COLOURS[i % 6]) if filled else _stroke([(x, 36), (x + 26, 36)], i, 4)
        parts += [sample, text(x + 32, 40, name)]
        x += 56 + 6.6 * len(name)
    return parts


def _stroke(points: Sequence[tuple[float, float]], i: int, width: int = 2) -> str:
    where = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    dash = f' stroke-dasharray="{SVG_DASHES[i % 6]}"' if SVG_DASHES[i % 6] else ""
    return f'<polyline points="{where}" fill="none" stroke="{COLOURS[i % 6]}" stroke-width="{width}"{dash}/>'


def lines(
    series: Series,
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_limits: Limits,
    marks: Sequence[tuple[float, float]] = (),
) -> str:
    """Draw named curves, each a pair (x values, y values), and circles at ``marks``.

    The limits of y are given, not found: an axis that jumps under a moving slider hides what the slider does.
    """
    every_x = [value for x, _ in series.values() for value in x]
    axes = Axes((min(every_x), max(every_x)), y_limits, x_label, y_label)
    curves = [
        _stroke([(axes.x(a), axes.y(b)) for a, b in zip(x, y, strict=True)], i)
        for i, (x, y) in enumerate(series.values())
    ]
    circles = [
        f'<circle cx="{number(axes.x(x))}" cy="{number(axes.y(y))}" r="5" fill="none" stroke="{INK}" stroke-width="2"/>'
        for x, y in marks
    ]
    return card([*axes.parts, *curves, *circles, *legend(list(series))], title)


def bars(
    values: Mapping[str, Sequence[float]],
    labels: Sequence[str],
    *,
    title: str,
    y_label: str,
    x_label: str = "",
    y_limits: Limits = (0.0, 1.0),
) -> str:
    """Draw groups of bars, one group a label and in each one bar a name; ``nan`` leaves a gap marked "nan"."""
    axes = Axes((0, len(labels)), y_limits, x_label, y_label, x_ticks=False)
    group = (WIDTH - LEFT - RIGHT) / len(labels)
    each, zero = 0.8 * group / len(values), axes.y(0.0)
    parts = [*axes.parts]
    for i, (name, row) in enumerate(values.items()):
        if len(row) != len(labels):
            raise ValueError(f"{name} has {len(row)} values for {len(labels)} labels")
        for k, value in enumerate(row):
            x = LEFT + (k + 0.1) * group + i * each
            if math.isnan(value):
                parts.append(text(x + each / 2, zero - 4, "nan", anchor="middle", size=10))
                continue
            y = axes.y(value)
            parts.append(rectangle(x, min(y, zero), each, abs(y - zero), COLOURS[i % 6]))
    parts += [
        text(LEFT + (k + 0.5) * group, HEIGHT - BOTTOM + 16, label, anchor="middle", size=11)
        for k, label in enumerate(labels)
    ]
    return card([*parts, *legend(list(values), filled=True)], title)


def grid(
    matrix: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    row_label: str,
    column_label: str,
) -> str:
    """Draw a matrix of weights from 0 (white) to 1 (dark blue), its value in each cell, tokens beside and above it."""
    if len(matrix) != len(rows) or any(len(row) != len(columns) for row in matrix):
        raise ValueError(f"the matrix must have {len(rows)} rows of {len(columns)} values")
    left, top, across, down = 110, 74, 46, 26
    parts = [text(left, 42, column_label, size=11), text(8, top - 8, row_label, size=11)]
    for k, token in enumerate(columns):
        parts.append(text(left + (k + 0.5) * across, 62, token[:8], anchor="middle", size=11))
    for i, (token, row) in enumerate(zip(rows, matrix, strict=True)):
        parts.append(text(left - 8, top + (i + 0.65) * down, token[:12], anchor="end"))
        for k, value in enumerate(row):
            x, y, shade = left + k * across, top + i * down, min(max(value, 0.0), 1.0)
            red, green, blue = (round(255 + shade * (dark - 255)) for dark in (8, 69, 148))
            parts.append(rectangle(x, y, across, down, f"#{red:02X}{green:02X}{blue:02X}", FAINT))
            ink = "#FFFFFF" if shade > 0.73 else "#000000"  # each has a contrast of at least 4.5 on its shades
            parts.append(
                f'<text x="{number(x + across / 2)}" y="{number(y + 17)}" text-anchor="middle" font-size="10" '
                f'fill="{ink}">{value:.2f}</text>'
            )
    return card(parts, title, max(420, left + across * len(columns) + 12), top + down * len(rows) + 12)


def boxes(tokens: Sequence[str], *, title: str) -> str:
    """Draw tokens in boxes, in lines of the card's width."""
    parts, x, y = [], 12.0, 34.0
    for i, token in enumerate(tokens):
        width = 14 + sum(13 if ord(character) > 0x2E7F else 8 for character in token)
        if x + width > WIDTH - 12 and x > 12:
            x, y = 12.0, y + 34
        parts.append(rectangle(x, y, width, 26, ("#E8F1FA", "#FBEDE3")[i % 2], "#777777"))
        parts.append(text(x + width / 2, y + 17, token, anchor="middle"))
        x += width + 4
    return card(parts, title, WIDTH, y + 38)


def arrows(vectors: Mapping[str, tuple[float, float]], *, title: str, reach: float) -> str:
    """Draw named vectors of the plane from one origin; the card spans ``reach`` in each direction."""
    size = 320.0
    top = 30
    middle = top + (size - top) / 2
    scale = (size - top) / 2 / reach * 0.9
    parts = [line(0, middle, size, middle), line(size / 2, top, size / 2, size)]
    for i, (name, (x, y)) in enumerate(vectors.items()):
        end_x, end_y = size / 2 + x * scale, middle - y * scale
        parts.append(line(size / 2, middle, end_x, end_y, COLOURS[i % 6], 4 if i == 0 else 2))
        parts.append(f'<circle cx="{number(end_x)}" cy="{number(end_y)}" r="4" fill="{COLOURS[i % 6]}"/>')
        parts.append(text(end_x + (6 if x >= 0 else -6), end_y - 6, name, anchor="start" if x >= 0 else "end"))
    return card(parts, title, size, size)


def tree(nodes: Sequence[tuple[int, str, bool]], *, title: str) -> str:
    """Draw a tree that grows from left to right.

    Args:
        nodes: (number of the parent, words, whether it was kept), parents before children; the root's parent is −1.
        title: what the picture shows.
    """
    depths: list[int] = []
    children = [0] * len(nodes)
    for parent, _, _ in nodes:
        depths.append(0 if parent < 0 else depths[parent] + 1)
        if parent >= 0:
            children[parent] += 1
    order = sorted(range(len(nodes)), key=lambda i: _path(nodes, i))
    rows, row = [0.0] * len(nodes), 0
    for i in order:
        if not children[i]:
            rows[i], row = row, row + 1
    for i in reversed(range(len(nodes))):  # a parent lies half-way between its first and its last child
        below = [rows[k] for k in range(len(nodes)) if nodes[k][0] == i]
        if below:
            rows[i] = (min(below) + max(below)) / 2
    across, down = 92.0, 22.0
    places = [(14 + depth * across, 44 + y * down) for depth, y in zip(depths, rows, strict=True)]
    parts = []
    for (parent, words, kept), (x, y) in zip(nodes, places, strict=True):
        if parent >= 0:
            from_x, from_y = places[parent]
            parts.append(line(from_x + 74, from_y, x - 4, y, COLOURS[0] if kept else FAINT, 2.5 if kept else 1))
        weight = ' font-weight="bold"' if kept else ' opacity="0.6"'
        parts.append(text(x, y + 4, words, size=11, style=weight))
    return card(parts, title, 14 + (max(depths) + 1) * across, 44 + max(row, 1) * down + 6)


def _path(nodes: Sequence[tuple[int, str, bool]], i: int) -> list[int]:
    """The numbers of a node and those above it, from the root on: their order is that of the leaves down the card."""
    path = [i]
    while nodes[path[-1]][0] >= 0:
        path.append(nodes[path[-1]][0])
    return path[::-1]
