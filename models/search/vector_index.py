"""Nearest neighbours, by cosine or dot product, over vectors that come and go.

Candidates (vector_candidates.py, vector_graph.py) are scored again in float64, row by row, so
that a score depends on the two vectors alone and not on slot, batch or device.
On a GPU, and on a CPU up to `exact_max_vectors`, no better one is missed, and the answers depend
only on the set of vectors. Beyond that a CPU walks a graph: the answers then depend on the order
in which vectors came, went and changed as well; the same order gives the same answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice, repeat
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray

from models.search.vector_candidates import DeviceMirror, Shelf, by_product
from models.search.vector_graph import VectorGraph

Vector = NDArray[np.float32]
Scores = NDArray[np.float64]

_FIRST_CAPACITY = 1_024
SCORE_DIGITS = 6
EXACT_MAX_VECTORS = 100_000


class VectorChanges:
    """The ids whose vectors came, changed or went since they were taken last; for one follower."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Begin with all there are."""
        self._ids = dict.fromkeys(ids)

    def note(self, ids: Iterable[str]) -> None:
        """Add ids; one that is noted already moves to the end."""
        for item_id in ids:
            self._ids.pop(item_id, None)
            self._ids[item_id] = None

    def __len__(self) -> int:
        """Return how many wait to be taken."""
        return len(self._ids)

    def take(self, most: int | None = None) -> list[str]:
        """Return the ids in the order of their last change, at most so many; they wait no more."""
        taken = list(islice(self._ids, most))
        for item_id in taken:
            del self._ids[item_id]
        return taken


