"""Samples from Kafka to Parquet: `<out>/<kind>/date=<day>/samples.parquet`, days in UTC.

An export goes on with what earlier ones wrote, because the topic forgets after its retention: the
newest sample of an id counts, and labels that a return took back and samples of forgotten shoppers
leave the older files too. Who is forgotten is itself kept (`<out>/forget/`, pseudonyms): a release
that was trained before still has to be marked. A file is written beside its place and renamed, so
a reader never meets half of one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.topics.layout import TopicLayout
from worker.topics.reader import Progress, read_topic
from worker.topics.sample_set import Row, SampleSet, moment_of

FILE_NAME = "samples.parquet"
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_COMMON = [("sample_id", _TEXT), ("occurred_at", _TEXT), ("user", _TEXT), ("locale", _TEXT)]
_HISTORY = pa.list_(
    pa.struct(
        [
            ("kind", _TEXT),
            ("occurred_at_ms", pa.int64()),
            ("query", _TEXT),
            ("product_ids", _TEXTS),
            ("stars", pa.float64()),
        ]
    )
)
# The fields of the sample models, without `kind`: that is the folder's name.
SCHEMAS: dict[str, pa.Schema] = {
    "search": pa.schema(
        [
            *_COMMON,
            ("query", _TEXT),
            ("positive", _TEXT),
            ("negatives", _TEXTS),
            ("shown", _TEXTS),
            ("search_event_id", _TEXT),
            ("label_key", _TEXT),
        ]
    ),
    "next-item": pa.schema(
        [*_COMMON, ("history", _HISTORY), ("next_products", _TEXTS), ("label_keys", _TEXTS)]
    ),
    "review": pa.schema(
        [*_COMMON, ("product_id", _TEXT), ("text", _TEXT), ("stars", pa.float64())]
    ),
    "answer": pa.schema(
        [
            *_COMMON,
            ("question", _TEXT),
            ("product_id", _TEXT),
            ("answer", _TEXT),
            ("source_kind", _TEXT),
            ("source_id", _TEXT),
            ("confidence", pa.float64()),
        ]
    ),
}


_FORGET, _FORGET_SCHEMA = "forget", pa.schema(_COMMON)


class NotExported(ShopstreamError):
    """The samples could not be written; the message says what to do."""


async def export_samples(
    settings: Settings, out: Path, progress: Progress | None = None
) -> dict[str, int]:
    """Bring the Parquet files below `out` up to date; return kind -> rows that stand there now.

    Also returns "reversed" (labels), "forgotten" (shoppers) and "unreadable" (records) of the
    topic. The topic's samples are held in memory. Raises KafkaUnavailable, TopicsUnfit,
    NotExported.
    """
    found = SampleSet()
    async for record in read_topic(settings, TopicLayout.from_settings(settings).samples, progress):
        if record.value is not None:
            found.add(record.value)
    return write_samples(found, out) | {
        "reversed": len(found.reversed_labels),
        "forgotten": len(found.forgotten),
        "unreadable": found.unreadable,
    }


def write_samples(found: SampleSet, out: Path) -> dict[str, int]:
    """Merge samples into the Parquet files below `out`; return kind -> rows that stand there now.

    Raises NotExported. What was written before a failure is whole, and to run it again is harmless.
    """
    counts = dict.fromkeys(SCHEMAS, 0)
    try:
        _keep_forgotten(found, out)
        _drop_older(found, out)
        new: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for kind, row in found.kept():
            new[kind, moment_of(row["occurred_at"]).date().isoformat()].append(row)
        standing = {(kind, path.parent.name.removeprefix("date=")) for kind, path in _files(out)}
        for kind, day in sorted(standing | new.keys()):
            counts[kind] += _merge(found, kind, out / kind / f"date={day}", new[kind, day])
    except (OSError, pa.ArrowException) as error:
        raise NotExported(
            f"the samples could not be written below {out} ({error}); "
            "mend that and run the export again"
        ) from error
    return counts


def sample_stats(out: Path) -> dict[str, dict[str, int | str | None]]:
    """Return kind -> samples, shoppers, first and last day of the Parquet files below `out`.

    Raises NotExported when there are none.
    """
    stats: dict[str, dict[str, int | str | None]] = {}
    for kind in SCHEMAS:
        paths = [path for found, path in _files(out) if found == kind]
        users = [user for path in paths for user in _read(path, ["user"])["user"].to_pylist()]
        days = [path.parent.name.removeprefix("date=") for path in paths]
        stats[kind] = {
            "samples": len(users),
            "shoppers": len(set(users)),
            "first_day": min(days, default=None),
            "last_day": max(days, default=None),
        }
    if not any(found["samples"] for found in stats.values()):
        raise NotExported(f"{out} holds no samples; run `shopstream samples export --out {out}`")
    return stats


def _files(out: Path) -> Iterator[tuple[str, Path]]:
    for kind in SCHEMAS:
        for path in sorted((out / kind).glob(f"date=*/{FILE_NAME}")):
            yield kind, path


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(path, columns=columns, partitioning=None)  # the day is no column


def _drop_older(found: SampleSet, out: Path) -> None:
    """Drop from `found` what stands in a file in a newer version, maybe on another day."""
    for kind, path in _files(out):
        for row in _read(path, columns=["sample_id", "occurred_at"]).to_pylist():
            known = found.samples.get((kind, row["sample_id"]))
            if known is not None and moment_of(row["occurred_at"]) > moment_of(
                known["occurred_at"]
            ):
                del found.samples[kind, row["sample_id"]]


def _keep_forgotten(found: SampleSet, out: Path) -> None:
    """Join the forget requests of earlier exports with the new ones, in both places."""
    path = out / _FORGET / "date=all" / FILE_NAME
    before = _read(path) if path.exists() else None
    for row in before.to_pylist() if before is not None else ():
        moment = moment_of(row["occurred_at"])
        found.forgotten[row["user"]] = max(moment, found.forgotten.get(row["user"], moment))
    rows = [
        {"sample_id": user, "occurred_at": moment.isoformat(), "user": user, "locale": None}
        for user, moment in sorted(found.forgotten.items())
    ]
    table = pa.Table.from_pylist(rows, schema=_FORGET_SCHEMA)
    if rows and (before is None or not table.equals(before)):
        _write(path, table)


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{FILE_NAME}.part")
    pq.write_table(table, part, compression="zstd")
    os.replace(part, path)


def _merge(found: SampleSet, kind: str, folder: Path, new: list[Row]) -> int:
    """Write a day's file from its own rows and the new ones; return how many rows it has now."""
    path = folder / FILE_NAME
    before = _read(path) if path.exists() else None
    rows = list(new)
    for row in before.to_pylist() if before is not None else ():
        held = found.keep(kind, row)
        if held is not None and (kind, row["sample_id"]) not in found.samples:
            rows.append(held)
    rows.sort(key=lambda row: (moment_of(row["occurred_at"]), row["sample_id"]))
    if not rows:
        path.unlink(missing_ok=True)
        return 0
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[kind])
    if before is None or not table.equals(before):
        _write(path, table)
    return len(rows)
