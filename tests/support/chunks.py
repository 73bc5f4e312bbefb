"""Kafka records and chunks made by hand, and a book of what was finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from worker.stream.chunk import Chunk, TopicPartition


def record(
    partition: TopicPartition,
    offset: int,
    value: bytes | None,
    *,
    key: bytes | None = None,
    timestamp_ms: int = 1_700_000_000_000,
) -> ConsumerRecord:
    """Return a record as aiokafka would hand it over."""
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=timestamp_ms,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=(),
    )


@dataclass
class Books:
    """Makes chunks and notes how many of each one's records were finished, and in which order."""

    finished: list[tuple[TopicPartition, int]] = field(default_factory=list)
    stale_epochs: set[int] = field(default_factory=set)
    chunks: list[Chunk] = field(default_factory=list)

    def chunk(self, records: Sequence[ConsumerRecord], epoch: int = 1) -> Chunk:
        """Return a chunk of these records (of one partition)."""
        first, last = records[0], records[-1]
        chunk = Chunk(
            partition=TopicPartition(first.topic, first.partition),
            records=records,
            epoch=epoch,
            next_offset=last.offset + 1,
            remaining=len(records),
            on_finish=self._finish,
            is_stale=lambda chunk: chunk.epoch in self.stale_epochs,
        )
        self.chunks.append(chunk)
        return chunk

    @property
    def finished_total(self) -> int:
        """Events finished, all chunks together."""
        return sum(count for _, count in self.finished)

    def all_finished(self) -> bool:
        """Whether every record of every chunk is finished."""
        return all(chunk.remaining == 0 for chunk in self.chunks)

    def _finish(self, chunk: Chunk, count: int) -> None:
        if count > chunk.remaining:
            raise ValueError(f"{count} finished of {chunk.remaining}")
        chunk.remaining -= count
        self.finished.append((chunk.partition, count))


def partitions_of(records: Iterable[ConsumerRecord]) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Return records by partition, in the order given."""
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    for one in records:
        found.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
    return found
