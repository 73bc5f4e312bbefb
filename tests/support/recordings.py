"""Recordings made without Kafka: simulated events in the folder that `shopstream record` writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from worker.events.event import EventKind
from worker.pipeline.times import rfc3339
from worker.replay.recordings.files import FileFormat, PartitionWriter, StoredRecord
from worker.replay.recordings.recording import PartitionFacts, RecordingFacts, write_facts
from worker.topics.layout import TopicLayout

LAYOUT = TopicLayout()


def write_recording(
    folder: Path,
    events: Iterable[tuple[EventKind, bytes | None, bytes | None, int]],
    *,
    partitions: int = 1,
    file_format: FileFormat = "parquet",
) -> Path:
    """Write (kind, key, value, record time in ms) as a recording; return its folder."""
    facts = RecordingFacts(created_at="2026-01-01T00:00:00+00:00", file_format=file_format)
    writers: dict[tuple[str, int], PartitionWriter] = {}
    for kind, key, value, at_ms in events:
        topic = LAYOUT.of(kind)
        number = sum(key or b"") % partitions
        place = (topic, number)
        if place not in writers:
            writers[place] = PartitionWriter(folder / topic / str(number), file_format)
            facts.topics.setdefault(topic, {})[str(number)] = PartitionFacts(
                first=0, next=0, records=0, first_ms=at_ms
            )
        known = facts.topics[topic][str(number)]
        writers[place].add(StoredRecord(known.next, at_ms, key, value))
        known.next += 1
        known.records += 1
        known.last_ms = max(known.last_ms, at_ms)
    for writer in writers.values():
        writer.flush()
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder, facts)
    return folder


def event_record(
    kind: EventKind, at_ms: int, fields: Mapping[str, Any]
) -> tuple[EventKind, bytes, bytes, int]:
    """Return one event for `write_recording`; its id, time and key are filled in."""
    owner = str(fields["product_id" if kind is EventKind.PRODUCT else "user_id"])
    event = {"event_id": f"{kind.value}-{at_ms}-{owner}", "occurred_at": rfc3339(at_ms), **fields}
    return kind, owner.encode(), orjson.dumps(event), at_ms
