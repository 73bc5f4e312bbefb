"""Metrics of rankings and of classifiers, each with its 95 % confidence interval and case count.

Intervals are percentile bootstraps over cases (Efron & Tibshirani 1993, chapter 13) with a fixed
seed, so the same cases give the same interval; two systems are compared on the same cases, paired.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 1_000  # the ends of a 95 % interval then rest on 25 resamples each
SEED = 20_240_229
_Z_95 = 1.96
_CELLS_AT_ONCE = 4_000_000  # of the table of resampled cases: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval and the number of cases it rests on."""

    value: float
    low: float
    high: float
    cases: int

    def __str__(self) -> str:
        """Return the figure as reports show it."""
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] (n = {self.cases:,})"


# --- one ranked list ------------------------------------------------------------------------------
# `ranked` holds ids, best first, without repeats; `gains` maps relevant ids to gains above zero


def hit_rate(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return 1 when any of the first k is relevant, else 0."""
    return float(any(item in relevant for item in ranked[:k]))


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the share of the relevant that stands among the first k; 0 where none is relevant."""
    if not relevant:
        return 0.0
    return sum(item in relevant for item in ranked[:k]) / len(relevant)


def precision(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the relevant among the first k over k, however short the list is."""
    return sum(item in relevant for item in ranked[:k]) / k


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int) -> float:
    """Return nDCG with linear gains (Järvelin & Kekäläinen 2002)."""
    best = sorted((gain for gain in gains.values() if gain > 0), reverse=True)[:k]
    ideal = _discounted(best)
    found = _discounted([max(0.0, gains.get(item, 0.0)) for item in ranked[:k]])
    return found / ideal if ideal else 0.0


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return one over the place of the first relevant among the first k, 0 without one."""
    for place, item in enumerate(ranked[:k], 1):
        if item in relevant:
            return 1.0 / place
    return 0.0


def average_precision(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the mean precision at the places of the relevant among the first k."""
    if not relevant:
        return 0.0
    found, total = 0, 0.0
    for place, item in enumerate(ranked[:k], 1):
        if item in relevant:
            found += 1
            total += found / place
    return total / min(len(relevant), k)


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 1) for place, gain in enumerate(gains, 1)))


# --- many ranked lists ----------------------------------------------------------------------------


def ranking_values(
    run: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, float]], k: int
) -> dict[str, Values]:
    """Return each metric's value for each judged query, in the order of `qrels`.

    Queries without a relevant item are left out; a judged query that the run lacks counts 0.

    Args:
        run: query id -> item ids, best first.
        qrels: query id -> item id -> gain; above zero is relevant.
    """
    rows: list[tuple[float, ...]] = []
    for query_id, gains in qrels.items():
        relevant = {item for item, gain in gains.items() if gain > 0}
        if not relevant:
            continue
        ranked = run.get(query_id, ())
        rows.append(
            (
                ndcg(ranked, gains, k),
                recall(ranked, relevant, k),
                hit_rate(ranked, relevant, k),
                precision(ranked, relevant, k),
                reciprocal_rank(ranked, relevant, k),
                average_precision(ranked, relevant, k),
            )
        )
    names = (f"ndcg@{k}", f"recall@{k}", f"hr@{k}", f"precision@{k}", f"mrr@{k}", f"map@{k}")
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return {name: table[:, column] for column, name in enumerate(names)}


def evaluate_ranking(
    run: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, float]], k: int
) -> dict[str, Estimate]:
    """Return nDCG, recall, hit rate, precision, MRR and MAP at k (see `ranking_values`)."""
    return {name: mean_estimate(values) for name, values in ranking_values(run, qrels, k).items()}


def coverage(run: Mapping[str, Sequence[str]], catalogue: Collection[str], k: int) -> float:
    """Return the share of the catalogue that stands among the first k of any list."""
    items = set(catalogue)
    if not items:
        return 0.0
    shown = {item for ranked in run.values() for item in ranked[:k]}
    return len(shown & items) / len(items)


# --- classification -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """How a classifier did; `confusion[true][predicted]` counts cases."""

    accuracy: Estimate
    macro_f1: Estimate
    ece: Estimate
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


def evaluate_classification(
    truth: Sequence[int], probabilities: NDArray[np.floating], labels: Sequence[str]
) -> ClassificationReport:
    """Judge predicted probabilities of shape (N, C) against the true classes (N).

    Macro F1 is the mean over the classes that stand in the truth; ECE the expected calibration
    error of the predicted class in 15 equal bins (Guo et al. 2017).

    Raises:
        ValueError: there are no cases, or the shapes do not fit.
    """
    true = np.asarray(truth, dtype=np.int64)
    if not len(true) or probabilities.shape != (len(true), len(labels)):
        raise ValueError(
            f"{len(true)} true classes and probabilities of shape {probabilities.shape}"
            f" do not make a report over {len(labels)} labels"
        )
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (predicted == true).astype(np.float64)
    count = len(labels)

    def f1_of(rows: NDArray[np.int64]) -> float:
        return macro_f1(_confusion(true[rows], predicted[rows], count))

    def ece_of(rows: NDArray[np.int64]) -> float:
        return calibration_error(correct[rows], confidence[rows])

    confusion = _confusion(true, predicted, count)
    return ClassificationReport(
        accuracy=mean_estimate(correct),
        macro_f1=statistic_estimate(f1_of, len(true)),
        ece=statistic_estimate(ece_of, len(true)),
        labels=tuple(labels),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that stand in the truth; `confusion[true, predicted]`."""
    right = confusion.diagonal().astype(np.float64)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    stand = true > 0
    return float((2 * right[stand] / (true[stand] + predicted[stand])).mean())


def calibration_error(correct: Values, confidence: Values, bins: int = 15) -> float:
    """Return the expected calibration error of confidences (N) against being correct (N)."""
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def _confusion(
    true: NDArray[np.int64], predicted: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    cells = np.bincount(true * count + predicted, minlength=count * count)
    return cells.reshape(count, count)


# --- confidence intervals -------------------------------------------------------------------------


def mean_estimate(values: Sequence[float] | Values) -> Estimate:
    """Return the mean of per-case values with its interval; NaN where there is no case."""
    cases = np.asarray(values, dtype=np.float64)
    if not len(cases):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    generator = np.random.default_rng(SEED)
    at_once = max(1, _CELLS_AT_ONCE // len(cases))
    means: list[Values] = []
    for start in range(0, RESAMPLES, at_once):
        size = (min(at_once, RESAMPLES - start), len(cases))
        means.append(cases[generator.integers(len(cases), size=size)].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return Estimate(float(cases.mean()), float(low), float(high), len(cases))


def share_estimate(hits: int, cases: int) -> Estimate:
    """Return the share of hits with Wilson's (1927) 95 % interval; NaN where there is no case.

    It costs nothing however many the cases, and says something where all or none are hits.
    """
    if not cases:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    share, squared = hits / cases, _Z_95**2
    middle = (share + squared / (2 * cases)) / (1 + squared / cases)
    spread = np.sqrt(share * (1 - share) / cases + squared / (4 * cases**2))
    half = _Z_95 * float(spread) / (1 + squared / cases)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), cases)


def paired_difference(
    candidate: Sequence[float] | Values, baseline: Sequence[float] | Values
) -> Estimate:
    """Return the mean of candidate - baseline over the same cases; above 0: candidate is better.

    Raises:
        ValueError: the two do not have the same number of cases.
    """
    ours, theirs = np.asarray(candidate, np.float64), np.asarray(baseline, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"{len(ours)} and {len(theirs)} cases cannot be paired")
    return mean_estimate(ours - theirs)


def statistic_estimate(statistic: Callable[[NDArray[np.int64]], float], cases: int) -> Estimate:
    """Return a statistic of case numbers, over all cases, with its bootstrap interval."""
    generator = np.random.default_rng(SEED)
    resampled = [statistic(generator.integers(cases, size=cases)) for _ in range(RESAMPLES)]
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Estimate(statistic(np.arange(cases)), float(low), float(high), cases)
