"""Topics become a recording: read without a group, to the end that stood when reading began.

A second run into the same folder goes on where the first one's files end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.errors import ShopstreamError
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.files import FileFormat, PartitionWriter, StoredRecord
from worker.replay.recordings.recording import (
    MANIFEST,
    MAX_KEPT_GAPS,
    OffsetGap,
    PartitionFacts,
    Recording,
    RecordingFacts,
    result_settings,
    write_facts,
)
from worker.settings import Settings
from worker.topics.layout import TopicLayout, list_topics
from worker.topics.reader import ReadRange, read_topic

Progress = Callable[[int, int], None]


class NotRecorded(ShopstreamError):
    """Nothing could be recorded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RecordRange:
    """Which events to record: by the records' own time, or by offset; by default all."""

    from_ms: int | None = None
    until_ms: int | None = None
    first_offsets: dict[tuple[str, int], int] = field(default_factory=dict)


async def record(
    settings: Settings,
    folder: Path,
    *,
    chosen: RecordRange | None = None,
    file_format: FileFormat = "parquet",
    progress: Progress | None = None,
) -> RecordingFacts:
    """Record the event topics and what the workers wrote about them; returns what stands there.

    Batch records come first and whole, product vectors whole, so that all that a batch names is in
    the recording. Raises KafkaUnavailable, TopicsUnfit, NotRecorded.
    """
    layout = TopicLayout.from_settings(settings)
    facts = _begin(settings, folder, file_format)
    standing = await list_topics(settings)
    topics = [
        layout.batches, *layout.events, layout.product_vectors, layout.samples
    ]  # fmt: skip
    recorder = _Recorder(folder, facts, progress)
    for topic in topics:
        if standing.get(topic):
            whole = topic not in layout.events
            span = RecordRange() if whole or chosen is None else chosen
            await recorder.take(settings, topic, span)
    facts.created_at = datetime.now(UTC).isoformat(timespec="seconds")
    write_facts(folder, facts)
    if not facts.records:
        raise NotRecorded(
            f"the topics {layout.event_prefix}* and {layout.internal_prefix}* hold nothing in that "
            "range: check SHOPSTREAM_TOPIC_PREFIX, --from and --until"
        )
    return facts


def _begin(settings: Settings, folder: Path, file_format: FileFormat) -> RecordingFacts:
    layout = TopicLayout.from_settings(settings)
    if (folder / MANIFEST).exists():
        facts = Recording.open(folder, Faults()).facts
        if (facts.event_prefix, facts.internal_prefix) != (
            layout.event_prefix,
            layout.internal_prefix,
        ):
            raise NotRecorded(f"{folder} records other topics: choose another folder")
        return facts
    if folder.exists() and any(folder.iterdir()):
        raise NotRecorded(f"{folder} is not empty and no recording: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    facts = RecordingFacts(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        event_prefix=layout.event_prefix,
        internal_prefix=layout.internal_prefix,
        file_format=file_format,
        settings=result_settings(settings),
        source=f"Kafka at {settings.kafka_bootstrap_servers}",
    )
    # Written at once: a run that is cut short can be gone on with.
    write_facts(folder, facts)
    return facts


@dataclass(slots=True)
class _OpenPartition:
    """A partition that is being written: its facts run ahead of those on disk until a flush."""

    writer: PartitionWriter
    facts: PartitionFacts


class _Recorder:
    """Writes one topic after the other; what is on disk can be gone on with at any time."""

    def __init__(self, folder: Path, facts: RecordingFacts, progress: Progress | None) -> None:
        self._folder = folder
        self._facts = facts
        self._progress = progress
        self._done = 0

    async def take(self, settings: Settings, topic: str, span: RecordRange) -> None:
        """Bring one topic into the folder, from where its files end."""
        standing = self._facts.topics.setdefault(topic, {})
        self._drop_unfinished(topic, standing)
        starts = {int(number): known.next for number, known in standing.items()}
        for (name, number), offset in span.first_offsets.items():
            if name == topic:
                starts.setdefault(number, offset)
        bounds = ReadRange(first_offsets=starts, from_ms=span.from_ms)
        begins_later = span.from_ms is not None or bool(span.first_offsets)  # by choice: no gap
        partitions: dict[int, _OpenPartition] = {}
        async with aclosing(read_topic(settings, topic, self._show, bounds)) as records:
            async for one in records:
                if span.until_ms is not None and one.timestamp >= span.until_ms:
                    continue
                partition = partitions.get(one.partition)
                if partition is None:
                    partition = self._open(topic, one.partition, standing)
                    if begins_later and not partition.facts.records:
                        partition.facts.next = one.offset
                    partitions[one.partition] = partition
                self._note(topic, one.partition, partition.facts, one)
                if partition.writer.add(
                    StoredRecord(one.offset, one.timestamp, one.key, one.value)
                ):
                    self._save(standing, one.partition, partition)
                self._done += 1
        for number, partition in partitions.items():
            partition.writer.flush()
            self._save(standing, number, partition)

    def _open(self, topic: str, number: int, standing: dict[str, PartitionFacts]) -> _OpenPartition:
        known = standing.get(str(number)) or PartitionFacts(first=-1, next=0, records=0)
        folder = self._folder / topic / str(number)
        return _OpenPartition(PartitionWriter(folder, self._facts.file_format), known.model_copy())

    def _save(
        self, standing: dict[str, PartitionFacts], number: int, partition: _OpenPartition
    ) -> None:
        standing[str(number)] = partition.facts.model_copy()
        write_facts(self._folder, self._facts)

    def _drop_unfinished(self, topic: str, standing: dict[str, PartitionFacts]) -> None:
        """Remove files of a run that ended before it could note them."""
        for path in (self._folder / topic).glob("*/*"):
            known = standing.get(path.parent.name)
            first = path.name.partition(".")[0]
            if known is None or not first.isdigit() or int(first) >= known.next:
                path.unlink()

    def _note(self, topic: str, number: int, known: PartitionFacts, record_: Any) -> None:
        if record_.offset > known.next:
            self._gap(topic, number, known.next, record_.offset - 1)
        if not known.records:
            known.first, known.first_ms = record_.offset, record_.timestamp
        known.next = record_.offset + 1
        known.records += 1
        known.last_ms = max(known.last_ms, record_.timestamp)

    def _gap(self, topic: str, partition: int, first: int, last: int) -> None:
        gap = OffsetGap(topic=topic, partition=partition, first=first, last=last)
        if gap in self._facts.gaps:
            return
        self._facts.offsets_missing += last - first + 1
        if len(self._facts.gaps) < MAX_KEPT_GAPS:
            self._facts.gaps.append(gap)

    def _show(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(self._done, 0)


def parse_offsets(texts: Sequence[str]) -> dict[tuple[str, int], int]:
    """Read `TOPIC:PARTITION:OFFSET` texts; raises NotRecorded."""
    return dict(_parsed(texts))


def _parsed(texts: Sequence[str]) -> Iterator[tuple[tuple[str, int], int]]:
    for text in texts:
        topic, _, rest = text.rpartition(":")
        topic, _, partition = topic.rpartition(":")
        if not topic or not partition.isdigit() or not rest.isdigit():
            raise NotRecorded(f"{text!r} is not TOPIC:PARTITION:OFFSET")
        yield (topic, int(partition)), int(rest)
