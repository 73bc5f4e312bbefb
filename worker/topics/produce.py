"""Backfill: rows become events, are checked as a worker would check them, and go to Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from worker.events.column_map import ColumnMap
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind
from worker.events.files import BadRow, read_rows
from worker.settings import Settings
from worker.topics.client import kafka_errors, producer_options
from worker.topics.layout import TopicLayout, check_topics

# Deliveries that may be outstanding: enough to fill the client's batches, small in memory.
MAX_UNCONFIRMED = 2_000
MAX_KEPT_FAULTS = 1_000


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that was not sent."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class ProduceReport:
    """What became of the rows: `sent` are confirmed; `faults` keeps the first thousand."""

    sent: int = 0
    bad: int = 0
    faults: list[RowFault] = field(default_factory=list)

    def add_fault(self, fault: RowFault) -> None:
        """Count a bad row."""
        self.bad += 1
        if len(self.faults) < MAX_KEPT_FAULTS:
            self.faults.append(fault)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A valid event as it goes to Kafka."""

    key: bytes
    value: bytes
    occurred_at_ms: int


@dataclass(frozen=True, slots=True)
class ProduceJob:
    """What to send, and how."""

    files: tuple[Path, ...]
    kind: EventKind
    column_map: ColumnMap | None = None
    rate_per_s: float = 0.0  # 0: as fast as Kafka takes them
    event_timestamps: bool = False  # the record's time is the event's, not now
    limit: int = 0  # events, 0: all


def check_rows(job: ProduceJob, limits: EventLimits, report: ProduceReport) -> Iterator[Outgoing]:
    """Yield the events of the job's files in their order; bad rows go into the report."""
    read = 0
    for file in job.files:
        rows = read_rows(file)
        mapped = rows if job.column_map is None else job.column_map.apply(rows, _bare_name(file))
        for line, row in mapped:
            if job.limit and read >= job.limit:
                return
            read += 1
            outgoing = _outgoing(row, job, limits)
            if isinstance(outgoing, str):
                report.add_fault(RowFault(str(file), line, outgoing))
            else:
                yield outgoing


async def produce(
    settings: Settings,
    job: ProduceJob,
    report: ProduceReport,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Send the job's events; returns when Kafka has confirmed every one of them.

    `report` is kept up to date, so that it also tells how far an interrupted job came. Raises
    KafkaUnavailable, TopicsUnfit, UnreadableFile; to send again is harmless, because events are
    known by their ids.
    """
    await check_topics(settings)
    topic = TopicLayout.from_settings(settings).of(job.kind)
    unconfirmed: deque[asyncio.Future[Any]] = deque()
    async with kafka_errors(settings):
        producer = AIOKafkaProducer(**producer_options(settings))
        try:
            await producer.start()
            started_s = time.monotonic()
            for number, outgoing in enumerate(check_rows(job, _limits(settings), report)):
                if job.rate_per_s:
                    due_s = started_s + number / job.rate_per_s
                    await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                at = outgoing.occurred_at_ms if job.event_timestamps else None
                unconfirmed.append(
                    await producer.send(topic, outgoing.value, key=outgoing.key, timestamp_ms=at)
                )
                await _confirm(unconfirmed, report, MAX_UNCONFIRMED)
                if progress is not None:
                    progress(report.sent, 0)
            await _confirm(unconfirmed, report, 0)
        finally:
            await producer.stop()
            _look_at(unconfirmed)


def dry_run(settings: Settings, job: ProduceJob) -> ProduceReport:
    """Check every row as `produce` would, without a broker; `sent` counts the valid events."""
    report = ProduceReport()
    for _ in check_rows(job, _limits(settings), report):
        report.sent += 1
    return report


def _outgoing(row: dict[str, Any] | BadRow, job: ProduceJob, limits: EventLimits) -> Outgoing | str:
    if isinstance(row, BadRow):
        return row.reason
    try:
        value = orjson.dumps(row)
    except TypeError as error:
        return f"not JSON: {error}"
    owner = row.get("product_id" if job.kind is EventKind.PRODUCT else "user_id")
    key = owner.strip().encode() if isinstance(owner, str) else b"-"  # the schema's fault then
    # The record's time is now or the event's own; either way an event of the past is no fault.
    raw = RawRecord("", -1, -1, key, value, round(time.time() * 1000))
    event = decode_event(job.kind, raw, limits)
    if isinstance(event, InvalidEvent):
        return event.reason
    return Outgoing(key, value, event.occurred_at_ms)


async def _confirm(
    unconfirmed: deque[asyncio.Future[Any]], report: ProduceReport, most: int
) -> None:
    """Count what Kafka has confirmed, and wait until at most `most` deliveries are outstanding."""
    while unconfirmed and (len(unconfirmed) > most or unconfirmed[0].done()):
        await unconfirmed.popleft()
        report.sent += 1


def _look_at(unconfirmed: deque[asyncio.Future[Any]]) -> None:
    # What came of them is known by the first failure; Python complains of errors nobody looked at.
    for delivery in unconfirmed:
        if delivery.done() and not delivery.cancelled():
            delivery.exception()


def _bare_name(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[0]


def _limits(settings: Settings) -> EventLimits:
    return EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