class VectorIndex:
    """Vectors by id; slots of removed ids are used again, the matrix grows by doubling.

    Not thread-safe: one thread at a time.
    """

    def __init__(
        self,
        width: int,
        device: str = "cpu",
        *,
        exact_max_vectors: int = EXACT_MAX_VECTORS,
        unit: bool = True,
    ) -> None:
        """Make an empty index of vectors of shape (width,).

        Args:
            device: a torch device; on a GPU every search is exact.
            exact_max_vectors: on a CPU, up to so many.
            unit: bring vectors to length 1, so that dot products are cosines.
        """
        self.width = width
        self._exact_max_vectors = exact_max_vectors
        self._unit = unit
        self._longest = 1.0
        self._device = torch.device(device)
        self._matrix = np.zeros((_FIRST_CAPACITY, width), dtype=np.float32)
        self._live = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._ids: list[str] = []  # by slot
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._followers: WeakSet[VectorChanges] = WeakSet()
        self._graph: VectorGraph | None = None
        self._mirror: DeviceMirror | None = None
        if self._device.type != "cpu":
            self._mirror = DeviceMirror(self._device)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._slots)

    def __contains__(self, item_id: object) -> bool:
        """Say whether the index holds a vector of this id."""
        return item_id in self._slots

    @property
    def memory_bytes(self) -> int:
        """Return what vectors and graph take in main memory, ids and slots not counted."""
        graph = self._graph.memory_bytes if self._graph is not None else 0
        return self._matrix.nbytes + self._live.nbytes + graph

    def put(self, items: Sequence[tuple[str, Vector, bool]]) -> None:
        """Add or replace vectors of shape (D,), ids unique.

        Args:
            items: id, vector, and whether `nearest` may return it (`vectors_of` always does).
        """
        if not items:
            return
        exact = np.stack([vector for _, vector, _ in items]).astype(np.float64)  # (n, D)
        norms = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        if self._unit:
            exact = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
        else:
            self._longest = max(self._longest, float(norms.max()))
        slots = [self._slot_of(item_id) for item_id, _, _ in items]
        self._matrix[slots] = exact
        self._live[slots] = [findable for _, _, findable in items]
        for follower in self._followers:
            follower.note(item_id for item_id, _, _ in items)
        if self._mirror is not None:
            self._mirror.stale.update(slots)
        else:
            self._put_in_graph(np.array(slots, dtype=np.int64))

    def check(self, vector: Vector) -> None:
        """Raise ValueError for a vector of another width, or with numbers that are not finite."""
        if vector.shape != (self.width,):
            raise ValueError(f"a vector of shape {vector.shape} where ({self.width},) is expected")
        if not np.isfinite(vector).all():
            raise ValueError("a vector holds numbers that are not finite")

    def remove(self, item_id: str) -> None:
        """Remove a vector; an unknown id changes nothing."""
        slot = self._slots.pop(item_id, None)
        if slot is None:
            return
        self._live[slot] = False
        self._free.append(slot)
        for follower in self._followers:
            follower.note([item_id])
        if self._mirror is not None:
            self._mirror.stale.add(slot)
        elif self._graph is not None:
            self._graph.remove(np.array([slot], dtype=np.int64))

    def vectors_of(self, ids: Sequence[str]) -> tuple[Vector, NDArray[np.bool_]]:
        """Return the vectors of shape (n, D), zeros for unknown ids, and which were found."""
        slots = self._slots_of(ids)
        found = slots >= 0
        vectors = self._matrix.take(slots, axis=0)  # a copy; of an unknown id some row or other
        if not found.all():
            vectors[~found] = 0.0
        return vectors, found

    def follow(self) -> VectorChanges:
        """Return what names every change from now on, and first all that is there."""
        changes = VectorChanges(self._slots)
        self._followers.add(changes)
        return changes

    def nearest(
        self, vectors: Vector, k: int, exclude: Sequence[Collection[str]] = ()
    ) -> list[list[tuple[str, float]]]:
        """Return for each row of `vectors` (Q, D) at most `k` ids with their score, best first.

        Ties stand in the order of the ids. `exclude` names, row by row, ids it must not return.
        """
        return [
            self._rank(vector, slots, k)
            for vector, slots in zip(vectors, self._near(vectors, k, exclude), strict=True)
        ]

    def nearest_scores(self, vectors: Vector, k: int) -> list[dict[str, float]]:
        """Return what `nearest` does, in no order."""
        found: list[dict[str, float]] = []
        for vector, slots in zip(vectors, self._near(vectors, k, ()), strict=True):
            if len(slots) > k:
                found.append(dict(self._rank(vector, slots, k)))
            else:
                ids = [self._ids[slot] for slot in slots.tolist()]
                found.append(dict(zip(ids, self._exact(vector, slots).tolist(), strict=True)))
        return found

    def nearest_ids(
        self, vectors: Vector, k: int, exclude: Sequence[Collection[str]] = ()
    ) -> list[list[str]]:
        """Return the ids that `nearest` does, in no order: half the work where scores are not read.

        Only where rounding leaves open which are the `k` best are they scored again.
        """
        return [
            [self._ids[slot] for slot in slots.tolist()]
            if len(slots) <= k
            else [item_id for item_id, _ in self._rank(vector, slots, k)]
            for vector, slots in zip(vectors, self._near(vectors, k, exclude), strict=True)
        ]

    def cosines(self, vector: Vector, ids: Sequence[str]) -> tuple[Scores, NDArray[np.bool_]]:
        """Return the exact cosines (n) of a vector (D,) to ids, and which of them have a vector."""
        slots = self._slots_of(ids)
        found = slots >= 0
        cosines = np.zeros(len(ids))
        cosines[found] = self._exact(vector, slots[found])
        return cosines, found

    def _near(
        self, vectors: Vector, k: int, exclude: Sequence[Collection[str]]
    ) -> Sequence[NDArray[np.int64]]:
        """Return for each row of `vectors` the slots that can stand among its `k` best."""
        nothing = np.empty(0, dtype=np.int64)
        if k <= 0 or not self._slots:
            return [nothing] * len(vectors)
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        barred = [
            np.array([self._slots[i] for i in ids if i in self._slots], dtype=np.int64)
            for ids in exclude
        ] or [nothing] * len(queries)
        return self._candidates(queries, k, barred)

    def _slots_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the slots of ids, -1 for unknown ones: (n,)."""
        return np.array([*map(self._slots.get, ids, repeat(-1))], dtype=np.int64)

    def _slot_of(self, item_id: str) -> int:
        """Return the slot of an id, a new one for a new id."""
        slot = self._slots.get(item_id)
        if slot is not None:
            return slot
        if self._free:
            slot = self._free.pop()
            self._ids[slot] = item_id
        else:
            slot = len(self._ids)
            self._ids.append(item_id)
            if slot == len(self._matrix):
                self._grow()
        self._slots[item_id] = slot
        return slot

    def _grow(self) -> None:
        capacity = 2 * len(self._matrix)
        matrix = np.zeros((capacity, self.width), dtype=np.float32)
        matrix[: len(self._matrix)] = self._matrix
        live = np.zeros(capacity, dtype=np.bool_)
        live[: len(self._live)] = self._live
        self._matrix, self._live = matrix, live

    def _put_in_graph(self, slots: NDArray[np.int64]) -> None:
        """Bring the graph, where one is needed, to what the matrix holds in these slots."""
        if self._graph is None and len(self._slots) <= self._exact_max_vectors:
            return
        if self._graph is not None:
            live = self._live[slots]
            self._graph.remove(slots[~live])
            self._graph.put(slots[live], self._matrix[slots[live]])
        if self._graph is None or self._graph.outgrown:
            self._graph = VectorGraph.of_shelf(self._shelf(), unit=self._unit)

    def _shelf(self) -> Shelf:
        used = len(self._ids)
        return Shelf(self._matrix[:used], self._live[:used], self._longest)

    def _candidates(
        self, queries: Vector, k: int, barred: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Return for each query the slots that can stand among its `k` best, unsorted."""
        shelf = self._shelf()
        if self._mirror is not None:
            return self._mirror.candidates(shelf, queries, k, barred)
        if self._graph is not None and len(self._slots) > self._exact_max_vectors:
            return self._graph.candidates(queries, k, barred)
        return by_product(shelf, queries, k, barred)

    def _exact(self, vector: Vector, slots: NDArray[np.int64]) -> Scores:
        # a sum along each row: unlike a BLAS product it does not depend on the shape
        rows, row = self._matrix[slots].astype(np.float64), np.asarray(vector, np.float64)
        product: Scores = np.einsum("nd,d->n", rows, row)
        return product.round(SCORE_DIGITS) + 0.0  # + 0.0: no minus zero

    def _rank(self, vector: Vector, slots: NDArray[np.int64], k: int) -> list[tuple[str, float]]:
        scores = self._exact(vector, slots)
        ids = [self._ids[slot] for slot in slots.tolist()]
        # pairs that sort by themselves: with a key function this line costs the most of a batch
        ranked = sorted(zip((-scores).tolist(), ids, strict=True))[:k]
        return [(item_id, 0.0 - negative) for negative, item_id in ranked]
