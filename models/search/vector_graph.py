"""Which vectors can stand among the best for a query, by walking a graph: quick, and misses a few.

Beyond some hundred thousand vectors this is quicker on a CPU than a matrix product; what it finds
of the best is measured in docs/recommender.md.

Sources: Malkov and Yashunin, Efficient and Robust Approximate Nearest Neighbor Search Using
Hierarchical Navigable Small World Graphs (2016); Bachrach et al., Speeding Up the Xbox Recommender
System Using a Euclidean Transformation for Inner-Product Spaces (2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from models.search.vector_candidates import Shelf, Slots, Vector

# The graph: neighbours of a vector, and how many are weighed when it is added and searched.
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 256
_TYPICAL_SHARE = 0.999  # of the vectors lie within the radius, with room to grow
_RADIUS_ROOM = 1.2
_MIN_LONG = 64
_SPARE = 32  # found beyond those wanted, so that scoring again may change their order


class VectorGraph:
    """Vectors in 8 bits in an HNSW graph of usearch, keyed by slot.

    Vectors are added one after the other by one thread: the same vectors added and removed in the
    same order give the same answers, on one kind of CPU. Vectors that are not of length 1 get one
    more number that brings them all to the length `radius`: then the greatest dot product is the
    greatest cosine. The few that are longer are candidates of every query.
    """

    def __init__(self, width: int, radius: float | None = None) -> None:
        """Make an empty graph of vectors of shape (width,); no `radius`: they have length 1."""
        self._radius = radius
        self._index = Index(
            ndim=width if radius is None else width + 1,
            metric="cos",
            dtype="i8",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )
        self._held: set[int] = set()
        self._long: dict[int, None] = {}  # slots of vectors longer than the radius, in order

    @classmethod
    def of_shelf(cls, shelf: Shelf, *, unit: bool) -> VectorGraph:
        """Build a graph of the vectors that may be returned, in the order of their slots."""
        slots = np.flatnonzero(shelf.live)
        lengths = np.linalg.norm(shelf.matrix[slots], axis=1)
        typical = 1.0 if unit or not len(slots) else float(np.quantile(lengths, _TYPICAL_SHARE))
        graph = cls(shelf.matrix.shape[1], None if unit else max(_RADIUS_ROOM * typical, 1e-6))
        graph.put(slots, shelf.matrix[slots])
        return graph

    @property
    def outgrown(self) -> bool:
        """Whether so many vectors are longer than the radius that it should be built anew."""
        return len(self._long) > max(_MIN_LONG, 2 * (1 - _TYPICAL_SHARE) * len(self._held))

    @property
    def memory_bytes(self) -> int:
        """Return what the graph takes in memory."""
        return int(self._index.memory_usage)

    def put(self, slots: Slots, vectors: Vector) -> None:
        """Add vectors (n, D), or replace those of their slots, in this order."""
        self.remove(slots)
        if self._radius is not None:
            rest = self._radius**2 - (vectors.astype(np.float64) ** 2).sum(axis=1)
            self._long.update(dict.fromkeys(slots[rest < 0].tolist()))
            slots, vectors = slots[rest >= 0], _widened(vectors, np.sqrt(np.maximum(rest, 0)))
            vectors = vectors[rest >= 0]
        if len(slots):
            self._index.add(slots.astype(np.uint64), vectors, threads=1)
            self._held.update(slots.tolist())

    def remove(self, slots: Slots) -> None:
        """Remove the vectors of slots; a slot that has none changes nothing."""
        for slot in slots.tolist():
            self._long.pop(slot, None)
            if slot in self._held:
                self._index.remove(slot)
                self._held.discard(slot)

    def candidates(self, queries: Vector, k: int, barred: Sequence[Slots]) -> list[Slots]:
        """Return for each query slots near it, at least `k` where the graph has as many."""
        if self._radius is not None:
            queries = _widened(queries, np.zeros(len(queries)))
        found: list[Slots] = []
        for query, slots in zip(queries, barred, strict=True):
            away = set(slots.tolist())
            long = np.array([slot for slot in self._long if slot not in away], dtype=np.int64)
            found.append(np.concatenate([self._near(query, k, away), long]))
        return found

    def _near(self, query: Vector, k: int, barred: set[int]) -> Slots:
        count = k + _SPARE
        while self._held:
            keys = self._index.search(query, min(count, len(self._held)), threads=1).keys
            slots = np.asarray(keys).astype(np.int64)
            if barred:
                slots = np.array([s for s in slots.tolist() if s not in barred], dtype=np.int64)
            if len(slots) >= k or count >= len(self._held) or count >= k + _SPARE + len(barred):
                return slots
            count = min(4 * count, k + _SPARE + len(barred))
        return np.empty(0, dtype=np.int64)


def _widened(vectors: Vector, last: NDArray[np.float64]) -> Vector:
    """Return the vectors (n, D) with one more number each, (n, D + 1)."""
    return np.concatenate([vectors, last[:, None]], axis=1, dtype=np.float32)
