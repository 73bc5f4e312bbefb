"""Watches a worker from outside: results in Redis; batches, samples and dead letters in Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from worker.embedded.demo.ledger import ANSWERED_BY, Ledger, SentEvent
from worker.embedded.demo.showcase import Showcase
from worker.settings import Settings
from worker.store.connection import RedisAddress
from worker.store.keys import Keys
from worker.topics.client import client_options
from worker.topics.layout import TopicLayout
from worker.topics.sample_set import SampleSet

READ_EVERY_S = 0.1
RECENT_BATCHES = 200


class Observer:
    """Feeds ledger and showcase while it is entered; `check` raises what went wrong in it."""

    def __init__(self, settings: Settings, ledger: Ledger, showcase: Showcase) -> None:
        self.batch_count = 0
        self.batch_events = 0
        self.largest_batch = 0
        self.recent_batches: deque[int] = deque(maxlen=RECENT_BATCHES)
        self.samples: Counter[str] = Counter()
        self.last_dead_letter = ""
        self.release = ""
        self.first_batch_s: dict[str, float] = {}  # release -> when it was first seen to serve
        self._review_samples = SampleSet()
        self._review_count: int | None = 0  # None: to be counted anew
        self._settings = settings
        self._ledger = ledger
        self._showcase = showcase
        self._layout = TopicLayout.from_settings(settings)
        self._keys = Keys(settings.redis_key_prefix)
        self._channels = f"{settings.redis_key_prefix}:written:"
        self._redis: Any = RedisAddress.from_settings(settings).async_client()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Subscribe; what happens from here on is seen. The internal topics must stand."""
        self._stack.push_async_callback(self._redis.aclose)
        pubsub = await self._stack.enter_async_context(self._redis.pubsub())
        await pubsub.psubscribe(self._channels + "*")
        await pubsub.get_message(timeout=self._settings.redis_timeout_s)
        consumer = AIOKafkaConsumer(
            self._layout.batches,
            self._layout.samples,
            self._layout.dead_letters,
            **client_options(self._settings),
            auto_offset_reset="earliest",
        )
        self._stack.push_async_callback(consumer.stop)
        await consumer.start()
        for work in (self._listen(pubsub), self._read_on(), self._follow(consumer)):
            self._tasks.append(asyncio.create_task(work))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def check(self) -> None:
        """Raise the error that ended one of the observer's tasks."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def forget_batches(self) -> None:
        """Count batches anew from here on."""
        self.batch_count = self.batch_events = self.largest_batch = 0
        self.recent_batches.clear()

    def review_count(self) -> int:
        """Return how many reviews with stars a retraining job would find."""
        if self._review_count is None:
            self._review_count = sum(1 for _ in self._review_samples.kept())
        return self._review_count

    async def read_all(self) -> None:
        """Look up every event that waits, published or not: the last look at the end."""
        await self._read([*self._ledger.take_written(), *self._ledger.waiting()])

    # --- Redis

    async def _listen(self, pubsub: Any) -> None:
        async for message in pubsub.listen():
            now_s = time.monotonic()
            if message["type"] != "pmessage":
                continue
            channel = message["channel"].decode().removeprefix(self._channels)
            family, _, id = channel.partition(":")
            self._ledger.note_written((family, id), message["data"].decode(), now_s)

    async def _read_on(self) -> None:
        while True:
            await self._read([*self._ledger.take_written(), *self._ledger.unpublished()])
            await asyncio.sleep(READ_EVERY_S)

    async def _read(self, events: Sequence[SentEvent]) -> None:
        for start in range(0, len(events), 500):
            part = events[start : start + 500]
            values = await self._redis.mget([self._keys.key(*sent.place) for sent in part])
            for sent, value in zip(part, values, strict=True):
                self._take(sent, value)

    def _take(self, sent: SentEvent, value: bytes | None) -> None:
        family, id = sent.place
        if family == "forgotten":
            version = None if value is None else value.decode()
            if self._ledger.note_read(sent, version) and version is not None:
                self._ledger.note_forgotten(id, version)
            return
        result: Mapping[str, Any] = {} if value is None else orjson.loads(value)
        answers = self._ledger.note_read(sent, result.get("version"))
        if answers and family == ANSWERED_BY[sent.event.kind] and family != "product":
            self._showcase.take(sent.event, result, time.monotonic())

    # --- Kafka

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            self._take_record(record)

    def _take_record(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        content = orjson.loads(record.value)
        if record.topic == self._layout.batches:
            size = sum(run["count"] for run in content["runs"])
            self.batch_count += 1
            self.batch_events += size
            self.largest_batch = max(self.largest_batch, size)
            self.recent_batches.append(size)
            self.release = content["release"]
            self.first_batch_s.setdefault(self.release, time.monotonic())
        elif record.topic == self._layout.samples:
            self.samples[content["kind"]] += 1
            if content["kind"] in ("review", "forget"):
                self._review_samples.add(record.value)
                self._review_count = None
        else:
            position = (content["topic"], content["partition"], content["offset"])
            self._ledger.note_dead_letter(position, content["code"])
            self.last_dead_letter = content["reason"]
