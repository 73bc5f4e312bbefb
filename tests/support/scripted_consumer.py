"""Stand-ins for the two sides of the consumer thread: fetches by script, and a scripted broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from types import SimpleNamespace

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.structs import OffsetAndMetadata

from worker.stream.consumer_thread import Fetch, Seek


class ScriptedThread:
    """In place of `RecordThread`: gives the fetches it was told, then nothing."""

    def __init__(self, fetches: Iterable[Fetch] = (), seek: Seek | None = None) -> None:
        self.serial = 0
        self.fetches = deque(fetches)
        self.asked: list[tuple[frozenset[tuple[str, int]], int]] = []
        self.commits: list[dict[tuple[str, int], int]] = []
        self.accepts_commits = True
        self.under_way = 0
        self.most_under_way = 0
        self.next_seek = seek

    async def fetch(
        self, partitions: frozenset[tuple[str, int]], *, timeout_s: float, max_records: int
    ) -> Fetch:
        self.asked.append((partitions, max_records))
        await asyncio.sleep(0)
        return self.fetches.popleft() if self.fetches else Fetch(self.serial, 0, {})

    async def seek_all(self) -> Seek:
        assert self.next_seek is not None
        self.serial = self.next_seek.serial
        return self.next_seek

    async def commit(self, offsets: Mapping[tuple[str, int], int]) -> bool:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.commits.append(dict(offsets))
        await asyncio.sleep(0.01)
        self.under_way -= 1
        return self.accepts_commits


class ScriptedBroker:
    """In place of `AIOKafkaConsumer`, inside the thread: an assignment, commits, log ends."""

    def __init__(
        self,
        assigned: Iterable[KafkaPartition],
        *,
        commits: Mapping[KafkaPartition, int],
        ends: Mapping[KafkaPartition, int],
        generation: int = 1,
    ) -> None:
        self.commits = dict(commits)
        self.seeks: dict[KafkaPartition, int] = {}
        self.answer = asyncio.Event()  # commits are answered only once it is set
        self.answer.set()
        self.assignment_now = SimpleNamespace(tps=frozenset(assigned), active=True)
        self._ends = ends
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(assignment=self.assignment_now)
        )
        self._coordinator = SimpleNamespace(
            generation=generation, fetch_committed_offsets=self._fetch_commits
        )

    async def _fetch_commits(
        self, partitions: list[KafkaPartition]
    ) -> dict[KafkaPartition, OffsetAndMetadata]:
        await self.answer.wait()
        return {
            name: OffsetAndMetadata(self.commits[name], "")
            for name in partitions
            if name in self.commits
        }

    async def beginning_offsets(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Iterable[KafkaPartition]) -> dict[KafkaPartition, int]:
        return {name: self._ends[name] for name in partitions}

    def assignment(self) -> frozenset[KafkaPartition]:
        return self.assignment_now.tps

    def seek(self, partition: KafkaPartition, offset: int) -> None:
        self.seeks[partition] = offset

    async def commit(self, offsets: Mapping[KafkaPartition, OffsetAndMetadata]) -> None:
        await self.answer.wait()
        self.commits.update({name: meta.offset for name, meta in offsets.items()})
