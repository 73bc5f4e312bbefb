"""Which rows are read when: a pure function of the seed, so that a broken-off training goes on.

Rows of like length share a batch, to spend little on padding: each pass is shuffled, cut into
windows of many batches, sorted by length inside a window, and the batches are shuffled again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

_WINDOW_BATCHES = 50


@dataclass(frozen=True, slots=True)
class Draw:
    """A row at a place of the schedule; `epoch` says how often it was drawn before."""

    row: int
    epoch: int
    seed: int

    def generator(self) -> np.random.Generator:
        """Return the random numbers of this draw, the same whenever it is made."""
        return np.random.default_rng((self.seed, self.epoch, self.row))


class Schedule:
    """`steps` batches of rows, pass after pass over all of them."""

    def __init__(
        self, lengths: NDArray[np.integer], *, batch_rows: int, steps: int, seed: int
    ) -> None:
        """Plan over rows of these lengths (n), n at least 1."""
        if not len(lengths):
            raise ValueError("a schedule needs rows")
        self._lengths = lengths
        self._batch_rows = min(batch_rows, len(lengths))
        self._batches = len(lengths) // self._batch_rows  # of one pass; the rest waits its turn
        self.steps = steps
        self.seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    def batch(self, step: int) -> list[Draw]:
        """Return the draws of a step, counted from 0."""
        epoch, place = divmod(step, self._batches)
        if self._order[0] != epoch:
            self._order = (epoch, self._pass(epoch))
        start = place * self._batch_rows
        rows = self._order[1][start : start + self._batch_rows]
        return [Draw(int(row), epoch, self.seed) for row in rows]

    def _pass(self, epoch: int) -> NDArray[np.int64]:
        generator = np.random.default_rng((self.seed, epoch))
        size = self._batch_rows
        rows = generator.permutation(len(self._lengths))[: self._batches * size]
        window = _WINDOW_BATCHES * size
        for start in range(0, len(rows), window):
            part = rows[start : start + window]
            rows[start : start + window] = part[np.argsort(self._lengths[part], kind="stable")]
        batches = rows.reshape(self._batches, size)
        return np.asarray(batches[generator.permutation(self._batches)].reshape(-1))


class Steps(Dataset[int]):
    """The steps of a training as a data set: item i is step i, and the collator makes its batch."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._count

    def __getitem__(self, step: int) -> int:
        """Return the step."""
        return step


def steps_of(rows: int, batch_rows: int, epochs: float) -> int:
    """Return how many steps `epochs` passes over the rows take, one at least."""
    per_pass = max(1, rows // min(batch_rows, rows)) if rows else 1
    return max(1, round(epochs * per_pass))
