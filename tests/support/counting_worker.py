"""A worker process whose handler counts every event in Redis, for tests of the consumer side.

Run as `python counting_worker.py TOPIC…` with the worker's own settings in the environment. For
every event it adds one to the byte at the event's offset in the Redis string
`<prefix>:counts:<topic>:<partition>`: 0 is lost, 2 or more a duplicate. `COUNTING_*` variables make
it slow, stuck or faulty.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from redis.asyncio import Redis

from worker.settings import Settings
from worker.stream.chunk import Chunk, ChunkHandler, TopicPartition, WorkerControl
from worker.stream.lifecycle import run_worker
from worker.stream.shutdown import leave


@dataclass(frozen=True)
class Behaviour:
    """What the handler does beside counting, from the environment."""

    batch_events: int = field(default_factory=lambda: int(os.environ.get("COUNTING_BATCH", "256")))
    batch_s: float = field(default_factory=lambda: float(os.environ.get("COUNTING_BATCH_S", "0")))
    stuck_s: float = field(default_factory=lambda: float(os.environ.get("COUNTING_STUCK_S", "0")))
    start_s: float = field(default_factory=lambda: float(os.environ.get("COUNTING_START_S", "0")))
    fault: str = field(default_factory=lambda: os.environ.get("COUNTING_FAULT", ""))


class CountingHandler(ChunkHandler):
    """Takes batches of waiting events, in order, and counts them in Redis before they finish."""

    def __init__(
        self, control: WorkerControl, redis: Redis, prefix: str, behaviour: Behaviour
    ) -> None:
        self._control = control
        self._redis = redis
        self._prefix = prefix
        self._behaviour = behaviour
        self._waiting: deque[Chunk] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def accept(self, chunk: Chunk) -> None:
        if self._behaviour.fault == "accept":
            raise RuntimeError("planted fault in accept")
        self._waiting.append(chunk)
        self._more.set()

    def drop_unstarted(self) -> int:
        dropped = sum(chunk.remaining for chunk in self._waiting)
        self._waiting.clear()
        return dropped

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        names = sorted(f"{name.topic}/{name.partition}" for name in partitions)
        print("ASSIGNED", *names, flush=True)  # noqa: T201

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        print("REVOKED", len(partitions), flush=True)  # noqa: T201

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                self._idle.clear()
                await self._work(self._take())
                self._idle.set()

    def _take(self) -> list[Chunk]:
        batch = [self._waiting.popleft()]
        while self._waiting and sum(map(_size, batch)) < self._behaviour.batch_events:
            batch.append(self._waiting.popleft())
        return batch

    async def _work(self, batch: list[Chunk]) -> None:
        print("BATCH", sum(map(_size, batch)), flush=True)  # noqa: T201
        if self._behaviour.fault == "batch":
            raise RuntimeError("planted fault in a batch")
        if self._behaviour.fault == "thread":
            fault = RuntimeError("planted fault in a thread")
            threading.Thread(target=self._control.fail, args=(fault,)).start()
            await asyncio.sleep(3600)
        if self._behaviour.stuck_s:
            await asyncio.to_thread(time.sleep, self._behaviour.stuck_s)
        if self._behaviour.batch_s:
            await asyncio.sleep(self._behaviour.batch_s)
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk in batch:
                topic, partition = chunk.partition
                counts = pipe.bitfield(f"{self._prefix}:counts:{topic}:{partition}", "SAT")
                for record in chunk.records:
                    counts.incrby("u8", f"#{record.offset}", 1)
                pipe.execute_command(*counts.command)
            await pipe.execute()
        for chunk in batch:
            chunk.finish(len(chunk.records))


def _size(chunk: Chunk) -> int:
    return len(chunk.records)


@asynccontextmanager
async def counting(control: WorkerControl, settings: Settings) -> AsyncIterator[CountingHandler]:
    """Start the handler; its start may block for a while in a thread, as models loading does."""
    behaviour = Behaviour()
    print("STARTING", flush=True)  # noqa: T201
    if behaviour.start_s:
        await asyncio.to_thread(time.sleep, behaviour.start_s)
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        handler = CountingHandler(control, redis, settings.redis_key_prefix, behaviour)
        task = control.spawn(handler.run(), name="count")
        yield handler
        task.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            await task


def main() -> None:
    """Run the worker on the topics of the command line."""
    settings = Settings()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    topics = sys.argv[1:]
    leave(run_worker(settings, lambda control: counting(control, settings), topics))


if __name__ == "__main__":
    main()
