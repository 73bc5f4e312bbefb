"""The cache of text vectors: what it keeps, and what that costs."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from models.text.null_encoder import NullEncoder
from models.text_encoder import Encodings
from worker.pipeline.vector_cache import VectorCache
from worker.replay.prefetch import PrefetchingTrunk


class Pass(np.ndarray):
    """An array that can be watched as it goes."""


def make_pass(rows: int, width: int = 4) -> Pass:
    return np.arange(rows * width, dtype=np.float32).reshape(rows, width).view(Pass)


def test_the_least_recently_used_vectors_go() -> None:
    """Of more vectors than the cache holds those stay that were put or found last."""
    cache = VectorCache(2)
    first, second, third = make_pass(3)
    cache.put([(("query", "a"), first), (("query", "b"), second)])
    cache.find([("query", "a")])
    cache.put([(("query", "c"), third)])
    found = cache.find([("query", name) for name in "abc"])
    assert {text for _, text in found} == {"a", "c"}
    assert found["query", "c"].tolist() == third.tolist()


def test_a_kept_vector_does_not_hold_its_pass() -> None:
    """The array of a pass is freed though one of its rows is kept, by the cache or read ahead."""
    cache = VectorCache(10)
    whole = make_pass(1_000)
    watched = weakref.ref(whole)
    cache.put([(("query", "a"), whole[0])])
    del whole
    gc.collect()
    assert watched() is None
    assert cache.find([("query", "a")])["query", "a"].tolist() == [0, 1, 2, 3]

    class Watched(NullEncoder):
        def encode(self, tokens, head_rows={}):  # type: ignore[no-untyped-def]  # noqa: B006
            nonlocal watched
            whole = make_pass(len(tokens), self.width)
            watched = weakref.ref(whole)
            return Encodings(whole, {})

    ahead = PrefetchingTrunk(Watched(width=4))
    ahead.prefetch(ahead.tokenize(["tea", "pot"], "query"), {})
    gc.collect()
    assert watched() is None
    assert len(ahead.encode(ahead.tokenize(["pot"], "query")).vectors) == 1
