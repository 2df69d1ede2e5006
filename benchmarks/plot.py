"""A small SVG of lines over logarithmic axes, written by hand: no library needs to be installed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 220, 48, 34, 26
_COLORS = ("#1f77b4", "#d62728", "#2ca02c")


def svg(title: str, x_label: str, lines: Mapping[str, Points]) -> str:
    """Draw lines through points of positive numbers; the legend is their names."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - 14)
    y_axis = _Axis(min(ys) / 1.3, max(ys) * 1.3, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="10">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 14, title, weight="bold"),
        _text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, x_label),
        *_grid(x_axis, y_axis, sorted(set(xs))),
    ]
    for (name, points), color in zip(lines.items(), _COLORS, strict=False):
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = points[-1]
        parts.append(_text(x_axis.at(x), y_axis.at(y) - 5, name, color=color, anchor="end"))
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Numbers to places, logarithmically."""

    def __init__(self, least: float, most: float, start: float, end: float) -> None:
        self._least = math.log(least)
        self._span = math.log(most) - self._least or 1.0
        self._start, self._end = start, end
        self.most, self.least = most, least

    def at(self, number: float) -> float:
        part = (math.log(number) - self._least) / self._span
        return self._start + part * (self._end - self._start)


def _grid(x_axis: _Axis, y_axis: _Axis, xs: Sequence[float]) -> Iterator[str]:
    for x in xs:
        yield _text(x_axis.at(x), _HEIGHT - _BOTTOM + 13, _short(x), anchor="middle")
    first, last = math.floor(math.log10(y_axis.least)), math.ceil(math.log10(y_axis.most))
    for y in (step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)):
        if y_axis.least <= y <= y_axis.most:
            place = y_axis.at(y)
            yield (
                f'<line x1="{_LEFT}" x2="{_WIDTH - 14}" y1="{place:.1f}" y2="{place:.1f}" '
                'stroke="#ddd"/>'
            )
            yield _text(_LEFT - 4, place + 3, _short(y), anchor="end")


def _short(number: float) -> str:
    if number >= 1_000_000:
        return f"{number / 1_000_000:g}M"
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    color: str = "#333",
    anchor: str = "start",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{text}</text>'
    )
