"""The seam between the consumer side and the batching side of the stream.

The consumer side (this side of `ChunkHandler`) fetches records, bounds the events in flight,
watches rebalances and commits offsets. The batching side turns chunks into batches, runs them
through the pipeline, and says with `Chunk.finish` what is confirmed. `lifecycle.run_worker` joins
the two: it enters the context that the handler's factory returns, starts the Faust app, and on the
way out drains, commits, stops the app and only then leaves the handler's context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from aiokafka import ConsumerRecord


class TopicPartition(NamedTuple):
    """A partition's name (equal to Faust's `TP`)."""

    topic: str
    partition: int


def _never_stale(chunk: Chunk) -> bool:
    return False


@dataclass(slots=True, eq=False)
class Chunk:
    """Records of one partition; never a Faust `Event`, so the stream passes it on as it is.

    `epoch` is the assignment it belongs to: a chunk of an older epoch is dropped before the model
    and moves no watermark. Call `finish(n)` when its next n records, in offset order, are
    confirmed; chunks may finish in any order.
    """

    partition: TopicPartition
    records: Sequence[ConsumerRecord]
    epoch: int
    next_offset: int
    remaining: int
    on_finish: Callable[[Chunk, int], None]
    is_stale: Callable[[Chunk], bool] = _never_stale

    @property
    def stale(self) -> bool:
        """True when its partition was taken away since: do not start it; another worker will."""
        return self.is_stale(self)

    def finish(self, count: int) -> None:
        """Say that the next `count` records of this chunk are done: results, messages confirmed.

        Call it on the event loop. It lowers the partition's watermark and gives the credit of
        `count` events back; on a stale chunk it does nothing. Raises ValueError when more records
        are finished than the chunk holds.
        """
        self.on_finish(self, count)


class ChunkHandler(Protocol):
    """What the consumer side asks of the batching side. All calls come from the event loop.

    A fault that is not an event's own must not be swallowed: raise it from `accept`, or report it
    with `WorkerControl.fail`. The worker then stops without waiting for the handler.
    """

    def accept(self, chunk: Chunk) -> None:
        """Take a chunk; never blocks (the consumer's credit bounds the events in flight).

        Chunks of one partition come in offset order.
        """
        ...

    def drop_unstarted(self) -> int:
        """Forget all that no batch has taken yet; return how many events that were.

        Called when partitions are taken away and at a stop. Do not `finish` what is dropped: all
        credit returns by itself when the epoch changes.
        """
        ...

    async def wait_idle(self) -> None:
        """Return when no batch is in flight (the one being gathered counts).

        May be cancelled: the consumer side waits at most `drain_timeout_s` at a rebalance and half
        of `shutdown_timeout_s` at a stop. A batch that ends later still writes its results; its
        `finish` calls move nothing.
        """
        ...

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Note which partitions this worker holds now; chunks of them follow."""
        return None

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Note that these partitions were given back, after the drain and the commit."""
        return None


class WorkerControl(Protocol):
    """What the batching side may ask of the worker's life."""

    def fail(self, exc: BaseException) -> None:
        """Report a fault that ends the worker with status 1; from any thread, the first counts."""
        ...

    def spawn(self, coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a background task whose exception ends the worker (a bare task's would be lost)."""
        ...


HandlerFactory = Callable[[WorkerControl], AbstractAsyncContextManager[ChunkHandler]]
"""Builds the batching side: loads models and opens clients on entering, closes them on leaving."""
