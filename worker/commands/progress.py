"""A line of progress on standard error: in place on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

_TERMINAL_EVERY_S = 0.2
_LOG_EVERY_S = 5.0


class ProgressLine:
    """Shows "<done> of <total> <what>, <rate>/s" while it is entered."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._terminal = sys.stderr.isatty()
        self._started_s = self._shown_s = time.monotonic()
        self._last = (0, 0)

    def __enter__(self) -> ProgressLine:
        return self

    def update(self, done: int, total: int) -> None:
        """Say how far the work is; `total` 0: unknown."""
        self._last = (done, total)
        now_s = time.monotonic()
        if now_s - self._shown_s >= (_TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S):
            self._shown_s = now_s
            self._show()

    def _show(self) -> None:
        done, total = self._last
        rate = done / max(time.monotonic() - self._started_s, 1e-9)
        of = f" of {total:,}" if total else ""
        left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
        line = f"{done:,}{of} {self._what}, {rate:,.0f}/s{left}"
        click.echo(f"\r\x1b[K{line}" if self._terminal else line, err=True, nl=not self._terminal)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._last[0]:
            self._show()
            if self._terminal:
                click.echo(err=True)
