"""A chunk handler that holds chunks until a test says so."""

from __future__ import annotations

import asyncio

from worker.stream.chunk import Chunk, ChunkHandler, TopicPartition


class HoldingHandler(ChunkHandler):
    """`begin` makes what is held a batch in flight, `end` finishes it."""

    def __init__(self) -> None:
        self.held: list[Chunk] = []
        self.told: list[tuple[str, frozenset[TopicPartition]]] = []
        self._running: list[Chunk] = []
        self._idle = asyncio.Event()
        self._idle.set()

    def accept(self, chunk: Chunk) -> None:
        self.held.append(chunk)

    def drop_unstarted(self) -> int:
        dropped = sum(chunk.remaining for chunk in self.held)
        self.held.clear()
        return dropped

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("assigned", partitions))

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("revoked", partitions))

    def begin(self) -> None:
        """Start a batch of all that is held."""
        self._running, self.held = self.held, []
        self._idle.clear()

    def end(self) -> None:
        """Finish the batch."""
        for chunk in self._running:
            chunk.finish(chunk.remaining)
        self._running = []
        self._idle.set()
