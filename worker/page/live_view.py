"""The live view in the terminal: what flows, how fast, and the last answers in words."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.page.live_figures import LiveFigures, ShownAnswer, ShownList, ShownReview
from worker.page.loop_panel import PANEL_HEIGHT, loop_content

_BARS = "▁▂▃▄▅▆▇█"
_SENTIMENT_STYLES = {"positive": "green", "neutral": "yellow", "negative": "red"}
_ACCENT = "cyan"
TREND_SECONDS = 30
SVG_WIDTH, SVG_HEIGHT = 140, 46
ITEMS_SHOWN = 4


def live_view(figures: LiveFigures) -> RenderableType:
    """Return the whole view; it fills the console it is printed on."""
    body = Layout()
    body.split_row(Layout(_left(figures), name="figures", size=43), Layout(name="answers", ratio=1))
    body["answers"].split_column(
        Layout(_lists("Recommendations", figures.recommendations, "bold magenta"), ratio=12),
        Layout(_lists("Search results", figures.searches, "bold blue"), ratio=12),
        Layout(_reviews(figures.reviews), ratio=7),
        Layout(_answers(figures.answers), ratio=9),
    )
    whole = Layout()
    parts = [Layout(_headline(figures), size=4), body]
    if figures.loop is not None:
        panel = _panel("The learning loop", loop_content(figures.loop))
        parts.insert(1, Layout(panel, size=PANEL_HEIGHT))
    whole.split_column(*parts)
    return whole


def write_svg(figures: LiveFigures, path: Path, *, title: str = "shopstream demo") -> None:
    """Write the view as an SVG picture that loads nothing and names no place of this machine."""
    figures = dataclasses.replace(figures, places=("broker, Redis and worker on one machine",))
    console = Console(
        record=True, width=SVG_WIDTH, height=SVG_HEIGHT, file=io.StringIO(), force_terminal=True
    )
    console.print(live_view(figures), height=SVG_HEIGHT)
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    path.write_text(svg, encoding="utf-8")


def progress_line(figures: LiveFigures) -> str:
    """Return the view in one plain line, for what is no terminal."""
    sent = sum(one.sent for one in figures.kinds)
    answered = sum(one.answered for one in figures.kinds)
    batch = "–" if figures.events_per_batch is None else f"{figures.events_per_batch:.1f}"
    return (
        f"{figures.elapsed_s:4.0f} s: {figures.events_per_s:.1f} events/s, {sent} sent, "
        f"{answered} answered, {figures.waiting} waiting, p50 {_ms(figures.p50_ms)}, "
        f"p99 {_ms(figures.p99_ms)}, {batch} events a batch, "
        f"{sum(figures.dead_letters.values())} dead letters"
    )


def trend(values: Sequence[float], width: int = TREND_SECONDS) -> str:
    """Return the newest values as a row of bars, the highest one full."""
    newest = list(values)[-width:]
    top = max(newest, default=0.0)
    if top <= 0:
        return _BARS[0] * len(newest)
    return "".join(_BARS[min(7, int(value / top * 7.999))] for value in newest)


def _headline(figures: LiveFigures) -> RenderableType:
    time = _clock(figures.elapsed_s)
    if figures.limit_s is not None:
        time += f" of {_clock(figures.limit_s)}"
    line = Table.grid(expand=True, padding=(0, 2))
    for _ in range(4):
        line.add_column(no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    batch = "–" if figures.events_per_batch is None else f"{figures.events_per_batch:.1f}"
    line.add_row(
        Text.assemble((f"{figures.events_per_s:.0f}", "bold green"), " events/s"),
        Text.assemble(
            "event → Redis  p50 ",
            (_ms(figures.p50_ms), "bold green"),
            "  p99 ",
            (_ms(figures.p99_ms), "bold green"),
        ),
        Text.assemble((batch, "bold green"), " events a batch"),
        Text.assemble((str(figures.waiting), "bold green"), " waiting"),
        Text(time, style="dim"),
    )
    places = Text(" · ".join(figures.places), style="dim", no_wrap=True, overflow="ellipsis")
    return Panel(
        Group(line, places),
        title=Text(f" {figures.heading} ", style=f"bold {_ACCENT}"),
        title_align="left",
        border_style=_ACCENT,
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _left(figures: LiveFigures) -> RenderableType:
    kinds = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    kinds.add_column("events")
    for name in ("sent", "answered", "p50 ms", "p99 ms"):
        kinds.add_column(name, justify="right")
    for one in figures.kinds:
        whole = one.sent == one.answered
        kinds.add_row(
            one.kind,
            str(one.sent),
            Text(str(one.answered), style="green" if whole else ""),
            _number(one.p50_ms),
            _number(one.p99_ms),
        )
    facts = Table.grid(expand=True, padding=(0, 1, 0, 0))
    facts.add_column(style="dim", width=13)
    facts.add_column(ratio=1)
    facts.add_row("batches", f"{figures.batches}, largest {figures.largest_batch} events")
    facts.add_row("samples", _counts(figures.samples))
    facts.add_row("dead letters", _counts(figures.dead_letters))
    facts.add_row("", Text(figures.last_dead_letter, style="red"))
    parts: list[RenderableType] = [
        kinds,
        Text(),
        _trend_line("events/s", figures.events_trend, "green"),
        _trend_line("p99 ms", figures.p99_trend_ms, "yellow"),
        Text(),
        facts,
    ]
    if figures.scores:
        scores = Table.grid(expand=True)
        scores.add_column(ratio=1)
        scores.add_column(justify="right")
        for name, value in figures.scores.items():
            scores.add_row(name, Text(f"{value:.0%}", style="bold green"))
        parts += [Text(), Text("against what the simulation knows", style="dim"), scores]
    parts += [Text()] + [Text(note, style="italic") for note in figures.notes]
    return _panel("The stream", Group(*parts))


def _trend_line(name: str, values: Sequence[float], style: str) -> Text:
    newest = f" {values[-1]:.0f}" if values else ""
    return Text.assemble((f"{name:<9}", "dim"), (trend(values, 24), style), newest, no_wrap=True)


def _lists(title: str, lists: Sequence[ShownList], style: str) -> RenderableType:
    parts: list[RenderableType] = []
    for one in lists:
        parts.append(Text(one.heading, style=style, no_wrap=True, overflow="ellipsis"))
        if not one.items:
            parts.append(Text("  nothing found", style="dim"))
        table = Table.grid(expand=True, padding=(0, 1, 0, 0))
        table.add_column(width=3, justify="right", style="dim")
        table.add_column(ratio=5, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=4, no_wrap=True, overflow="ellipsis", style="dim italic")
        for place, item in enumerate(one.items[:ITEMS_SHOWN], 1):
            table.add_row(str(place), Text(item.title), Text(item.reason))
        parts.append(table)
    return _panel(title, Group(*parts))


def _reviews(reviews: Sequence[ShownReview]) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=14, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for one in reviews:
        style = _SENTIMENT_STYLES.get(one.sentiment, "")
        tag = Text(f"{one.sentiment} {one.confidence:.0%}", style=style)
        text = Text(one.text)
        if one.meant is not None and one.meant != one.sentiment:
            text = Text.assemble((f"(meant {one.meant}) ", "dim italic"), one.text)
        table.add_row(tag, text)
    return _panel("Reviews", table)


def _answers(answers: Sequence[ShownAnswer]) -> RenderableType:
    lines: list[Text] = []
    for one in answers:
        lines.append(Text(f"? {one.question}", style="bold", no_wrap=True, overflow="ellipsis"))
        if one.answer is None:
            answer = Text("  no answer found", style="dim")
        else:
            answer = Text.assemble(
                "  ", (one.answer, "green"), (f"  {one.source}, {one.confidence:.0%}", "dim")
            )
        answer.no_wrap, answer.overflow = True, "ellipsis"
        lines.append(answer)
    return _panel("Questions", Group(*lines))


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(
        content,
        title=Text(f" {title} ", style="bold"),
        title_align="left",
        border_style="bright_black",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
