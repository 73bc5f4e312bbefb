"""Recordings on disk: every byte back, whatever the format; what is broken is named and counted."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from tests.support.recordings import LAYOUT, event_record, write_recording
from worker.events.column_map import ColumnMap
from worker.events.decode import EventLimits
from worker.events.event import EventKind
from worker.pipeline.records import BatchRecord, Run
from worker.replay.following.order import BatchOrder
from worker.replay.recordings.faults import Faults, ReplayStopped
from worker.replay.recordings.files import (
    GROUP_RECORDS,
    FileFormat,
    PartitionLog,
    PartitionWriter,
    StoredRecord,
)
from worker.replay.recordings.merge import events_by_time
from worker.replay.recordings.public import BadFiles, EventFile, import_files, parse_files
from worker.replay.recordings.recording import (
    MANIFEST,
    NoRecording,
    OffsetGap,
    PartitionFacts,
    Recording,
    write_facts,
)
from worker.settings import Settings

FORMATS = get_args(FileFormat)
RECORDS = [
    StoredRecord(3, 1_000, b"key", b'{"a": 1}'),
    StoredRecord(4, -1, None, None),
    StoredRecord(9, 1_001, b"\xff\x00", b"\xfe no text"),
    StoredRecord(10, 1_002, b"", "质量\n".encode()),
]


def write(folder: Path, file_format: FileFormat, records: list[StoredRecord]) -> None:
    writer = PartitionWriter(folder, file_format)
    for record in records:
        writer.add(record)
    writer.flush()


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_byte_comes_back(tmp_path: Path, file_format: FileFormat) -> None:
    """Offsets, times, keys and values stand as they were, also those that are no text."""
    write(tmp_path, file_format, RECORDS)
    log = PartitionLog(tmp_path, Faults())
    assert list(log.read(0)) == RECORDS
    assert list(log.read(4, 9)) == RECORDS[1:3]
    assert log.next_offset() == 11


def test_reads_go_backwards_too(tmp_path: Path) -> None:
    """Any range can be read at any time, across row groups and files."""
    records = [StoredRecord(n * 2, n, b"k", str(n).encode()) for n in range(3 * GROUP_RECORDS)]
    write(tmp_path, "parquet", records[: 2 * GROUP_RECORDS])
    write(tmp_path, "parquet", records[2 * GROUP_RECORDS :])
    log = PartitionLog(tmp_path, Faults())
    for first in (4_000, 10, 2 * GROUP_RECORDS * 2 - 3, 0):
        expected = [one for one in records if first <= one.offset <= first + 20]
        assert list(log.read(first, first + 20)) == expected


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_corrupt_file_stops_or_is_counted(tmp_path: Path, file_format: FileFormat) -> None:
    """A cut file is named; with `skip` the others are read and the fault is counted."""
    write(tmp_path, file_format, RECORDS)
    write(tmp_path, file_format, [StoredRecord(50, 1, b"k", b"v" * 500)])
    cut = sorted(tmp_path.iterdir())[0]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(ReplayStopped, match=cut.name):
        list(PartitionLog(tmp_path, Faults("stop")).read(0))
    faults = Faults("skip")
    assert list(PartitionLog(tmp_path, faults).read(0))[-1].offset == 50
    assert faults.counts["corrupt-file"] >= 1
    assert cut.name in faults.places["corrupt-file"][0]


def test_a_folder_that_is_no_recording_is_told(tmp_path: Path) -> None:
    """No manifest, a broken one, or one of a later version: a sentence says what to do."""
    with pytest.raises(NoRecording, match=MANIFEST):
        Recording.open(tmp_path, Faults())
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(NoRecording, match="record again"):
        Recording.open(tmp_path, Faults())
    (tmp_path / MANIFEST).write_text('{"created_at": "", "format": 99}')
    with pytest.raises(NoRecording, match="format 99"):
        Recording.open(tmp_path, Faults())


def searches(*times: tuple[str, int]) -> list[tuple[EventKind, bytes, bytes, int]]:
    return [
        event_record(EventKind.SEARCH, at_ms, {"user_id": user, "query": "tea"})
        for user, at_ms in times
    ]


def test_events_come_in_the_order_of_time(tmp_path: Path) -> None:
    """Partitions are merged by `occurred_at`; a late event keeps its place and is counted."""
    records = searches(("a", 5_000), ("b", 1_000), ("a", 9_000), ("b", 7_000), ("b", 6_000))
    folder = write_recording(tmp_path / "r", records, partitions=2)
    faults = Faults()
    found = list(events_by_time(Recording.open(folder, faults), EventLimits()))
    assert [one.at_ms for one in found] == [1_000, 5_000, 7_000, 6_000, 9_000]
    assert faults.counts["late-event"] == 1


def test_records_that_files_lack_stop_or_are_counted(tmp_path: Path) -> None:
    """A lost file is told with its offsets; what Kafka lacked already is a gap and no fault."""
    folder = write_recording(tmp_path / "r", searches(*(("a", n * 1_000) for n in range(1, 6))))
    place = folder / LAYOUT.of(EventKind.SEARCH) / "0"
    log = list(PartitionLog(place, Faults()).read(0))
    for path in place.iterdir():
        path.unlink()
    write(place, "parquet", [log[0], log[3]])
    with pytest.raises(ReplayStopped, match=r"shop\.searches:0:1-2"):
        list(events_by_time(Recording.open(folder, Faults("stop")), EventLimits()))
    faults = Faults("skip")
    assert len(list(events_by_time(Recording.open(folder, faults), EventLimits()))) == 2
    assert faults.counts["missing-records"] == 3
    assert faults.places["missing-records"] == ["shop.searches:0:1-2", "shop.searches:0:4-4"]
    facts = Recording.open(folder, Faults()).facts
    for first, last in ((1, 2), (4, 4)):
        facts.gaps.append(OffsetGap(topic="shop.searches", partition=0, first=first, last=last))
    write_facts(folder, facts)
    faults = Faults("stop")
    assert len(list(events_by_time(Recording.open(folder, faults), EventLimits()))) == 2
    assert faults.counts == {"gap": 3}


def test_what_is_no_event_is_counted_with_its_place(tmp_path: Path) -> None:
    """A record of another schema version becomes what the live worker makes of it."""
    records = [*searches(("a", 1_000)), (EventKind.SEARCH, b"a", b'{"v": 2}', 2_000)]
    folder = write_recording(tmp_path / "r", records)
    faults = Faults("stop")
    assert len(list(events_by_time(Recording.open(folder, faults), EventLimits()))) == 2
    assert faults.places["invalid-event"] == ["shop.searches:0:1 (schema)"]


def batches(folder: Path, *rows: tuple[int, str, bool]) -> Recording:
    """Return a recording with batch records of (sequence, batch id, confirmed)."""
    write_recording(folder, searches(("a", 1_000)))
    recording = Recording.open(folder, Faults("skip"))
    stored = []
    for offset, (sequence, batch_id, confirmed) in enumerate(rows):
        record = BatchRecord(
            batch_id=batch_id,
            process_id=batch_id.partition("-")[0],
            release="r",
            runs=[Run(topic="shop.searches", partition=0, first=0, last=0, count=1)],
            sequence=sequence,
            index_position=[0],
            confirmed=confirmed,
        )
        value = record.model_dump_json().encode()
        stored.append(StoredRecord(offset, 0, batch_id.encode(), value))
    stored.append(StoredRecord(len(rows), 0, b"x", b'{"of": "a later version"}'))
    write(folder / LAYOUT.batches / "0", "parquet", stored)
    facts = recording.facts
    facts.topics[LAYOUT.batches] = {
        "0": PartitionFacts(first=0, next=len(stored), records=len(stored))
    }
    write_facts(folder, facts)
    return Recording.open(folder, Faults("skip"))


def test_batches_stand_by_their_steps_each_once(tmp_path: Path) -> None:
    """The order is that of the steps; a confirmed record takes the place of an unconfirmed one."""
    recording = batches(
        tmp_path / "r", (2, "b-1", False), (1, "a-1", True), (2, "b-1", True), (3, "a-2", False)
    )
    order = BatchOrder(recording)
    assert [(one.batch_id, one.confirmed) for one in order] == [
        ("a-1", True), ("b-1", True), ("a-2", False)
    ]  # fmt: skip
    assert order.last_of == {"a": 3, "b": 2}
    assert recording.faults.counts == {"unreadable-batch-record": 1}


def test_steps_without_a_record_are_counted(tmp_path: Path) -> None:
    """Missing steps, and a store that was emptied between two runs, are told."""
    recording = batches(tmp_path / "r", (3, "a-1", True), (7, "a-2", True), (7, "c-1", True))
    BatchOrder(recording)
    assert recording.faults.counts["missing-batches"] == 2 + 3
    assert recording.faults.places["emptied-store"] == ["a-2 and c-1 are both step 7"]


def test_a_shop_s_own_files_become_a_sorted_recording(tmp_path: Path) -> None:
    """Rows of any order are mapped, sorted by time in runs, and bad rows are named."""
    table = tmp_path / "sales.csv"
    table.write_text("who,what,when\nu1,p1,300\nu2,p2,100\nu3,,200\nu4,p4,oops\n")
    column_map = ColumnMap.model_validate(
        {
            "fields": {"event_id": "e{line}", "user_id": "who", "order_id": "o{line}"},
            "time": {"column": "when", "format": "unix_s"},
            "items": {"product_id": "what"},
        }
    )
    faults = Faults()
    file = EventFile(EventKind.PURCHASE, table, column_map)
    import_files(Settings(), [file], tmp_path / "r", faults)
    recording = Recording.open(tmp_path / "r", faults)
    found = list(events_by_time(recording, EventLimits()))
    assert [one.at_ms for one in found] == [100_000, 300_000]
    assert faults.counts["invalid-event"] == 2
    assert str(table) in faults.places["invalid-event"][0]


def test_a_wrongly_named_file_is_told(tmp_path: Path) -> None:
    """An unknown kind, a missing file, or a map without a file is a clear error."""
    present = tmp_path / "a.jsonl"
    present.write_text("")
    for files, maps, words in (
        (["sale=a.jsonl"], [], "kind of"),
        ([f"purchase={tmp_path}/none.jsonl"], [], "no file"),
    ):
        with pytest.raises(BadFiles, match=words):
            parse_files(files, maps)
    with pytest.raises(BadFiles, match="no row"):
        import_files(Settings(), [EventFile(EventKind.SEARCH, present)], tmp_path / "r", Faults())
