"""The pictures of docs/capacity.md: bars and curves as SVG that reads on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

GREY, ACCENT = "#808080", "#3f7fd0"
COLOURS = ("#3f7fd0", "#d0783f", "#4a9a5b", "#9a5fb0")
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">\n'
    f'<g fill="{GREY}">\n'
)
TAIL = "</g>\n</svg>\n"


def bars(title: str, values: Mapping[str, float], accent: str) -> str:
    """A bar a value, the longest as wide as the picture; `accent` stands out."""
    most, row, left, room = max(values.values()), 26, 190, 430
    drawn = [HEAD.format(width=720, height=40 + row * len(values)), _text(0, 16, title, weight="bold")]
    for number, (name, value) in enumerate(values.items()):
        top, width = 30 + row * number, max(1.0, room * value / most)
        colour = ACCENT if name == accent else GREY
        drawn.append(_text(left - 8, top + 14, name, anchor="end"))
        drawn.append(f'<rect x="{left}" y="{top}" width="{width:.1f}" height="18" fill="{colour}"/>\n')
        drawn.append(_text(left + width + 8, top + 14, f"{value:,.0f}"))
    return "".join([*drawn, TAIL])


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each of `lines`, x on a logarithmic scale from 1, y from 0."""
    last = max(x for points in lines.values() for x, _ in points)
    most = max(y for points in lines.values() for _, y in points)
    left, top, width, height = 60, 40, 640, 240

    def at(x: float, y: float) -> str:
        return f"{left + width * log10(x) / log10(last):.1f},{top + height * (1 - y / most):.1f}"

    drawn = [HEAD.format(width=720, height=330), _text(0, 16, title, weight="bold")]
    for power in range(int(log10(last)) + 1):
        x = left + width * power / log10(last)
        drawn.append(_text(x, top + height + 20, f"{10**power:,}", anchor="middle"))
    for part in (0, 0.5, 1):
        y = top + height * (1 - part)
        drawn.append(f'<path d="M{left} {y}h{width}" stroke="{GREY}" stroke-opacity="0.3"/>\n')
        drawn.append(_text(left - 8, y + 4, f"{most * part:.0f}", anchor="end"))
    for number, (name, points) in enumerate(lines.items()):
        colour, path = COLOURS[number], " ".join(at(x, y) for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n')
        drawn.append(_text(left + 165 * number, 322, name, colour=colour))
    return "".join([*drawn, TAIL])


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = GREY
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>\n'
