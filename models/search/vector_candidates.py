"""Which vectors can stand among the best for a query, by a matrix product on a CPU or a GPU.

The product in float32 misses none of the best; `VectorIndex` scores what it finds again in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Slots = NDArray[np.int64]

# Above twice the float32 error of a dot product of vectors of length 1.
_ROUNDING = 1e-5
_COLUMNS_AT_ONCE = 65_536  # of the score matrix: with a few hundred rows it stays below 64 MB
_FEW_COLUMNS = 4_096  # up to here a row's k-th best is found at once
_CELLS_AT_ONCE = 16_000_000
_LEAST_SHARE = 4  # columns' maxima looked at, per slot wanted


@dataclass(frozen=True, slots=True)
class Shelf:
    """The vectors a search reads."""

    matrix: Vector  # by slot, (N, D)
    live: NDArray[np.bool_]  # which slots may be returned, (N,)
    longest: float = 1.0  # no vector is longer

    def margins(self, queries: Vector) -> Vector:
        """Return by how much rounding could bring a score of each query too low, (Q,)."""
        return np.asarray(_ROUNDING * self.longest * np.linalg.norm(queries, axis=1))


def by_product(shelf: Shelf, queries: Vector, k: int, barred: Sequence[Slots]) -> list[Slots]:
    """Return for each query every slot that can stand among its `k` best, unsorted.

    Args:
        shelf: what is searched.
        queries: (Q, D).
        k: at least 1.
        barred: for each query the slots it must not return.
    """
    matrix = shelf.matrix
    rows_at_once = max(1, _CELLS_AT_ONCE // min(_COLUMNS_AT_ONCE, max(1, len(matrix))))
    found: list[Slots] = []
    for start in range(0, len(queries), rows_at_once):
        rows = slice(start, start + rows_at_once)
        found.extend(_rows_by_product(shelf, queries[rows], k, barred[rows]))
    return found


def _rows_by_product(shelf: Shelf, queries: Vector, k: int, barred: Sequence[Slots]) -> list[Slots]:
    margins = shelf.margins(queries)
    if len(shelf.matrix) <= _FEW_COLUMNS:
        return _few_by_product(shelf, queries, k, barred, margins)
    kept: list[tuple[Slots, Slots, Vector]] = []
    for first in range(0, len(shelf.matrix), _COLUMNS_AT_ONCE):
        columns = slice(first, first + _COLUMNS_AT_ONCE)
        scores = queries @ shelf.matrix[columns].T  # (Q, n)
        dead = np.flatnonzero(~shelf.live[columns])
        if len(dead):
            scores[:, dead] = -np.inf
        for row, slots in enumerate(barred):
            here = slots[(slots >= first) & (slots < first + scores.shape[1])]
            scores[row, here - first] = -np.inf
        near = scores >= (_least_of_best(scores, k) - margins)[:, None]
        rows, places = np.nonzero(near)
        values = scores[rows, places]
        finite = np.isfinite(values)  # (c,)
        kept.append((rows[finite], places[finite] + first, values[finite]))
    rows, slots, values = (np.concatenate(part) for part in zip(*kept, strict=True))
    order = np.argsort(rows, kind="stable")
    rows, slots, values = rows[order], slots[order], values[order]
    ends = np.searchsorted(rows, np.arange(len(queries) + 1))
    return [
        slots[start:end][_near_best(values[start:end], k, margin)]
        for start, end, margin in zip(
            ends[:-1].tolist(), ends[1:].tolist(), margins.tolist(), strict=True
        )
    ]


def _few_by_product(
    shelf: Shelf, queries: Vector, k: int, barred: Sequence[Slots], margins: Vector
) -> list[Slots]:
    """Do what `_rows_by_product` does, where one partition a row costs less than its groups."""
    scores = queries @ shelf.matrix.T  # (Q, N)
    dead = np.flatnonzero(~shelf.live)
    if len(dead):
        scores[:, dead] = -np.inf
    for row, slots in zip(scores, barred, strict=True):
        if len(slots):
            row[slots] = -np.inf
    place = scores.shape[1] - k
    near = scores > -np.inf
    if place > 0:
        least = np.partition(scores, place, axis=1)[:, place] - margins
        near &= scores >= least[:, None]
    return [np.flatnonzero(row) for row in near]


def _least_of_best(scores: Vector, k: int) -> Vector:
    """Return for each row of (Q, n) a number that at least `k` of its scores reach, (Q,).

    The k-th best of the maxima of groups of scores is one, and far cheaper than the k-th best.
    """
    count = scores.shape[1]
    group = count // (_LEAST_SHARE * k)
    if group >= 2:
        maxima = scores[:, : count // group * group].reshape(len(scores), group, -1).max(axis=1)
    else:
        maxima = scores
    if k >= maxima.shape[1]:
        return np.full(len(scores), -np.inf, dtype=np.float32)
    place = maxima.shape[1] - k
    return np.asarray(np.partition(maxima, place, axis=1)[:, place])


def _near_best(values: Vector, k: int, margin: float) -> NDArray[np.bool_]:
    """Return which values rounding could bring among the `k` best."""
    if k >= len(values):
        return np.ones(len(values), dtype=np.bool_)
    kth = np.partition(values, len(values) - k)[len(values) - k]
    return np.asarray(values >= kth - margin)


class DeviceMirror:
    """A copy of the matrix on a GPU; only rows that changed travel."""

    def __init__(self, device: torch.device) -> None:
        self.stale: set[int] = set()
        self._device = device
        self._matrix = torch.empty((0, 0), device=device)
        self._live = torch.empty(0, dtype=torch.bool, device=device)

    def refresh(self, shelf: Shelf) -> None:
        """Take over the rows that changed; before every search."""
        matrix, live = shelf.matrix, shelf.live
        if len(self._matrix) < len(matrix):
            capacity = max(len(matrix), 2 * len(self._matrix))
            self._matrix = torch.zeros((capacity, matrix.shape[1]), device=self._device)
            self._live = torch.zeros(capacity, dtype=torch.bool, device=self._device)
            self.stale = set(range(len(matrix)))
        if self.stale:
            slots = np.array(sorted(self.stale), dtype=np.int64)
            rows = torch.from_numpy(slots).to(self._device)
            self._matrix[rows] = torch.from_numpy(matrix[slots]).to(self._device)
            self._live[rows] = torch.from_numpy(live[slots]).to(self._device)
            self.stale.clear()

    def candidates(
        self, shelf: Shelf, queries: Vector, k: int, barred: Sequence[Slots]
    ) -> list[Slots]:
        """Return what `by_product` does."""
        self.refresh(shelf)
        margins = shelf.margins(queries)
        rows_at_once = max(1, _CELLS_AT_ONCE // max(1, len(self._matrix)))
        found: list[Slots] = []
        for start in range(0, len(queries), rows_at_once):
            rows = slice(start, start + rows_at_once)
            found.extend(self._rows(queries[rows], margins[rows], k, barred[rows]))
        return found

    def _rows(
        self, queries: Vector, margins: Vector, k: int, barred: Sequence[Slots]
    ) -> list[Slots]:
        here = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self._device)
        scores = here @ self._matrix.T  # (Q, N)
        scores[:, ~self._live] = -torch.inf
        owners = np.repeat(np.arange(len(barred)), [len(slots) for slots in barred])
        if len(owners):
            slots = torch.from_numpy(np.concatenate(barred)).to(self._device)
            scores[torch.from_numpy(owners).to(self._device), slots] = -torch.inf
        kth = torch.topk(scores, min(k, scores.shape[1]), dim=1).values[:, -1:]  # (Q, 1)
        least = kth - torch.from_numpy(margins[:, None]).to(self._device)
        near = (scores >= least) & torch.isfinite(scores)
        return [row.nonzero()[:, 0].cpu().numpy() for row in near]
