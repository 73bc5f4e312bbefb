"""Nearest vectors: exact ones, those that a graph finds, and changes that count at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.search import vector_candidates
from models.search.vector_candidates import DeviceMirror, Shelf, by_product
from models.search.vector_index import VectorIndex

WIDTH = 16
GRAPH = 0  # exact up to no vector at all: the graph serves
EXACT = 1_000_000


@pytest.fixture(autouse=True, params=["few", "many"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search small shelves by their own way, and by that of the large ones."""
    if request.param == "many":
        monkeypatch.setattr(vector_candidates, "_FEW_COLUMNS", 0)


def made(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return vectors (n, D) of different lengths that lie near a few directions."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((6, WIDTH))
    spread = generator.standard_normal((count, 6)) @ directions
    return (spread + 0.3 * generator.standard_normal((count, WIDTH))).astype(np.float32)


def filled(exact_max: int, vectors: NDArray[np.float32], *, unit: bool, at_once: int = 97):
    """Return an index of vectors named by their number, put in loads."""
    index = VectorIndex(WIDTH, exact_max_vectors=exact_max, unit=unit)
    for first in range(0, len(vectors), at_once):
        load = vectors[first : first + at_once]
        index.put([(f"v{first + row:05}", vector, True) for row, vector in enumerate(load)])
    return index


def best(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int, *, unit: bool):
    """Return the ids of the k best by a plain product and sort."""
    exact = vectors.astype(np.float64)
    if unit:
        exact = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    scores = exact @ query.astype(np.float64)
    return [f"v{row:05}" for row in np.argsort(-scores, kind="stable")[:k]]


def ids(found: list[tuple[str, float]]) -> list[str]:
    return [item_id for item_id, _ in found]


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("columns_at_once", [500, 65_536])
def test_exact_search_misses_nothing(
    monkeypatch: pytest.MonkeyPatch, unit: bool, k: int, columns_at_once: int
) -> None:
    """Exact search gives what a plain product and sort gives, by cosine and by dot product."""
    monkeypatch.setattr(vector_candidates, "_COLUMNS_AT_ONCE", columns_at_once)
    vectors, queries = made(1_777), made(5, seed=1)
    found = filled(EXACT, vectors, unit=unit).nearest(queries, k)
    for query, hits in zip(queries, found, strict=True):
        assert ids(hits) == best(vectors, query, k, unit=unit)
    sets = filled(EXACT, vectors, unit=unit).nearest_ids(queries, k)
    assert [sorted(one) for one in sets] == [sorted(ids(hits)) for hits in found]


def test_near_ties_stand_by_id_whatever_the_rounding() -> None:
    """Vectors that float32 cannot tell apart come in the order of their ids, none is missed."""
    vectors = np.tile(made(1), (400, 1))
    found = filled(EXACT, vectors, unit=False).nearest(made(2, seed=1), 5)
    assert [ids(hits) for hits in found] == [[f"v{n:05}" for n in range(5)]] * 2


@pytest.mark.parametrize("exact_max", [EXACT, GRAPH])
def test_an_answer_does_not_depend_on_the_other_queries(exact_max: int) -> None:
    """A query alone and among others, with their own exclusions, gets the same ids and scores."""
    vectors, queries = made(1_500), made(40, seed=2)
    index = filled(exact_max, vectors, unit=False)
    barred = [frozenset(f"v{n:05}" for n in range(row, 600, 7)) for row in range(40)]
    together = index.nearest(queries, 10, barred)
    for row in (0, 17, 39):
        assert index.nearest(queries[row : row + 1], 10, [barred[row]])[0] == together[row]
        assert not set(ids(together[row])) & barred[row]
        assert len(together[row]) == 10


@pytest.mark.parametrize("unit", [True, False])
def test_the_graph_finds_nearly_all(unit: bool) -> None:
    """Of the ten best the graph finds at least 95 %, with their exact scores."""
    vectors, queries = made(3_000), made(100, seed=3)
    exact = filled(EXACT, vectors, unit=unit).nearest(queries, 10)
    near = filled(GRAPH, vectors, unit=unit).nearest(queries, 10)
    shared = [len(set(ids(a)) & set(ids(b))) for a, b in zip(exact, near, strict=True)]
    assert np.mean(shared) >= 9.5
    scores = dict(exact[0])
    assert all(score == scores[i] for i, score in near[0] if i in scores)


@pytest.mark.parametrize("exact_max", [EXACT, GRAPH])
def test_changes_count_at_once(exact_max: int) -> None:
    """What arrives, changes, sells out, comes back or leaves does so before the next answer."""
    vectors = made(800)
    index = filled(exact_max, vectors, unit=True)
    query = made(1, seed=4)
    best_id, second = ids(index.nearest(query, 2)[0])

    index.put([("new", query[0], True)])
    assert index.nearest(query, 1)[0] == [("new", index.nearest(query, 1)[0][0][1])]
    index.put([("new", query[0], False)])
    assert ids(index.nearest(query, 2)[0]) == [best_id, second]
    index.put([("new", -query[0], True)])
    assert ids(index.nearest(query, 2)[0]) == [best_id, second]
    index.put([("new", query[0], True)])
    index.remove(best_id)
    assert ids(index.nearest(query, 2)[0]) == ["new", second]
    index.put([(best_id, vectors[int(best_id[1:])], True)])
    assert ids(index.nearest(query, 3)[0]) == ["new", best_id, second]


def test_the_same_order_gives_the_same_answers() -> None:
    """Two graphs that saw the same arrivals and leavings, in other loads, answer alike."""
    vectors, queries = made(1_200), made(30, seed=5)
    answers = []
    for at_once in (1, 100):
        index = filled(GRAPH, vectors, unit=False, at_once=at_once)
        for number in range(0, 400, 3):
            index.remove(f"v{number:05}")
        for number in range(0, 400, 6):
            index.put([(f"w{number:05}", vectors[number] * 0.9, True)])
        answers.append(index.nearest(queries, 20))
    assert answers[0] == answers[1]


def test_a_graph_is_built_when_the_exact_limit_is_passed() -> None:
    """Up to the limit the search is exact, beyond it the graph serves, and back it is exact."""
    vectors, queries = made(600), made(20, seed=6)
    index = filled(500, vectors[:500], unit=False)
    assert index._graph is None
    index.put([(f"v{n:05}", vectors[n], True) for n in range(500, 600)])
    assert index._graph is not None
    exact = filled(EXACT, vectors, unit=False)
    hits = zip(index.nearest(queries, 10), exact.nearest(queries, 10), strict=True)
    assert np.mean([len({*ids(a)} & {*ids(b)}) for a, b in hits]) >= 9.5
    for number in range(500, 600):
        index.remove(f"v{number:05}")
        exact.remove(f"v{number:05}")
    assert index.nearest(queries, 10) == exact.nearest(queries, 10)


def test_longer_vectors_than_the_graph_was_built_for_are_found() -> None:
    """One giant is found at once and hides nothing; when all grow, the graph is built anew."""
    vectors, query = made(700), made(1, seed=7)
    index = filled(GRAPH, vectors, unit=False)
    index.put([("giant", query[0] * 1_000, True)])
    assert ids(index.nearest(query, 3)[0]) == ["giant", *best(vectors, query[0], 2, unit=False)]
    assert ids(index.nearest(query, 1, [{"giant"}])[0]) == best(vectors, query[0], 1, unit=False)
    before = index._graph
    index.put([(f"v{n:05}", vectors[n] * 1_000, True) for n in range(700)])
    assert index._graph is not before
    found = [ids(hits) for hits in index.nearest(made(20, seed=8), 1)]
    expected = [best(vectors, one, 1, unit=False) for one in made(20, seed=8)]
    assert sum(a == b or a == ["giant"] for a, b in zip(found, expected, strict=True)) >= 19
    index.remove("giant")
    assert "giant" not in ids(index.nearest(query, 3)[0])


def test_the_mirror_of_a_device_finds_what_the_processor_finds() -> None:
    """The way of a GPU (run here on the CPU) and the way of a CPU give candidates of one list."""
    vectors, queries = made(900), made(7, seed=8)
    live = np.ones(900, dtype=np.bool_)
    live[::5] = False
    longest = float(np.linalg.norm(vectors, axis=1).max())
    shelf = Shelf(vectors, live, longest)
    barred = [np.arange(row, dtype=np.int64) for row in range(7)]
    mirror = DeviceMirror(torch.device("cpu"))
    expected = by_product(shelf, queries, 10, barred)
    for found, slots in zip(mirror.candidates(shelf, queries, 10, barred), expected, strict=True):
        assert sorted(found.tolist()) == sorted(slots.tolist())
    vectors[1] = queries[0] * 5
    mirror.stale.add(1)
    shelf = Shelf(vectors, live, float(np.linalg.norm(vectors, axis=1).max()))
    assert 1 in mirror.candidates(shelf, queries, 1, barred)[0]


@pytest.mark.parametrize("exact_max", [EXACT, GRAPH])
def test_empty_and_odd_calls(exact_max: int) -> None:
    """An empty index, k of none or more than there is, and a vector of zeros: no fault."""
    index = VectorIndex(WIDTH, exact_max_vectors=exact_max)
    assert index.nearest(made(2), 5) == [[], []]
    index.put([("zero", np.zeros(WIDTH, dtype=np.float32), True), ("a", made(1)[0], True)])
    assert index.nearest(made(1), 0) == [[]]
    found = index.nearest(made(1), 10)[0]
    assert ids(found)[0] == "a"
    assert np.isfinite([score for _, score in found]).all()
    index.remove("a")
    index.remove("zero")
    assert index.nearest(made(1), 10) == [[]]
