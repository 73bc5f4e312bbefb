"""What is in flight, and the contiguous watermark of every partition.

The books of one assignment: a deque of chunks a partition, in offset order. A finished batch lowers
the remainders of its chunks; finished heads are popped; the offset that may be committed is that of
the head's first unfinished record, for a chunk's records are finished in their order. So an offset
is never committed before all events in front of it are finished, in whatever order chunks end. Gaps
in the offsets (compaction, transactions) need no care: a chunk ends at the offset after its last
record.

A new assignment is a new epoch. Chunks of an older one are stale: they finish without effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from worker.stream.chunk import Chunk, TopicPartition
from worker.stream.faults import OffsetsOutOfOrder


@dataclass(slots=True)
class _Partition:
    """Books of one partition: `watermark` may be committed, `expected` is the next to come."""

    watermark: int
    committed: int
    expected: int
    chunks: deque[Chunk] = field(default_factory=deque)


class Watermarks:
    """The chunks in flight of the partitions that this worker holds. Not thread-safe: loop only.

    `on_freed` is called whenever fewer events are in flight than before.
    """

    def __init__(self, on_freed: Callable[[], None]) -> None:
        self._on_freed = on_freed
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._epoch = 0
        self._in_flight = 0
        self._finished_total = 0
        self._skipped_offsets = 0

    @property
    def epoch(self) -> int:
        """The number of the present assignment; every reset raises it."""
        return self._epoch

    @property
    def in_flight(self) -> int:
        """Events of the present epoch that were opened and not finished."""
        return self._in_flight

    @property
    def finished_total(self) -> int:
        """Events finished since the start of the process; it stands still when nothing moves."""
        return self._finished_total

    @property
    def skipped_offsets(self) -> int:
        """Offsets that no record had: compaction, transactions, or retention passed a commit."""
        return self._skipped_offsets

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions of the present epoch."""
        return frozenset(self._partitions)

    def reset(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begin a new epoch whose partitions stand at `positions`; what was in flight is forgotten.

        An empty mapping ends the epoch without a new assignment.
        """
        self._epoch += 1
        self._in_flight = 0
        self._partitions = {
            TopicPartition(*partition): _Partition(position, position, position)
            for partition, position in positions.items()
        }
        self._on_freed()

    def open_chunk(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> Chunk:
        """Enter a partition's next records, which stand in offset order, as a chunk in flight.

        Raises OffsetsOutOfOrder when they begin before the offset that was to come: positions were
        moved behind the books' back.
        """
        books = self._partitions[partition]
        first = records[0].offset
        if first < books.expected:
            raise OffsetsOutOfOrder(
                f"{partition.topic}[{partition.partition}] delivered offset {first} again, "
                f"{books.expected} was to come. The worker stops; a restart goes on from commits."
            )
        self._skipped_offsets += first - books.expected
        next_offset = records[-1].offset + 1
        chunk = Chunk(
            partition, records, self._epoch, next_offset, len(records), self._finish, self.is_stale
        )
        books.chunks.append(chunk)
        books.expected = next_offset
        self._in_flight += len(records)
        return chunk

    def is_stale(self, chunk: Chunk) -> bool:
        """Return whether the chunk belongs to an earlier epoch."""
        return chunk.epoch != self._epoch

    def _finish(self, chunk: Chunk, count: int) -> None:
        if count < 0 or count > chunk.remaining:
            raise ValueError(f"{count} records finished of a chunk with {chunk.remaining} left")
        chunk.remaining -= count
        if self.is_stale(chunk):
            return
        self._in_flight -= count
        self._finished_total += count
        books = self._partitions[chunk.partition]
        while books.chunks and not books.chunks[0].remaining:
            books.watermark = books.chunks.popleft().next_offset
        if books.chunks:
            head = books.chunks[0]
            done = len(head.records) - head.remaining
            if done:
                books.watermark = head.records[done].offset
        self._on_freed()

    def committable(self) -> dict[TopicPartition, int]:
        """Return the watermarks that passed their partition's last commit."""
        return {
            partition: books.watermark
            for partition, books in self._partitions.items()
            if books.watermark > books.committed
        }

    def note_committed(self, epoch: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Note offsets that the broker confirmed, unless their epoch is over."""
        if epoch != self._epoch:
            return
        for partition, offset in offsets.items():
            books = self._partitions[partition]
            books.committed = max(books.committed, offset)
