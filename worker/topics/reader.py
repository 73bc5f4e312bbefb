"""Bounded reads: a topic from its start to the end that stood when the reading began.

No consumer group takes part, so nobody's commits move.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from worker.settings import Settings
from worker.topics.client import MAX_REQUEST_BYTES, client_options, kafka_errors
from worker.topics.layout import TopicsUnfit, admin_client, partition_counts

# The client itself waits for ever when the brokers go away in the middle of a read.
STALL_TIMEOUT_S = 60.0
Progress = Callable[[int, int], None]  # (records read, records in all as far as offsets tell)


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Where a read begins: at a partition's own offset, at the first record of a time or later."""

    first_offsets: Mapping[int, int] = field(default_factory=dict)  # partition -> offset
    from_ms: int | None = None  # of the records' own times


async def read_topic(
    settings: Settings,
    topic: str,
    progress: Progress | None = None,
    bounds: ReadRange | None = None,
) -> AsyncGenerator[Any]:
    """Yield every record (aiokafka `ConsumerRecord`) that stands in the topic now.

    With `bounds` the read begins there, not at the topic's start.

    Whoever stops before the end closes the generator (`contextlib.aclosing`), or the connection
    stays open. Of several partitions each is in order, and they take turns.

    Raises:
        KafkaUnavailable: the broker cannot be used.
        TopicsUnfit: there is no such topic.
    """
    async with admin_client(settings) as admin:
        count = (await partition_counts(admin)).get(topic, 0)
    if not count:
        raise TopicsUnfit(f"there is no topic {topic}; run `shopstream topics create`")
    partitions = [TopicPartition(topic, number) for number in range(count)]
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=MAX_REQUEST_BYTES,
    )
    async with kafka_errors(settings):
        try:
            await consumer.start()
            async for record in _read(consumer, partitions, progress, bounds or ReadRange()):
                yield record
        finally:
            await _stop(consumer)


async def _stop(consumer: Any) -> None:
    # With the broker gone, the end of the client's own fetch task comes out of stop() and would
    # hide the error that is on its way.
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def _read(
    consumer: Any, partitions: list[TopicPartition], progress: Progress | None, bounds: ReadRange
) -> AsyncGenerator[Any]:
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    starts = await _starts(consumer, partitions, ends, bounds)
    left = {partition for partition in partitions if starts[partition] < ends[partition]}
    for partition in partitions:
        consumer.seek(partition, starts[partition])
    total, done = sum(ends.values()) - sum(starts.values()), 0
    moved_s = time.monotonic()
    while left:
        batches = await consumer.getmany(*left, timeout_ms=500)
        if not batches and time.monotonic() - moved_s > STALL_TIMEOUT_S:
            raise KafkaTimeoutError(
                f"{partitions[0].topic} gave nothing for {STALL_TIMEOUT_S:.0f} s"
            )
        for partition, records in batches.items():
            for record in records:
                if record.offset < ends[partition]:
                    done += 1
                    yield record
            moved_s = time.monotonic()
        for partition in list(left):
            # The position, not the last record: compaction and markers leave offsets without any.
            if await consumer.position(partition) >= ends[partition]:
                left.discard(partition)
        if progress is not None:
            progress(done, total)


async def _starts(
    consumer: Any,
    partitions: list[TopicPartition],
    ends: Mapping[TopicPartition, int],
    bounds: ReadRange,
) -> dict[TopicPartition, int]:
    starts: dict[TopicPartition, int] = dict(await consumer.beginning_offsets(partitions))
    if bounds.from_ms is not None:
        times = await consumer.offsets_for_times(dict.fromkeys(partitions, bounds.from_ms))
        for partition, found in times.items():  # None: every record is older
            starts[partition] = found.offset if found is not None else ends[partition]
    for partition in partitions:
        wanted = bounds.first_offsets.get(partition.partition, 0)
        starts[partition] = min(max(starts[partition], wanted), ends[partition])
    return starts
