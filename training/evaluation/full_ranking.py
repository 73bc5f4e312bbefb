"""Where the right items stand when the whole catalogue is ranked, ties against the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.interactions import Rows

Scores = NDArray[np.float32]
UNREACHABLE = np.iinfo(np.int64).max  # the place of a target that is no candidate


@dataclass(frozen=True, slots=True)
class RankedCase:
    """What one ranking of V items said about one case.

    `places` are those of the targets, 1 for the best, ascending and distinct; `shown` the item rows
    of the first k, best first (fewer where there are fewer candidates with a score).
    """

    places: Rows
    shown: Rows


def rank_case(scores: Scores, targets: Rows, removed: Rows, k: int) -> RankedCase:
    """Rank all items by score (V,), without those in `removed`.

    Every item that is no target and scores as high as a target stands before it, so a model that
    gives all items one score finds nothing. A score of -inf is no score: such an item is not shown
    and, as a target, out of reach.
    """
    ranked = scores.copy()
    ranked[removed] = -np.inf
    candidates = ranked > -np.inf
    is_target = np.zeros(len(scores), bool)
    is_target[targets] = True
    rivals = ranked[candidates & ~is_target]
    reached = targets[candidates[targets]]
    mine = np.sort(ranked[reached])[::-1]
    before = np.array([np.count_nonzero(rivals >= score) for score in mine], np.int64)
    places = np.full(len(targets), UNREACHABLE)
    places[: len(mine)] = before + np.arange(1, len(mine) + 1)
    return RankedCase(places, _first(ranked, int(candidates.sum()), k))


def case_metrics(cases: Sequence[RankedCase], k: int) -> dict[str, NDArray[np.float64]]:
    """Return each metric's value for each case: HR, recall, nDCG (binary gains) and MRR at k."""
    table = np.zeros((len(cases), 4), np.float64)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    for row, case in enumerate(cases):
        found = case.places[case.places <= k]
        if len(found):
            ideal = discounts[: len(case.places)].sum()
            gain = discounts[found - 1].sum()
            table[row] = (1, len(found) / len(case.places), gain / ideal, 1 / found[0])
    names = (f"hr@{k}", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}")
    return {name: table[:, column] for column, name in enumerate(names)}


def _first(ranked: Scores, candidates: int, k: int) -> Rows:
    """Return the best k rows; equal scores by row, so that the same scores show the same items."""
    k = min(k, candidates)
    if not k:
        return np.zeros(0, np.int64)
    worst = np.partition(ranked, len(ranked) - k)[len(ranked) - k]
    rows = np.flatnonzero(ranked >= worst)  # more than k only where scores tie
    return rows[np.argsort(-ranked[rows], kind="stable")][:k]
