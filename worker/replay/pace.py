"""How fast a replay goes: as fast as it can, or at a multiple of real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Waits until an event's turn; `speed` 0: never."""

    def __init__(self, speed: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._clock = clock
        self._first: tuple[float, int] | None = None  # (clock, ms of the first event)
        self.behind_s = 0.0  # the most a replay lagged behind its pace

    @property
    def keeps_time(self) -> bool:
        """Whether events have a turn to wait for."""
        return self._speed > 0

    async def wait(self, at_ms: int) -> None:
        """Return when what happened at `at_ms` (ms since 1970) is due."""
        if not self._speed or at_ms < 0:
            return
        if self._first is None:
            self._first = (self._clock(), at_ms)
        began_s, first_ms = self._first
        left_s = began_s + (at_ms - first_ms) / 1000 / self._speed - self._clock()
        if left_s > 0:
            await asyncio.sleep(left_s)
        else:
            self.behind_s = max(self.behind_s, -left_s)
