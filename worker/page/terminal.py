"""Where a running demo speaks: a live view on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from worker.page.live_figures import LiveFigures
from worker.page.live_view import live_view, progress_line
from worker.page.loop_panel import loop_line

LINE_EVERY_S = 5.0
REFRESH_PER_SECOND = 4.0
KEPT_HEIGHT = 42


class Terminal:
    """Speaks on standard error, so that standard output stays for the result.

    The live view takes the whole screen and leaves its last picture in the scroll-back.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self.figures = LiveFigures()
        self._console = Console(stderr=True, highlight=False)
        self._plain = plain or not self._console.is_terminal
        self._live: Live | None = None
        self._line_s = 0.0

    def say(self, line: str) -> None:
        """Print a line; ends the live view."""
        self._end_view()
        self._print(line)

    def show(self, figures: LiveFigures) -> None:
        """Show a snapshot: at once on a terminal, as a line now and then elsewhere."""
        self.figures = figures
        if self._plain:
            if time.monotonic() - self._line_s >= LINE_EVERY_S:
                self._line_s = time.monotonic()
                self._print(progress_line(figures))
                if figures.loop is not None:
                    self._print(loop_line(figures.loop))
        elif self._live is None:
            # refreshed by a thread of its own: drawing must not delay what is measured
            self._live = Live(
                get_renderable=self._view,
                console=self._console,
                screen=True,
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self._live.start()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def _view(self) -> RenderableType:
        return live_view(self.figures)

    def _end_view(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._view(), height=min(KEPT_HEIGHT, self._console.height - 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_view()
