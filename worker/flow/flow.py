"""The batching side of the stream: chunks come in, and their events are finished when confirmed.

An event is finished only when its batch's results stand in Redis and Kafka has acknowledged its
messages. An exception in any stage is a fault of the worker, never of an event (those became dead
letters): the flow stops where it is, nothing more is finished, and `WorkerControl.fail` is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

from worker.events.decode import EventLimits, InvalidEvent
from worker.events.event import EventKind
from worker.flow.batcher import Batcher, QueuedEvent
from worker.flow.preparation import Preparation
from worker.flow.stages import BatchPipeline, MessageSender, Stages
from worker.page.metrics import WorkerMetrics
from worker.pipeline.catalogue import Catalogue
from worker.store.contract import StateStore
from worker.stream.chunk import Chunk, TopicPartition

logger = logging.getLogger(__name__)


class Flow:
    """Implements `ChunkHandler`: preparation, batcher and stages under one roof and one fate."""

    def __init__(
        self,
        *,
        process_id: str,
        pipeline: BatchPipeline,
        catalogue: Catalogue,
        store: StateStore,
        outbox: MessageSender,
        kind_of: Callable[[str], EventKind | None],
        limits: EventLimits,
        batch_max_tokens: int,
        batch_max_events: int,
        metrics: WorkerMetrics,
    ) -> None:
        self._metrics = metrics
        self._batcher = Batcher(
            max_tokens=batch_max_tokens, max_events=batch_max_events, metrics=metrics
        )
        self._preparation = Preparation(
            pipeline=pipeline,
            kind_of=kind_of,
            limits=limits,
            batcher=self._batcher,
            metrics=metrics,
        )
        self._stages = Stages(
            process_id=process_id,
            pipeline=pipeline,
            catalogue=catalogue,
            store=store,
            outbox=outbox,
            batcher=self._batcher,
            metrics=metrics,
            finished=self._finish,
        )
        self._batch_ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fail: Callable[[BaseException], None] | None = None
        self.failure: BaseException | None = None
        self.assigned: frozenset[TopicPartition] = frozenset()
        self._is_revoking = False
        self.assignment_listeners: list[Callable[[], None]] = []
        self.moved_at_s = time.monotonic()  # when a batch was finished last, or work began

    # --- ChunkHandler

    def accept(self, chunk: Chunk) -> None:
        """Take a chunk, unless its assignment is over."""
        if chunk.stale or self.failure is not None:
            return
        if self.is_idle:
            self.moved_at_s = time.monotonic()
        self._preparation.accept(chunk)
        self._metrics.events_in_flight.inc(len(chunk.records))

    def drop_unstarted(self) -> int:
        """Forget all that no batch has taken yet; return how many events that were."""
        self._is_revoking = True  # until partitions are assigned again
        dropped = self._preparation.drop_unstarted() + self._batcher.drop_unstarted()
        self._metrics.events_in_flight.dec(dropped)
        self._metrics.events_dropped.inc(dropped)
        return dropped

    async def wait_idle(self) -> None:
        """Return when no batch is in flight; also after a failure, when none will ever finish."""
        while self._stages.in_flight and self.failure is None:
            self._batch_ended.clear()
            await self._batch_ended.wait()

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Note which partitions this worker holds now."""
        self.assigned = partitions
        self._is_revoking = False
        for listener in self.assignment_listeners:
            listener()

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Note that these partitions were given back."""
        self.assigned -= partitions

    def owned(self, topic: str) -> frozenset[int]:
        """Return the partitions of a topic that are surely this worker's; any thread."""
        if self._is_revoking:
            return frozenset()
        return frozenset(one.partition for one in self.assigned if one.topic == topic)

    # --- life

    def start(self, fail: Callable[[BaseException], None]) -> None:
        """Start the stages on the running loop; `fail` is called once, with the first failure."""
        self._fail = fail
        loops = {"prepare": self._preparation.run(self._stages.wake), **self._stages.loops()}
        self._tasks = [
            asyncio.create_task(self._guard(stage, work), name=f"flow-{stage}")
            for stage, work in loops.items()
        ]

    async def stop(self) -> None:
        """End the stages where they stand; what is not finished stays unacknowledged."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._preparation.close()
        self._stages.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is being prepared or is in a batch."""
        return not (
            self._stages.in_flight
            or self._batcher.waiting_events
            or self._preparation.waiting_events
        )

    @property
    def stages(self) -> Stages:
        """The stages, for work that goes between two batches."""
        return self._stages

    async def _guard(self, stage: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:
            self._stop_at(stage, error)

    def _stop_at(self, stage: str, error: Exception) -> None:
        """Keep the first failure, end the other stages, tell `fail`."""
        if self.failure is not None:
            return
        self.failure = error
        logger.error("The stage %r failed, the worker stops: %r", stage, error)
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._batch_ended.set()
        if self._fail is not None:
            self._fail(error)

    def _finish(self, events: Sequence[QueuedEvent]) -> None:
        """Finish a batch's events with their chunks, in the order of the batch."""
        for chunk, count in Counter(event.chunk for event in events).items():
            chunk.finish(count)
        self._metrics.events_in_flight.dec(len(events))
        for (kind, code), count in Counter(_sort_of(event) for event in events).items():
            self._metrics.events.labels(kind, "dead_letter" if code else "processed").inc(count)
            if code:
                self._metrics.dead_letters.labels(code).inc(count)
        self.moved_at_s = time.monotonic()
        self._batch_ended.set()


def _sort_of(queued: QueuedEvent) -> tuple[str, str]:
    """Return the event's kind, and the code of what is wrong with it (empty: nothing)."""
    event = queued.taken.event
    kind = event.kind.value if event.kind is not None else "unknown"
    return kind, event.code if isinstance(event, InvalidEvent) else ""
