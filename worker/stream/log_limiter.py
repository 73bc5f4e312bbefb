"""A brake on aiokafka's log: with the broker down it repeats a line thousands of times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

BURST = 5
WINDOW_S = 10.0
MAX_TEMPLATES = 1_000


class RepeatLimiter(logging.Filter):
    """Lets `burst` records of one message template pass in `window_s`, counts the rest.

    The first record after a window tells how many were left out. Only loggers of `family` are
    limited; attach it to handlers, since a logger's filters do not see its children's records.
    """

    def __init__(
        self,
        family: str,
        burst: int = BURST,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._family = family
        self._burst = burst
        self._window_s = window_s
        self._clock = clock
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes; append the count of those left out before it."""
        if record.name != self._family and not record.name.startswith(f"{self._family}."):
            return True
        key, now = (record.name, str(record.msg)), self._clock()
        began, seen = self._windows.get(key, (now, 0))
        if now - began >= self._window_s:
            left_out = seen - self._burst
            if left_out > 0:
                record.msg = f"{record.msg} (and {left_out} more like it, not logged)"
            began, seen = now, 0
        if len(self._windows) >= MAX_TEMPLATES:
            self._windows.clear()  # messages formatted before they are logged are no templates
        self._windows[key] = (began, seen + 1)
        return seen < self._burst


def limit_repeats(family: str) -> None:
    """Put a limiter for `family` on every handler of the root logger."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(RepeatLimiter(family))
