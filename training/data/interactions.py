"""Who chose what, in time order: interactions from the usual public formats, nothing lost unseen.

Lines of `user item [timestamp]` (plain or .gz), CSV, TSV, JSON lines and Parquet become one
`Interactions`; what is no interaction is counted and reported with its line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.interaction_columns import InteractionsError
from training.data.interaction_rows import BadRow, ColumnNames, Row, interaction_rows

Rows = NDArray[np.int64]
_SHOWN_BAD_ROWS = 5


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading a file came across."""

    source: str
    columns: str
    interactions: int
    bad_rows: int = 0
    first_bad: tuple[BadRow, ...] = ()
    out_of_order: int = 0  # rows earlier than the row before of the same user; sorted
    tied: int = 0  # rows at the same time as the row before of the same user; the file's order kept
    repeated: int = 0  # rows with the user, item and time of an earlier row; kept

    def sentences(self) -> list[str]:
        """Return the report for people, one sentence a line."""
        lines = [f"{self.interactions:,} interactions from {self.source} ({self.columns})"]
        if self.bad_rows:
            shown = "; ".join(f"line {row.line}: {row.reason}" for row in self.first_bad)
            more = "" if self.bad_rows <= len(self.first_bad) else "; …"
            lines.append(f"skipped {self.bad_rows:,} rows that are no interaction: {shown}{more}")
        if self.out_of_order:
            lines.append(f"{self.out_of_order:,} rows were out of time order: sorted, ties as read")
        if self.tied:
            lines.append(f"{self.tied:,} rows share the time of the user's row before: order kept")
        if self.repeated:
            lines.append(f"{self.repeated:,} rows repeat an earlier user, item and time: kept")
        return lines


@dataclass(frozen=True, slots=True)
class Interactions:
    """N interactions, oldest first (ties, and files without times, in the file's order).

    `users` and `items` (N,) are places in `user_ids` and `item_ids`; `timestamps_ms` (N,) is
    milliseconds since 1970, or None where the file has no times.
    """

    users: Rows
    items: Rows
    timestamps_ms: Rows | None
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    report: ReadReport

    def __len__(self) -> int:
        """Return N."""
        return len(self.users)

    @property
    def user_count(self) -> int:
        """How many users the id table has, with or without interactions here."""
        return len(self.user_ids)

    @property
    def item_count(self) -> int:
        """How many items the id table has (V), with or without interactions here."""
        return len(self.item_ids)

    def by_user(self) -> list[Rows]:
        """Return for each user the places (in 0…N-1) of the user's interactions, oldest first."""
        order = np.argsort(self.users, kind="stable")
        ends = np.cumsum(np.bincount(self.users, minlength=self.user_count))
        return np.split(order, ends[:-1])

    def sequences(self) -> list[Rows]:
        """Return for each user the items chosen, oldest first; empty for a user without any."""
        return [self.items[places] for places in self.by_user()]

    def take(self, places: Rows) -> Interactions:
        """Return the interactions at these places (ascending), with the same id tables."""
        times = None if self.timestamps_ms is None else self.timestamps_ms[places]
        return replace(
            self, users=self.users[places], items=self.items[places], timestamps_ms=times
        )


def read_interactions(
    path: Path,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    timestamp_column: str | None = None,
) -> Interactions:
    """Read a file of interactions; columns not named are guessed from the usual names.

    Times are numbers (seconds, milli-, micro- or nanoseconds since 1970, told by their size) or
    ISO 8601, UTC where they name no zone. Rows are sorted by time, stably.

    Raises:
        InteractionsError: the file cannot be read, lacks a column, or holds no interaction.
    """
    columns, rows = interaction_rows(path, ColumnNames(user_column, item_column, timestamp_column))
    table = _Table()
    for row in rows:
        table.add(row)
    times_ms = None if columns.time_place is None else table.times_ms()
    report = ReadReport(
        path.name, str(columns), len(table.users), table.bad_rows, tuple(table.first_bad)
    )
    if not table.users:
        raise InteractionsError(f"{path} holds no interactions; {' '.join(report.sentences()[1:])}")
    return _ordered(
        Interactions(
            np.array(table.users, np.int64),
            np.array(table.items, np.int64),
            times_ms,
            tuple(table.user_places),
            tuple(table.item_places),
            report,
        )
    )


def _ordered(read: Interactions) -> Interactions:
    """Sort by time, stably, and count what was out of order, tied or repeated."""
    times = read.timestamps_ms
    if times is None:
        return read
    by_user = np.argsort(read.users, kind="stable")
    same_user = np.diff(read.users[by_user]) == 0
    out_of_order = int((same_user & (np.diff(times[by_user]) < 0)).sum())
    done = read.take(np.argsort(times, kind="stable"))
    assert done.timestamps_ms is not None
    by_user = np.argsort(done.users, kind="stable")
    same_user = np.diff(done.users[by_user]) == 0
    tied = int((same_user & (np.diff(done.timestamps_ms[by_user]) == 0)).sum())
    keys = np.stack([done.users, done.items, done.timestamps_ms], axis=1)
    repeated = len(keys) - len(np.unique(keys, axis=0)) if tied else 0
    report = replace(read.report, out_of_order=out_of_order, tied=tied, repeated=repeated)
    return replace(done, report=report)


@dataclass(slots=True)
class _Table:
    """Rows as they are read, ids by first appearance."""

    users: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    numeric: list[bool] = field(default_factory=list)
    user_places: dict[str, int] = field(default_factory=dict)
    item_places: dict[str, int] = field(default_factory=dict)
    bad_rows: int = 0
    first_bad: list[BadRow] = field(default_factory=list)

    def add(self, row: Row | BadRow) -> None:
        if isinstance(row, Row) and row.time is not None:
            read = _time(row.time)
            if read is None:
                row = BadRow(row.line, f"{row.time!r} is no time")
            else:
                self.times_s.append(read[0])
                self.numeric.append(read[1])
        if isinstance(row, BadRow):
            self.bad_rows += 1
            if len(self.first_bad) < _SHOWN_BAD_ROWS:
                self.first_bad.append(row)
            return
        self.users.append(self.user_places.setdefault(row.user, len(self.user_places)))
        self.items.append(self.item_places.setdefault(row.item, len(self.item_places)))

    def times_ms(self) -> Rows:
        """Return the times in milliseconds; numbers are in the unit their size tells."""
        times = np.array(self.times_s, np.float64)
        numeric = np.array(self.numeric, bool)
        if numeric.any():
            times[numeric] *= _seconds_per_unit(times[numeric])
        return np.round(times * 1000).astype(np.int64)


def _seconds_per_unit(times: NDArray[np.float64]) -> float:
    """Return the unit of numeric times: seconds reach 1e11 only in the year 5138."""
    middle = float(np.median(np.abs(times)))
    return 1.0 if middle < 1e11 else 1e-3 if middle < 1e14 else 1e-6 if middle < 1e17 else 1e-9


def _time(value: str | float) -> tuple[float, bool] | None:
    """Return (time, whether it was a number of unknown unit); None where it is no time."""
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        return (number, True) if np.isfinite(number) else None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(), False)
