"""How good recommendations are: full ranking of the catalogue, every figure with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.metrics import Estimate, mean_estimate
from training.data.interactions import Interactions, Rows
from training.data.splits import Cases
from training.evaluation.full_ranking import RankedCase, Scores, case_metrics, rank_case

_CELLS_AT_ONCE = 16_000_000  # of a table of scores: 64 MB


class EvaluationError(ValueError):
    """A recommender cannot be measured; the message says why."""


class Scorer(Protocol):
    """A recommender under evaluation, bound to the V items of the interactions."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return (n, V): how likely each item comes next; -inf for items it cannot score.

        Args:
            histories: for each case the item rows chosen so far, oldest first.
            times_ms: their times, where the interactions have any. The time of the item asked for
                is never told.
        """
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """Figures over some of the targets; `values` are those of each case, for paired comparison."""

    name: str
    candidates: str
    cases: int
    metrics: dict[str, Estimate]
    values: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How one scorer did; sections differ in which targets count and what is ranked."""

    scorer: str
    k: int
    remove_seen: bool
    items: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section:
        """Return a section by its name; raises KeyError."""
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(name)


ALL, NEW, REPEATED = "all items", "new items", "repeated items"


def evaluate(
    scorer: Scorer,
    cases: Cases,
    train: Interactions,
    *,
    k: int = 10,
    remove_seen: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Rank all items for each case and return the figures.

    Where some targets stand in their user's own history (repeat purchases), they are shown apart
    as well: new items are ranked among those the user has not had, repeated ones among all.

    Args:
        train: what popularity is counted on.
        remove_seen: whether the items of a user's history are left out of the ranking; a target
            among them then counts as missed.
        progress: told the number of cases done.

    Raises:
        EvaluationError: there are no cases, or the scorer gives NaN or another shape.
    """
    if not len(cases):
        raise EvaluationError("there is no case to evaluate")
    nothing = np.zeros(0, np.int64)
    plans = _plans(cases, remove_seen)
    ranked: list[list[RankedCase]] = [[] for _ in plans]
    at_once = max(1, _CELLS_AT_ONCE // train.item_count)
    for start in range(0, len(cases), at_once):
        stop = min(start + at_once, len(cases))
        times = cases.history_times_ms
        scores = _checked(
            scorer.score(cases.histories[start:stop], None if times is None else times[start:stop]),
            (stop - start, train.item_count),
            scorer.name,
        )
        for plan, done in zip(plans, ranked, strict=True):
            for case in range(start, stop):
                targets = plan.targets[case]
                if len(targets):
                    removed = cases.histories[case] if plan.remove_seen else nothing
                    done.append(rank_case(scores[case - start], targets, removed, k))
        if progress is not None:
            progress(stop)
    popularity = Popularity.of(train)
    sections = tuple(
        _section(plan, done, popularity, k) for plan, done in zip(plans, ranked, strict=True)
    )
    return Evaluation(scorer.name, k, remove_seen, train.item_count, sections)


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    remove_seen: bool
    targets: Sequence[Rows]


def _plans(cases: Cases, remove_seen: bool) -> list[_Plan]:
    plans = [_Plan(ALL, remove_seen, cases.targets)]
    old = [np.isin(t, h) for t, h in zip(cases.targets, cases.histories, strict=True)]
    if any(mask.any() for mask in old):
        new = [targets[~mask] for targets, mask in zip(cases.targets, old, strict=True)]
        repeated = [targets[mask] for targets, mask in zip(cases.targets, old, strict=True)]
        plans += [_Plan(NEW, True, new), _Plan(REPEATED, False, repeated)]
    return plans


def _checked(scores: Scores, shape: tuple[int, int], name: str) -> Scores:
    if scores.shape != shape:
        raise EvaluationError(f"{name} gave scores of shape {scores.shape} instead of {shape}")
    if np.isnan(scores).any():
        raise EvaluationError(f"{name} gave scores that are no numbers (NaN): train it anew")
    return scores


# --- what is recommended, not only whether it was right -------------------------------------------


@dataclass(frozen=True, slots=True)
class Popularity:
    """How often the training part holds each item, and its percentile among all V items.

    A percentile is the share of items that are rarer, plus half of those equally frequent.
    """

    counts: NDArray[np.float64]  # (V,)
    percentiles: NDArray[np.float64]  # (V,), 0 to 1

    @classmethod
    def of(cls, train: Interactions) -> Popularity:
        """Count the training part."""
        counts = np.bincount(train.items, minlength=train.item_count)
        ordered = np.sort(counts)
        below = np.searchsorted(ordered, counts, side="left")
        through = np.searchsorted(ordered, counts, side="right")
        return cls(counts.astype(np.float64), (below + through) / 2 / len(counts))


def _section(plan: _Plan, ranked: list[RankedCase], popularity: Popularity, k: int) -> Section:
    values = case_metrics(ranked, k)
    shown = [case.shown for case in ranked]
    for name, of_item in (
        (f"arp@{k}", popularity.counts),
        (f"popularity_percentile@{k}", popularity.percentiles),
    ):
        values[name] = np.array([of_item[rows].mean() if len(rows) else 0.0 for rows in shown])
    targets = [rows for rows in plan.targets if len(rows)]
    values["target_popularity_percentile"] = np.array(
        [popularity.percentiles[rows].mean() for rows in targets]
    )
    metrics = {name: mean_estimate(of_case) for name, of_case in values.items()}
    metrics[f"coverage@{k}"] = coverage_estimate(shown, len(popularity.counts))
    candidates = "items the user has not had" if plan.remove_seen else "every item"
    return Section(plan.name, candidates, len(ranked), metrics, values)


def coverage_estimate(shown: Sequence[Rows], items: int) -> Estimate:
    """Return the share of all items that stands in any list, with a jackknife interval.

    A bootstrap would repeat lists and so see too few items; the jackknife leaves one list out
    (Efron & Tibshirani 1993, chapter 11).
    """
    lists = len(shown)
    if not lists:
        return mean_estimate([])
    counts = np.bincount(np.concatenate(shown), minlength=items)
    value = np.count_nonzero(counts) / items
    only_here = np.array([np.count_nonzero(counts[rows] == 1) for rows in shown]) / items
    spread = ((only_here - only_here.mean()) ** 2).sum() * (lists - 1) / lists
    half = 1.96 * float(np.sqrt(spread))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), lists)
