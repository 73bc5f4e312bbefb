"""The learning loop in the live view: how far it is, and quality before and after."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.metrics import Estimate
from worker.page.loop_figures import LoopFigures, LoopStep, ServedQuality

PANEL_HEIGHT = 6
_MARKS = {"done": "✓", "now": "▸", "todo": "·", "failed": "✗"}
_STYLES = {"done": "green", "now": "bold yellow", "todo": "dim", "failed": "bold red"}
_ROW_STYLES = {"after": "bold green"}
_BAR_WIDTH, _QUALITY_ROWS = 20, 2
_EIGHTHS = " ▏▎▍▌▋▊▉"


def loop_content(loop: LoopFigures) -> RenderableType:
    """Return the panel's four lines."""
    steps = Text("  ").join(_step(one) for one in loop.steps)
    if loop.note:
        steps.append(f"  {loop.note}", style="dim")
    steps.no_wrap, steps.overflow = True, "ellipsis"
    gate = Text(f"gate: {loop.gate}" if loop.gate else "", no_wrap=True, overflow="ellipsis")
    return Group(steps, _quality(loop), gate)


def loop_line(loop: LoopFigures) -> str:
    """Return the panel in one plain line, for what is no terminal."""
    steps = " ".join(f"{_MARKS[one.state]} {one.text}" for one in loop.steps)
    shares = [f"{one.name} {_share(one.right)}" for one in loop.quality]
    quality = f"review tags right {', '.join(shares)}" if shares else ""
    gate = f"gate: {loop.gate}" if loop.gate else ""
    return "        loop: " + "; ".join(filter(None, (steps, quality, gate, loop.note)))


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """Return a share, 0 to 1, as a bar of at most `width` signs."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _step(step: LoopStep) -> Text:
    return Text(f"{_MARKS[step.state]} {step.text}", style=_STYLES[step.state])


def _quality(loop: LoopFigures) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for width in (17, 6, _BAR_WIDTH, 4):
        table.add_column(width=width, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for place in range(_QUALITY_ROWS):
        title = "review tags right" if place == 0 and loop.quality else ""
        cells = _cells(loop.quality[place]) if place < len(loop.quality) else ()
        table.add_row(title, *cells)
    return table


def _cells(row: ServedQuality) -> tuple[Text, ...]:
    style = _ROW_STYLES.get(row.name, "")
    details = Text(f"{_interval(row.right)}  {row.release}", style="dim")
    texts = (row.name, bar(row.right.value), f"{row.right.value:.0%}")
    return (*(Text(text, style=style) for text in texts), details)


def _share(right: Estimate) -> str:
    return f"{right.value:.0%} {_interval(right)}"


def _interval(right: Estimate) -> str:
    return f"[{right.low:.0%}, {right.high:.0%}] of {right.cases}"
