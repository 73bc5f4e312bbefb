"""The first stage: Kafka records become prepared events, decoded and tokenized, off the event loop.

One thread, so that the events of a partition keep their order without bookkeeping; the tokenizer
spreads a call over the cores by itself. Like the batcher it is work-conserving: while the thread is
busy, records wait, and its next take holds more of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from aiokafka import ConsumerRecord

from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import Event, EventKind
from worker.flow.batcher import Batcher
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import Position, TakenEvent
from worker.stream.chunk import Chunk, TopicPartition

# Records of one take: enough to feed the tokenizer's threads, small enough (a few ms) that the
# first batch of a backlog, and whatever arrives in another partition, need not wait long.
_MAX_RECORDS = 256
# Of one partition in one take, so that a backlog in one leaves room for the others.
_MAX_RECORDS_OF_PARTITION = 64


class Preparing(Protocol):
    """The part of the pipeline this stage calls."""

    def prepare(self, events: Sequence[tuple[Position, Event | InvalidEvent]]) -> list[TakenEvent]:
        """Tokenize the events' own texts; sync, from any thread."""
        ...


class _Slice:
    """Neighbouring records of a chunk."""

    __slots__ = ("chunk", "records")

    def __init__(self, chunk: Chunk, records: Sequence[ConsumerRecord]) -> None:
        self.chunk = chunk
        self.records = records


class Preparation:
    """Takes chunks at once, prepares them in order, appends them to the batcher."""

    def __init__(
        self,
        *,
        pipeline: Preparing,
        kind_of: Callable[[str], EventKind | None],
        limits: EventLimits,
        batcher: Batcher,
        metrics: WorkerMetrics,
    ) -> None:
        self._pipeline = pipeline
        self._kind_of = kind_of
        self._limits = limits
        self._batcher = batcher
        self._seconds = metrics.stage_seconds.labels("prepare")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        # In the order of their next turn; a partition without records is not in it.
        self._queues: dict[TopicPartition, deque[_Slice]] = {}
        self._arrived = asyncio.Event()
        self._generation = 0  # raised by `drop_unstarted`: what is being prepared then is dropped
        self.waiting_events = 0  # records that wait or are being prepared

    def accept(self, chunk: Chunk) -> None:
        """Take a chunk; never blocks."""
        queue = self._queues.setdefault(chunk.partition, deque())
        records = iter(chunk.records)
        while part := tuple(islice(records, _MAX_RECORDS_OF_PARTITION)):
            queue.append(_Slice(chunk, part))
            self.waiting_events += len(part)
        self._arrived.set()

    def drop_unstarted(self) -> int:
        """Forget all that waits or is being prepared; return how many events that were."""
        dropped = self.waiting_events
        self._queues.clear()
        self._generation += 1
        self.waiting_events = 0
        return dropped

    async def run(self, prepared: Callable[[], None]) -> None:
        """Prepare for ever; call `prepared` whenever the batcher has more."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            take = self._take()
            if not take:
                self._arrived.clear()
                continue
            generation = self._generation
            results = await loop.run_in_executor(self._thread, self._prepare, take)
            if generation != self._generation:
                continue
            for part, events in zip(take, results, strict=True):
                self.waiting_events -= len(events)
                self._batcher.append(part.chunk, events)
            prepared()

    def close(self) -> None:
        """Let the thread go once its last call returns."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> list[_Slice]:
        """Return the next slices, a turn each partition, until they hold enough records."""
        take: list[_Slice] = []
        count = 0
        while self._queues and count < _MAX_RECORDS:
            partition, queue = next(iter(self._queues.items()))
            del self._queues[partition]
            part = queue.popleft()
            if queue:
                self._queues[partition] = queue  # now the last in turn
            take.append(part)
            count += len(part.records)
        return take

    def _prepare(self, take: Sequence[_Slice]) -> list[list[tuple[TakenEvent, int]]]:
        """Decode and tokenize one take (in the thread); results stand as the slices do."""
        start_s = time.perf_counter()
        decoded = [self._decode(record) for part in take for record in part.records]
        taken = self._pipeline.prepare(decoded)
        if [event.position for event in taken] != [position for position, _ in decoded]:
            raise RuntimeError("prepare() must return every event it was given, in order")
        pairs = zip(taken, (r.timestamp for part in take for r in part.records), strict=True)
        results = [list(islice(pairs, len(part.records))) for part in take]
        self._seconds.observe(time.perf_counter() - start_s)
        return results

    def _decode(self, record: ConsumerRecord) -> tuple[Position, Event | InvalidEvent]:
        raw = RawRecord(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            record.timestamp,
        )
        position = Position(record.topic, record.partition, record.offset)
        return position, decode_event(self._kind_of(record.topic), raw, self._limits)
