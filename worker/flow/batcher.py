"""The batcher: the one owner of the events that wait for a batch, and of the rule when one goes.

Work-conserving: a free device takes what waits at once; while it is busy the next batch grows to
its budget. A batch is formed before the device is free only when a full budget waits (it could not
grow any more), so that its state can be read meanwhile.

Partitions share a batch fairly: each gives one event a turn until the budget is full, and the next
batch begins with the partition whose turn it was. Inside a batch events stand by topic, partition
and offset, whatever their turns were; the batch record then names each partition once.

After the queue of text-embeddings-inference (`core/src/queue.rs`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import TakenEvent
from worker.stream.chunk import Chunk, TopicPartition


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that waits for its batch, with what it owes: its chunk and its clocks."""

    taken: TakenEvent
    chunk: Chunk
    timestamp_ms: int  # of the Kafka record; -1: it has none
    cost_tokens: int  # `taken.token_count`, counted once
    queued_at_s: float  # on the batcher's clock


class Batcher:
    """Waiting events by partition. One thread uses it: the event loop's."""

    def __init__(
        self,
        *,
        max_tokens: int,
        max_events: int,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_tokens < 1 or max_events < 1:
            raise ValueError("a batch needs a budget of at least one token and one event")
        self._max_tokens = max_tokens
        self._max_events = max_events
        self._metrics = metrics
        self._clock = clock
        # In the order of their next turn; a partition without events is not in it.
        self._queues: dict[TopicPartition, deque[QueuedEvent]] = {}
        self.waiting_events = 0
        self.waiting_tokens = 0

    @property
    def is_full(self) -> bool:
        """Whether a full budget waits."""
        return self.waiting_events >= self._max_events or self.waiting_tokens >= self._max_tokens

    def append(self, chunk: Chunk, events: Sequence[tuple[TakenEvent, int]]) -> None:
        """Queue a chunk's next events in offset order, each with its record's timestamp in ms.

        Events of a chunk whose partition was taken away are dropped.
        """
        if not events or chunk.stale:
            return
        queue = self._queues.setdefault(chunk.partition, deque())
        now_s = self._clock()
        for taken, timestamp_ms in events:
            cost = taken.token_count
            queue.append(QueuedEvent(taken, chunk, timestamp_ms, cost, now_s))
            self.waiting_tokens += cost
        self.waiting_events += len(events)

    def take(self, *, device_is_busy: bool) -> list[QueuedEvent]:
        """Return the next batch, or nothing when none may go now.

        At most `max_events` events and `max_tokens` tokens; an event beyond that budget goes alone.
        """
        if not self.waiting_events or (device_is_busy and not self.is_full):
            return []
        shares, tokens = self._share_out()
        batch = [event for _, share in sorted(shares.items()) for event in share]
        self.waiting_events -= len(batch)
        self.waiting_tokens -= tokens
        self._record(batch, tokens)
        return batch

    def drop_unstarted(self) -> int:
        """Forget everything that waits and return how many events that were."""
        dropped = self.waiting_events
        self._queues.clear()
        self.waiting_events = 0
        self.waiting_tokens = 0
        return dropped

    def _share_out(self) -> tuple[dict[TopicPartition, list[QueuedEvent]], int]:
        """Take events in turns until the budget is full; leave the queues in order of next turn."""
        shares: dict[TopicPartition, list[QueuedEvent]] = {}
        turns = deque(self._queues)
        waiting: list[TopicPartition] = []  # their next event did not fit: first in the next batch
        tokens = 0
        count = 0
        while turns and count < self._max_events:
            partition = turns.popleft()
            queue = self._queues[partition]
            cost = queue[0].cost_tokens
            if count and tokens + cost > self._max_tokens:
                waiting.append(partition)
                continue
            shares.setdefault(partition, []).append(queue.popleft())
            tokens += cost
            count += 1
            if queue:
                turns.append(partition)
            else:
                del self._queues[partition]
        self._queues = {partition: self._queues[partition] for partition in [*waiting, *turns]}
        return shares, tokens

    def _record(self, batch: Sequence[QueuedEvent], padded_tokens: int) -> None:
        now_s = self._clock()
        metrics = self._metrics
        metrics.batch_events.observe(len(batch))
        metrics.batch_tokens.observe(padded_tokens)
        if padded_tokens:
            real = sum(tokens.ids.shape[0] for event in batch for tokens in event.taken.tokens)
            metrics.batch_padding_ratio.observe(1 - real / padded_tokens)
        # The longest wait of each batch: one figure a batch, and the one that hurts.
        metrics.queue_wait_seconds.observe(now_s - min(event.queued_at_s for event in batch))
