"""How a worker process ends: signals that ask for it, a deadline that forces it, and the exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

EXIT_CLEAN = 0
EXIT_FAILED = 1
# EX_TEMPFAIL of sysexits.h: the stop was not clean; what was in flight is done again on restart.
EXIT_UNCLEAN = 75
EXIT_INTERRUPTED = 130


class StopSignals:
    """SIGTERM and SIGINT ask for a stop, from before the event loop runs until the process ends.

    Plain signal handlers, not the loop's: they also run while start-up blocks the loop, so the
    deadline counts from the signal. A second SIGINT ends the process at once.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._received: int | None = None

    @property
    def received(self) -> str | None:
        """The name of the first signal, if one came."""
        return None if self._received is None else signal.Signals(self._received).name

    def install(self) -> None:
        """Take over both signals; call it in the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def bind(self) -> asyncio.Event:
        """Return the running loop's event that a signal sets; set already if one came before."""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        if self._received is not None:
            self._event.set()
        return self._event

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if number == signal.SIGINT:
                os._exit(EXIT_INTERRUPTED)
            return
        self._received = number
        self._deadline.start(EXIT_UNCLEAN)
        if self._loop is not None and self._event is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the end is near
                self._loop.call_soon_threadsafe(self._event.set)


class Deadline:
    """Ends the process when a stop takes too long; the first start counts.

    A thread, because what hangs may be the event loop itself: Faust joins the consumer's thread on
    it, and that thread may wait for a broker that is down.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def start(self, status: int) -> None:
        """Let the process end with `status` unless it ends by itself in time."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end, (status,))
            self._timer.daemon = True
            self._timer.start()

    def _end(self, status: int) -> None:
        # No logging: its lock may be held by what hangs.
        line = f"The worker did not stop within {self._seconds:g} s and ends with status {status}."
        with contextlib.suppress(OSError):
            os.write(2, f"{line} Unfinished events will be done again.\n".encode())
        os._exit(status)


def leave(status: int) -> NoReturn:
    """End the process now: the interpreter would join threads that a stuck model holds."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
