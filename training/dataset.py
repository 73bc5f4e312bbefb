"""Samples that the worker wrote, read a few rows at a time, fit to learn from.

    <folder>/<kind>/date=<day>/*.parquet        kinds: models/sample.py

A first pass reads ids, times and users alone and says which rows hold: of rows with one id the
newest counts, labels that a return took back and rows of forgotten shoppers go (an export has
already applied both; a `reversal` or `forget` folder beside it is applied too), and what lies in
the future goes, because it would move every split by time. The second pass streams the rows that
hold. 25 bytes a row are kept in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.rows import ReadReport, UnreadableData

Kind = Literal["search", "next-item", "review", "answer"]
Row = dict[str, Any]
_ROWS_AT_ONCE = 4_096
# A clock may run a little ahead of the one that reads.
_FUTURE = timedelta(days=1)
# The text that tells what a row teaches: a row of the training part that shares it with the test
# part would let the model learn the answer by heart.
_CONTENT = {"search": "search_event_id", "review": "text", "answer": "question", "next-item": ""}


@dataclass(slots=True)
class SampleReport(ReadReport):
    """What a folder of samples holds; `kept` rows are fit to learn from."""

    kept: int = 0
    first: datetime | None = None
    last: datetime | None = None
    unreadable_files: list[str] = field(default_factory=list)


class SampleFolder:
    """The samples of one kind below a folder."""

    def __init__(self, folder: Path, kind: Kind, now: datetime | None = None) -> None:
        """Read what must be known of all rows before one can be used.

        Args:
            now: rows from later than a day after it are left out; None: the clock.

        Raises:
            UnreadableData: there is no sample of this kind that can be used.
        """
        self.kind = kind
        self.report = SampleReport()
        self._latest = (now or datetime.now(UTC)) + _FUTURE
        self._files = sorted((folder / kind).glob("date=*/*.parquet"))
        if not self._files:
            raise UnreadableData(
                f"{folder} holds no samples of the kind {kind!r}; `shopstream samples export --out "
                f"{folder}` writes them"
            )
        self._reversed = self._labels_taken_back(folder)
        self._forgotten = self._forgotten_until(folder)
        self._held, self._times = self._survey()
        self.report.kept = int(self._held.sum())
        if not self.report.kept:
            raise UnreadableData(
                f"{folder} holds no sample of the kind {kind!r} to learn from: "
                f"{'; '.join(self.report.sentences()) or 'all files are empty'}"
            )
        held = self.times_us
        self.report.first, self.report.last = _moment(held.min()), _moment(held.max())

    def rows(self, begin_us: int | None = None, end_us: int | None = None) -> Iterator[Row]:
        """Yield the rows that hold, `begin_us` ≤ time < `end_us` (µs since 1970), file by file."""
        chosen = self._held.copy()
        if begin_us is not None:
            chosen &= self._times >= begin_us
        if end_us is not None:
            chosen &= self._times < end_us
        first = 0
        for path in self._files:
            try:
                for batch in _batches(path):
                    places = np.flatnonzero(chosen[first : first + len(batch)])
                    first += len(batch)
                    taken = batch.take(pa.array(places)).to_pylist() if len(places) else []
                    yield from filter(None, map(self._keep_labels, taken))
            except (OSError, pa.ArrowException) as error:
                raise UnreadableData(f"{path} cannot be read: {_short(error)}") from error

    @property
    def times_us(self) -> NDArray[np.int64]:
        """The times of the rows that hold, in µs since 1970."""
        return self._times[self._held]

    def split_time_us(self, test_share: float) -> int:
        """Return the time from which on the newest `test_share` of the rows lies, in µs.

        By count and not by the calendar, so that a few rows with a clock that jumped move nothing.

        Raises:
            UnreadableData: all rows are of one time, so none can be held out.
        """
        held = self.times_us
        cut = int(np.quantile(held, 1 - test_share, method="higher"))
        if cut <= held.min():
            raise UnreadableData(
                f"the {len(held):,} samples of the kind {self.kind!r} cannot be split by time; "
                "collect more of them"
            )
        return cut

    def time_split(self, test_share: float = 0.2) -> TimeSplit:
        """Return the older rows to learn from and the newest to test on, without leakage."""
        return self.split_at(self.split_time_us(test_share))

    def split_at(self, cut_us: int) -> TimeSplit:
        """Return the rows before a time to learn from and those since to test on."""
        name = _CONTENT[self.kind]
        tested = {_digest(row[name]) for row in self.rows(begin_us=cut_us)} if name else set()
        return TimeSplit(self, cut_us, name, frozenset(tested))

    def count_since(self, begin_us: int) -> int:
        """Return how many rows that hold are not older than a time."""
        return int((self._held & (self._times >= begin_us)).sum())

    def _keep_labels(self, row: Row) -> Row | None:
        """Return what of a row still holds after returns."""
        if self.kind == "search":
            return None if _digest(row.get("label_key")) in self._reversed else row
        if self.kind != "next-item" or not self._reversed:
            return row
        pairs = zip(row["next_products"], row["label_keys"], strict=True)
        held = [pair for pair in pairs if _digest(pair[1]) not in self._reversed]
        if not held:
            return None
        return {**row, "next_products": [p for p, _ in held], "label_keys": [k for _, k in held]}

    def _survey(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which rows hold, and their times in µs, in the order of the files."""
        ids, times, fit = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
        readable: list[Path] = []
        for path in self._files:
            found = self._judge_file(path)
            if found is None:
                continue
            readable.append(path)
            self.report.rows += len(found)
            ids.append(np.array([digest for digest, _, _ in found], dtype=np.uint64))
            times.append(np.array([time for _, time, _ in found], dtype=np.int64))
            fit.append(np.array([holds for _, _, holds in found], dtype=bool))
        self._files = readable
        all_ids, all_times, held = np.concatenate(ids), np.concatenate(times), np.concatenate(fit)
        newest = _newest_of_each(all_ids, all_times, held)
        older = int((held & ~newest).sum())
        if older:
            self.report.skip("an older version of another sample", count=older)
        return held & newest, all_times

    def _judge_file(self, path: Path) -> list[tuple[int, int, bool]] | None:
        """Return what `_judge` says of each row; None where the file is half-written or damaged."""
        columns = ["sample_id", "occurred_at", "user"]
        if self.kind == "search":
            columns.append("label_key")
        try:
            rows = [row for batch in _batches(path, columns) for row in batch.to_pylist()]
        except (OSError, pa.ArrowException) as error:
            place = f"{path.parent.name}/{path.name}"
            self.report.unreadable_files.append(place)
            self.report.skip(f"a file that cannot be read ({_short(error)})", place)
            return None
        if rows and set(rows[0]) != set(columns):
            lost = ", ".join(sorted(set(columns) - set(rows[0])))
            raise UnreadableData(f"{path} is no file of {self.kind} samples: it lacks {lost}")
        return [self._judge(row) for row in rows]

    def _judge(self, row: Row) -> tuple[int, int, bool]:
        """Return (digest of the id, time in µs, whether the row may be used)."""
        time_us = _time_us(row["occurred_at"])
        reason = ""
        if time_us is None or not row["sample_id"]:
            reason = "no id or no time"
        elif time_us > _us(self._latest):
            reason = "from the future (a clock that jumped)"
        elif time_us <= self._forgotten.get(row["user"], -1):
            reason = "of a forgotten shopper"
        elif self.kind == "search" and _digest(row["label_key"]) in self._reversed:
            reason = "a label that a return took back"
        if reason:
            self.report.skip(reason, str(row["sample_id"]))
        return _digest(row["sample_id"]), time_us or 0, not reason

    def _labels_taken_back(self, folder: Path) -> frozenset[int]:
        rows = _small_table(folder / "reversal", ["label_keys"])
        return frozenset(_digest(key) for row in rows for key in row["label_keys"] or ())

    def _forgotten_until(self, folder: Path) -> dict[str, int]:
        until: dict[str, int] = {}
        for row in _small_table(folder / "forget", ["user", "occurred_at"]):
            time_us = _time_us(row["occurred_at"])
            if time_us is not None:
                until[row["user"]] = max(time_us, until.get(row["user"], -1))
        return until


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Samples older than `cut_us` to learn from, newer ones to test on."""

    samples: SampleFolder
    cut_us: int
    content: str
    tested: frozenset[int]

    def train(self) -> Iterator[Row]:
        """Yield the older rows, without those that share their text with a tested one."""
        for row in self.samples.rows(end_us=self.cut_us):
            if not self.content or _digest(row[self.content]) not in self.tested:
                yield row

    def test(self) -> Iterator[Row]:
        """Yield the newest rows."""
        return self.samples.rows(begin_us=self.cut_us)


def _newest_of_each(
    ids: NDArray[np.uint64], times: NDArray[np.int64], fit: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which fit rows are the newest of their id; of equals the later one."""
    newest = np.zeros(len(ids), dtype=bool)
    rows = np.flatnonzero(fit)
    order = rows[np.lexsort((rows, times[rows], ids[rows]))]
    if len(order):
        last = np.append(ids[order][1:] != ids[order][:-1], True)
        newest[order[last]] = True
    return newest


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)


def _small_table(folder: Path, columns: list[str]) -> list[Row]:
    found: list[Row] = []
    for path in sorted(folder.glob("date=*/*.parquet")):
        try:
            found += pq.read_table(path, columns=columns, partitioning=None).to_pylist()
        except (OSError, pa.ArrowException) as error:
            # Unlike a lost sample, a lost forget request would do what must not be done.
            raise UnreadableData(f"{path} cannot be read ({_short(error)})") from error
    return found


def _digest(text: Any) -> int:
    digest = hashlib.blake2b(str(text).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _time_us(occurred_at: Any) -> int | None:
    try:
        moment = datetime.fromisoformat(occurred_at)
    except (TypeError, ValueError):
        return None
    return _us(moment) if moment.tzinfo is not None else None


def _us(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _moment(time_us: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(time_us))


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
