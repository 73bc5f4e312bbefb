"""The product feed: every worker reads the compacted topic of product vectors and follows it.

A plain consumer without a group, all partitions from the beginning. `load` returns when the end
seen at its start is reached; only then may events be consumed, or first searches find nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition

from models.product_index import IndexedProduct
from worker.flow.vector_fill import Encode, OnThread, fill_vectors
from worker.page.metrics import WorkerMetrics
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.product_vectors import (
    ProductUpdate,
    ProductVectorError,
    decode_product_vector,
)
from worker.settings import Settings
from worker.topics.client import KafkaUnavailable, client_options, kafka_errors

logger = logging.getLogger(__name__)

# What one step decodes and the ranking thread then applies: some ten milliseconds, since a batch
# may wait for it.
_MAX_RECORDS = 500
_PROGRESS_INTERVAL_S = 5.0
# Longest pause of the topic before a step returns empty-handed.
_POLL_TIMEOUT_MS = 1_000


class ProductFeed:
    """Reads product vectors into a catalogue.

    A product that another trunk encoded is encoded again before it is offered, by every trunk that
    has an index: vectors of two trunks cannot be compared.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        topic: str,
        catalogue: Catalogue,
        encode: Encode,
        on_ranking_thread: OnThread,
        metrics: WorkerMetrics,
    ) -> None:
        """Follow `topic`.

        Args:
            encode: encodes products again; it may take its time.
            on_ranking_thread: runs work on the thread that owns the product index.
        """
        self._settings = settings
        self._topic = topic
        self._catalogue = catalogue
        self._encode = encode
        self._on_ranking_thread = on_ranking_thread
        self._metrics = metrics
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[KafkaPartition] = []
        self._position: dict[KafkaPartition, int] = {}
        self._unreadable = 0
        self._encoded_again = 0
        self._between_steps = asyncio.Lock()
        self.ready = False
        self.progress = ""  # of loading, for people

    async def load(self) -> None:
        """Read to the end as it stands now, logging progress.

        Raises:
            KafkaUnavailable: no broker answers, or the topic does not exist.
        """
        await self._connect()
        assert self._consumer is not None
        ends = await self._consumer.end_offsets(self._partitions)
        first = await self._consumer.beginning_offsets(self._partitions)
        total = sum(ends[p] - first[p] for p in self._partitions)
        self._position = dict(first)
        started_s = logged_s = time.monotonic()
        while any(self._position[p] < ends[p] for p in self._partitions):
            await self._step()
            done = sum(min(self._position[p], ends[p]) - first[p] for p in self._partitions)
            self.progress = f"{done} of {total} records read"
            if time.monotonic() - logged_s >= _PROGRESS_INTERVAL_S:
                logged_s = time.monotonic()
                logger.info("Loading products: %s.", self.progress)
        # Also where the topic is empty: the catalogue's position must name every partition.
        await self._offer([])
        for trunk in self._catalogue.trunks:
            self._encoded_again += await fill_vectors(
                self._catalogue, trunk, self._encode, self._on_ranking_thread, self._tell
            )
        self._metrics.product_records.labels("encoded_again").inc(self._encoded_again)
        self.ready = True
        self._log_loaded(time.monotonic() - started_s)

    def _tell(self, done: int, total: int) -> None:
        self.progress = f"{done} of {total} products have vectors of this worker's trunk"

    async def follow(self) -> None:
        """Follow the topic for ever; call it after `load`."""
        while True:
            await self._step()

    async def stop(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=None,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
        )
        self._consumer = consumer
        async with kafka_errors(self._settings):
            await consumer.start()
            # Its partitions are known only after a subscription or this: there is no public call.
            await consumer._client.add_topic(self._topic)
            numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise KafkaUnavailable(
                f"The topic {self._topic!r} does not exist: run `shopstream topics create`."
            )
        self._partitions = [KafkaPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(self._partitions)
        await consumer.seek_to_beginning(*self._partitions)

    def paused(self) -> asyncio.Lock:
        """Return what holds the feed between two steps: nothing is then on its way to the index."""
        return self._between_steps

    async def _step(self) -> None:
        assert self._consumer is not None
        fetched = await self._consumer.getmany(
            timeout_ms=_POLL_TIMEOUT_MS, max_records=_MAX_RECORDS
        )
        records = [record for found in fetched.values() for record in found]
        async with self._between_steps:
            updates = await asyncio.to_thread(self._decode, records) if records else []
            updates = await self._complete(updates)
            before = dict(self._position)
            for partition in self._partitions:
                # Beyond the last record where the newest offsets of a batch were compacted away.
                self._position[partition] = await self._consumer.position(partition)
            if updates or self._position != before:
                await self._offer(updates)

    async def _complete(self, updates: list[ProductUpdate]) -> list[ProductUpdate]:
        """Give every product the vectors of all trunks that have an index.

        Not while loading: a later record of the topic may bring what an earlier one lacks.
        """
        if not self.ready:
            return updates
        for trunk in self._catalogue.trunks:
            lacking = {
                place: update.product
                for place, update in enumerate(updates)
                if isinstance(update.product, IndexedProduct) and update.vector_of(trunk) is None
            }
            if not lacking:
                continue
            if not self._encoded_again:
                logger.info("Products of another text trunk than %s are encoded again.", trunk)
            self._encoded_again += len(lacking)
            self._metrics.product_records.labels("encoded_again").inc(len(lacking))
            vectors = await self._encode(trunk, list(lacking.values()))
            for place, vector in zip(lacking, vectors, strict=True):
                others = {**updates[place].others, trunk: vector}
                updates[place] = replace(updates[place], others=others)
        return updates

    async def _offer(self, updates: Sequence[ProductUpdate]) -> None:
        position = tuple(self._position[partition] for partition in self._partitions)
        self._catalogue.offer(updates, position)
        await self._on_ranking_thread(self._catalogue.apply_pending)
        self._metrics.products.set(len(self._catalogue.index))

    def _decode(self, records: Sequence[ConsumerRecord]) -> list[ProductUpdate]:
        updates: list[ProductUpdate] = []
        widths = self._catalogue.widths
        for record in records:
            try:
                updates.append(decode_product_vector(record.key, record.value, widths))
            except ProductVectorError as error:
                self._metrics.product_records.labels("unreadable").inc()
                self._unreadable += 1
                if self._unreadable == 1:  # the metric counts all
                    reason = f"offset {record.offset}: {error}"
                    logger.warning("Product vectors, first unreadable record: %s", reason)
        self._metrics.product_records.labels("taken").inc(len(updates))
        return updates

    def _log_loaded(self, seconds: float) -> None:
        logger.info(
            "Products are loaded: %d in %.1f s, at %s.",
            len(self._catalogue.index),
            seconds,
            {partition.partition: offset for partition, offset in self._position.items()},
        )
        if self._encoded_again:
            logger.info("%d product vectors did not come by the topic.", self._encoded_again)
