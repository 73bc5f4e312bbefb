"""Recorded events in the order in which they happened, whatever partition they stand in.

A merge: each partition keeps its own order, and of the partitions' next events the earliest goes
first; ties stand by topic, partition and offset. So a log of any size needs little memory, and two
replays read the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import Event
from worker.pipeline.batch import Position
from worker.replay.recordings.files import StoredRecord
from worker.replay.recordings.recording import Recording


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event with its place; `at_ms` orders it: when it happened, or was recorded if invalid."""

    position: Position
    event: Event | InvalidEvent
    at_ms: int
    raw: StoredRecord

    @property
    def is_valid(self) -> bool:
        """Whether it is an event."""
        return not isinstance(self.event, InvalidEvent)


def events_by_time(recording: Recording, limits: EventLimits) -> Iterator[RecordedEvent]:
    """Yield every recorded event once, in the order of `occurred_at`."""
    latest_ms = -1
    streams = [_partition(recording, *place, limits) for place in recording.event_partitions()]
    for found in heapq.merge(*streams, key=lambda one: (one.at_ms, one.position)):
        if isinstance(found.event, InvalidEvent):
            place = f"{':'.join(map(str, found.position))} ({found.event.code})"
            recording.faults.note("invalid-event", place)
        elif found.at_ms < latest_ms:
            recording.faults.note("late-event", ":".join(map(str, found.position)))
        latest_ms = max(latest_ms, found.at_ms)
        yield found


def _partition(
    recording: Recording, topic: str, number: int, limits: EventLimits
) -> Iterator[RecordedEvent]:
    facts = recording.facts.topics[topic][str(number)]
    expected = facts.first
    for stored in recording.log(topic, number).read(0):
        recording.check_whole(topic, number, expected, stored.offset - 1)
        expected = stored.offset + 1
        yield decode_stored(recording, topic, number, stored, limits)
    recording.check_whole(topic, number, expected, facts.next - 1)


def decode_stored(
    recording: Recording, topic: str, number: int, stored: StoredRecord, limits: EventLimits
) -> RecordedEvent:
    """Return the event that a recorded record holds, decoded as a live worker decodes it."""
    raw = RawRecord(topic, number, stored.offset, stored.key, stored.value, stored.timestamp_ms)
    event = decode_event(recording.layout.kind_of(topic), raw, limits)
    at_ms = stored.timestamp_ms if isinstance(event, InvalidEvent) else event.occurred_at_ms
    return RecordedEvent(Position(topic, number, stored.offset), event, at_ms, stored)
