"""Vectors of texts seen before: a text's vector is a pure function of the text and the trunk.

Because every text is padded to its own length bucket, a cached vector has the same bits as a fresh
one; so the cache changes cost, never results.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from models.text_encoder import Role

Vector = NDArray[np.float32]
TextKey = tuple[Role, str]


class VectorCache:
    """A least-recently-used map from (role, text) to vector; safe between threads."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._vectors: OrderedDict[TextKey, Vector] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def find(self, keys: Iterable[TextKey]) -> dict[TextKey, Vector]:
        """Return the vectors that are known, and mark them as used."""
        found: dict[TextKey, Vector] = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    found[key] = vector
        return found

    def put(self, vectors: Iterable[tuple[TextKey, Vector]]) -> None:
        """Keep copies of vectors; the least recently used go when there are too many.

        Copies, because a row of a pass holds the whole pass in memory for as long as it is kept.
        """
        with self._lock:
            for key, vector in vectors:
                self._vectors[key] = vector.copy()
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._max_entries:
                self._vectors.popitem(last=False)
