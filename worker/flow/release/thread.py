"""A thread for work that live events must not feel: loading and trying a release."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_NICENESS = 10
# While the thread runs Python it hands the interpreter over this often: what a live event waits
# for it each time. The interpreter's own 5 ms would add up over a batch's steps.
_SWITCH_INTERVAL_S = 0.0005


class BackgroundThread:
    """One thread of low priority, and of those that its work starts."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_lower_priority)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what the work returns."""
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            sys.setswitchinterval(interval_s)

    def close(self) -> None:
        """Let the thread go once its call returns."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _lower_priority() -> None:
    try:  # on Linux niceness is a thread's own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    except (AttributeError, OSError) as error:
        logger.debug("The background thread keeps the usual priority: %s", error)
