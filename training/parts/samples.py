"""The samples of one kind or of several, in the order of time, as the job cuts and counts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.rows import UnreadableData
from training.dataset import Kind, Row, SampleFolder


class PartSamples:
    """What a part learns from; rows carry their `kind`. A kind without samples is left out."""

    def __init__(self, folder: Path, kinds: Sequence[Kind]) -> None:
        """Read what must be known of all rows; raises UnreadableData where no kind has any."""
        self.folders: list[SampleFolder] = []
        faults: list[str] = []
        for kind in kinds:
            try:
                self.folders.append(SampleFolder(folder, kind))
            except UnreadableData as error:
                faults.append(str(error))
        if not self.folders:
            raise UnreadableData("; ".join(faults))
        self._times: NDArray[np.int64] = np.concatenate([one.times_us for one in self.folders])

    @property
    def kept(self) -> int:
        """How many rows may be used."""
        return len(self._times)

    @property
    def last_us(self) -> int:
        """The time of the newest row, in µs since 1970."""
        return int(self._times.max())

    def notes(self) -> list[str]:
        """Return what was left out, a sentence each."""
        return [
            f"{one.kind} samples: {line}" for one in self.folders for line in one.report.sentences()
        ]

    def count_since(self, begin_us: int) -> int:
        """Return how many rows are not older than a time."""
        return int((self._times >= begin_us).sum())

    def split_time_us(self, test_share: float) -> int:
        """Return from when on the newest share of the rows lies; raises UnreadableData."""
        if len(self.folders) == 1:
            return self.folders[0].split_time_us(test_share)
        cut = int(np.quantile(self._times, 1 - test_share, method="higher"))
        if cut <= self._times.min():
            raise UnreadableData(
                f"{self.kept:,} samples cannot be split by time; collect more of them"
            )
        return cut

    def learnt(self, cut_us: int) -> Iterator[Row]:
        """Yield the rows before a time, without those that share their text with a later one."""
        return _together([(one, one.split_at(cut_us).train()) for one in self.folders])

    def tested(self, cut_us: int, end_us: int) -> Iterator[Row]:
        """Yield the rows from a time on, up to another."""
        return _together([(one, one.rows(cut_us, end_us)) for one in self.folders])


def _together(found: Sequence[tuple[SampleFolder, Iterator[Row]]]) -> Iterator[Row]:
    streams = [_of_kind(one.kind, rows) for one, rows in found]
    return merge(*streams, key=lambda row: str(row["occurred_at"])) if streams[1:] else streams[0]


def _of_kind(kind: Kind, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        yield {**row, "kind": kind}
