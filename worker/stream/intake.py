"""The intake: between the fetched records and the batching side, bounded in events.

Open while the worker holds partitions; closed from the moment they are taken away until the next
seek. Its credit is `events_in_flight`: what was taken from Kafka and is not finished. A new epoch
gives all credit back, so chunks dropped on the way (cleared channels, `drop_unstarted`, a batch
that outlived its assignment) cannot use it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from worker.stream.chunk import Chunk, ChunkHandler, TopicPartition
from worker.stream.faults import WatermarkStalled
from worker.stream.watermark import Watermarks

logger = logging.getLogger(__name__)

# Fetching for one freed event at a time would cost a thread round trip an event.
CREDIT_STEP = 16

# No batch may take this long; a model or a store that does is stuck, not slow.
STUCK_AFTER_S = 600.0


class Intake:
    """Hands chunks to the handler, counts the credit, and drains at the end of an epoch."""

    def __init__(self, handler: ChunkHandler, events_in_flight: int) -> None:
        self._credit_freed = asyncio.Event()
        self.watermarks = Watermarks(on_freed=self._credit_freed.set)
        self._handler = handler
        self._capacity = events_in_flight
        self._least_credit = max(1, events_in_flight // CREDIT_STEP)
        self._open = False
        self._last_finished = -1
        self._idle_checks = 0
        self._moved_at_s = 0.0

    @property
    def credit(self) -> int:
        """Events that may still be taken."""
        return self._capacity - self.watermarks.in_flight

    async def wait_for_credit(self) -> int:
        """Return the credit once it is worth a fetch (a sixteenth of all of it)."""
        while self.credit < self._least_credit:
            self._credit_freed.clear()
            await self._credit_freed.wait()
        return self.credit

    def open(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begin an epoch: the partitions stand at `positions`; all credit is back."""
        self._handler.drop_unstarted()
        self.watermarks.reset(positions)
        self._open = True
        logger.info("Reading %d partitions.", len(positions))
        self._handler.on_assigned(self.watermarks.partitions)

    def deliver(self, chunk: Chunk) -> None:
        """Hand a chunk that came through its agent to the handler, unless its time is over."""
        if self._open and not chunk.stale:
            self._handler.accept(chunk)

    async def drain(self, timeout_s: float) -> bool:
        """Close, drop what no batch has taken, and wait for the batches in flight.

        Returns False when they were still in flight after `timeout_s`.
        """
        self._open = False
        self._handler.drop_unstarted()
        try:
            async with asyncio.timeout(timeout_s):
                await self._handler.wait_idle()
        except TimeoutError:
            return False
        return True

    def end_epoch(self) -> None:
        """Forget the partitions; what still runs of them finishes without effect."""
        self._open = False
        partitions = self.watermarks.partitions
        self.watermarks.reset({})
        if partitions:
            self._handler.on_revoked(partitions)

    async def check_progress(self, now_s: float) -> None:
        """Raise WatermarkStalled when events are in flight that nobody will finish.

        Call it every few seconds with a monotonic time. Twice in a row idle with events in flight
        and none finished between means that their chunks were lost inside the process.
        """
        books = self.watermarks
        if not books.in_flight or books.finished_total != self._last_finished:
            self._last_finished = books.finished_total
            self._idle_checks = 0
            self._moved_at_s = now_s
            return
        if now_s - self._moved_at_s > STUCK_AFTER_S:
            raise WatermarkStalled(
                f"{books.in_flight} events are in flight and none was finished for "
                f"{STUCK_AFTER_S:.0f} s; the model or the store is stuck. "
                "The worker stops; a restart goes on from its commits."
            )
        self._idle_checks = self._idle_checks + 1 if await self._handler_is_idle() else 0
        if self._idle_checks > 1 and books.finished_total == self._last_finished:
            raise WatermarkStalled(
                f"{books.in_flight} events are in flight but no batch is; their offsets cannot be "
                "committed. The worker stops; a restart goes on from its commits."
            )

    async def _handler_is_idle(self) -> bool:
        try:
            async with asyncio.timeout(0.1):
                await self._handler.wait_idle()
        except TimeoutError:
            return False
        return True
