"""Plots as inline SVG: lines with bands, intervals by row, calibration, a distribution.

Colours are classes (`c0`, `c1` …) that the page's style sheet fills: both schemes and print work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 34
_ROW = 24


class Point(NamedTuple):
    """A value with its interval, at x."""

    x: float
    value: float
    low: float
    high: float


Series = Mapping[str, Sequence[Point]]


def timeline(series: Series, label: str) -> str:
    """Draw a metric over event time (x: ms since 1970), a line and a band an arm."""
    points = [point for one in series.values() for point in one]
    if len({point.x for point in points}) < 2:
        return ""
    left, right = min(p.x for p in points), max(p.x for p in points)
    low, high, ticks = _scale(min(p.low for p in points), max(p.high for p in points))
    to_x = _linear(left, right, _LEFT, WIDTH - _RIGHT)
    to_y = _linear(low, high, HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(ticks, to_y)]
    for place, found in enumerate(series.values()):
        upper = [f"{to_x(p.x):.1f},{to_y(p.high):.1f}" for p in found]
        lower = [f"{to_x(p.x):.1f},{to_y(p.low):.1f}" for p in reversed(found)]
        line = " ".join(f"{to_x(p.x):.1f},{to_y(p.value):.1f}" for p in found)
        parts.append(f'<polygon class="band f{place % 6}" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline class="line c{place % 6}" points="{line}"/>')
    for share in (0.0, 0.5, 1.0):
        at = left + share * (right - left)
        anchor = ("start", "middle", "end")[round(share * 2)]
        parts.append(_text(to_x(at), HEIGHT - 12, _moment(at, right - left), anchor))
    return _svg(parts, WIDTH, HEIGHT, label)


def intervals(rows: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]], label: str) -> str:
    """Draw estimates with whiskers: a row a segment, a dot an arm."""
    cells = [cell for _, arms in rows for cell in arms.values() if cell["value"] is not None]
    if not cells:
        return ""
    low, high, ticks = _scale(
        min(_bound(cell, "low") for cell in cells), max(_bound(cell, "high") for cell in cells)
    )
    arms = len(rows[0][1])
    step = max(_ROW, 11 * arms + 8)
    height = _TOP + step * len(rows) + _BOTTOM
    left = 240
    to_x = _linear(low, high, left, WIDTH - _RIGHT)
    parts = [
        f'<line class="grid" x1="{to_x(t):.1f}" x2="{to_x(t):.1f}" y1="{_TOP}" '
        f'y2="{height - _BOTTOM}"/>' + _text(to_x(t), height - 12, _number(t), "middle")
        for t in ticks
    ]
    for row, (name, found) in enumerate(rows):
        top = _TOP + row * step
        shown = name if len(name) <= 30 else name[:29] + "…"
        parts.append(_text(left - 10, top + step / 2 + 4, shown, "end"))
        for place, cell in enumerate(found.values()):
            if cell["value"] is None:
                continue
            y = top + step / 2 + (place - (arms - 1) / 2) * 11
            x0, x1 = to_x(_bound(cell, "low")), to_x(_bound(cell, "high"))
            parts.append(
                f'<line class="line c{place % 6}" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
                f'<circle class="f{place % 6}" cx="{to_x(cell["value"]):.1f}" cy="{y:.1f}" r="4"/>'
            )
    return _svg(parts, WIDTH, height, label)


def calibration(bins: Mapping[str, Sequence[Sequence[float]]], label: str) -> str:
    """Draw confidence against how often it was right; the size of a dot says how many cases."""
    side = 300
    to_x = _linear(0, 1, _LEFT, side - _RIGHT)
    to_y = _linear(0, 1, side - _BOTTOM, _TOP)
    most = max((row[0] for rows in bins.values() for row in rows), default=0.0)
    if not most:
        return ""
    parts = [
        _grid([0, 0.25, 0.5, 0.75, 1], to_y, side),
        f'<line class="ideal" x1="{to_x(0)}" y1="{to_y(0)}" x2="{to_x(1)}" y2="{to_y(1)}"/>',
    ]
    for place, rows in enumerate(bins.values()):
        points = [(r[2] / r[0], r[1] / r[0], r[0]) for r in rows if r[0] > 0]
        line = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y, _ in points)
        parts.append(f'<polyline class="line c{place % 6}" points="{line}"/>')
        parts += [
            f'<circle class="f{place % 6}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" '
            f'r="{2 + 5 * math.sqrt(count / most):.1f}"/>'
            for x, y, count in points
        ]
    for share in (0, 0.5, 1):
        parts.append(_text(to_x(share), side - 12, _number(share), "middle"))
    return _svg(parts, side, side, label)


def distribution(counts: Mapping[str, Sequence[int]], edges: Sequence[float], label: str) -> str:
    """Draw shares of events over a logarithmic line of milliseconds."""
    used = [i for i in range(len(edges) + 1) if any(row[i] for row in counts.values())]
    if not used:
        return ""
    first, last = max(0, used[0] - 1), min(len(edges) - 1, used[-1] + 1)
    to_x = _linear(math.log10(edges[first]), math.log10(edges[last]), _LEFT, WIDTH - _RIGHT)
    shares = {arm: [count / max(1, sum(row)) for count in row] for arm, row in counts.items()}
    _, high, ticks = _scale(0, max(max(row) for row in shares.values()))
    to_y = _linear(0, high, HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(ticks, to_y)]
    for place, row in enumerate(shares.values()):
        path: list[str] = []
        for number in range(first, last):
            y = to_y(row[number + 1])
            path += [
                f"{to_x(math.log10(edges[number])):.1f},{y:.1f}",
                f"{to_x(math.log10(edges[number + 1])):.1f},{y:.1f}",
            ]
        parts.append(f'<polyline class="line c{place % 6}" points="{" ".join(path)}"/>')
    for exponent in range(-2, 5):
        at = float(10**exponent)
        if edges[first] <= at <= edges[last]:
            anchor = "end" if at >= edges[last] else "middle"
            parts.append(_text(to_x(exponent), HEIGHT - 12, f"{at:g} ms", anchor))
    return _svg(parts, WIDTH, HEIGHT, label)


def _svg(parts: Sequence[str], width: int, height: int, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{width}px">{"".join(parts)}</svg>'
    )


def _grid(ticks: Sequence[float], to_y: Callable[[float], float], width: int = WIDTH) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{to_y(t):.1f}" '
        f'y2="{to_y(t):.1f}"/>' + _text(_LEFT - 8, to_y(t) + 4, _number(t), "end")
        for t in ticks
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and its round ticks."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _bound(cell: Mapping[str, Any], name: str) -> float:
    found = cell[name]
    return float(cell["value"] if found is None else found)


def _number(value: float) -> str:
    return f"{round(value, 6):g}"


def _moment(at_ms: float, span_ms: float) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%d" if span_ms > 3 * 86_400_000 else "%m-%d %H:%M:%S")
