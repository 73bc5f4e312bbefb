"""A shop's own files become a recording: rows mapped, checked and sorted by when they happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from worker.errors import ShopstreamError
from worker.events.column_map import ColumnMap
from worker.events.decode import EventLimits
from worker.events.event import EventKind
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.files import PartitionWriter, StoredRecord
from worker.replay.recordings.recording import (
    PartitionFacts,
    RecordingFacts,
    result_settings,
    write_facts,
)
from worker.settings import Settings
from worker.topics.layout import TopicLayout
from worker.topics.produce import ProduceJob, ProduceReport, check_rows

SORTED_AT_ONCE = 100_000  # rows in memory: each such run becomes a partition, and runs are merged


class BadFiles(ShopstreamError):
    """Files cannot be taken as events; the message says what to do."""


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file of events of one kind, with the map from its columns if it needs one."""

    kind: EventKind
    path: Path
    column_map: ColumnMap | None = None


def parse_files(files: Sequence[str], maps: Sequence[str]) -> list[EventFile]:
    """Read `KIND=FILE` and `KIND=MAP.toml` texts. Raises BadFiles, BadColumnMap."""
    by_kind = {kind: ColumnMap.load(path) for kind, path in map(_pair, maps)}
    found = [EventFile(kind, path, by_kind.get(kind)) for kind, path in map(_pair, files)]
    unused = by_kind.keys() - {file.kind for file in found}
    if unused:
        raise BadFiles(f"--map {sorted(unused)[0].value}=… has no --file of that kind")
    return found


def _pair(text: str) -> tuple[EventKind, Path]:
    kind, mark, path = text.partition("=")
    try:
        chosen = EventKind(kind)
    except ValueError as error:
        kinds = ", ".join(one.value for one in EventKind)
        raise BadFiles(f"{text!r} is not KIND=FILE with a kind of {kinds}") from error
    if not mark or not Path(path).is_file():
        raise BadFiles(f"{text!r}: there is no file {path!r}")
    return chosen, Path(path)


def import_files(
    settings: Settings,
    files: Sequence[EventFile],
    folder: Path,
    faults: Faults,
    progress: Callable[[int, int], None] | None = None,
) -> RecordingFacts:
    """Write files as a recording into an empty folder. Raises UnreadableFile, BadFiles."""
    layout = TopicLayout.from_settings(settings)
    facts = RecordingFacts(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        event_prefix=layout.event_prefix,
        internal_prefix=layout.internal_prefix,
        settings=result_settings(settings),
        sorted=True,
        source=", ".join(file.path.name for file in files),
    )
    folder.mkdir(parents=True, exist_ok=True)
    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    done = 0
    for file in files:
        report = ProduceReport()
        rows = check_rows(ProduceJob((file.path,), file.kind, file.column_map), limits, report)
        topic = layout.of(file.kind)
        partitions = facts.topics.setdefault(topic, {})
        while part := list(islice(rows, SORTED_AT_ONCE)):
            part.sort(key=lambda one: one.occurred_at_ms)  # stable: equal times keep their lines
            number = len(partitions)
            writer = PartitionWriter(folder / topic / str(number), "parquet")
            for offset, one in enumerate(part):
                writer.add(StoredRecord(offset, one.occurred_at_ms, one.key, one.value))
            writer.flush()
            partitions[str(number)] = PartitionFacts(
                first=0, next=len(part), records=len(part),
                first_ms=part[0].occurred_at_ms, last_ms=part[-1].occurred_at_ms,
            )  # fmt: skip
            done += len(part)
            if progress is not None:
                progress(done, 0)
        for fault in report.faults:
            faults.note("invalid-event", f"{fault.file}:{fault.line} ({fault.reason})")
        faults.counts["invalid-event"] += report.bad - len(report.faults)
    faults.counts += type(faults.counts)()  # drop zeros
    if not facts.records:
        raise BadFiles("no row of the files is a valid event: see --map, and docs/maps")
    write_facts(folder, facts)
    return facts
