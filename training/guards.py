"""Guards: metrics that a candidate may not let fall beyond their limits, and the gate's options.

Every difference is paired: both are judged on the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.metrics import Estimate, Values, mean_estimate, paired_difference, statistic_estimate
from models.releases.gate_record import Figure, GateDecision, GateRule, GuardComparison
from training.evaluation.cases import Evaluation, Rows, TestCases

FALSE_PASS_RATE = 0.025


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The rule and its limits; limits are how far a guard may fall."""

    rule: GateRule = "gain"
    margin: float = 0.01  # of rule no-loss
    false_pass_rate: float = FALSE_PASS_RATE
    min_cases: int = 100
    guard_limit: float = 0.02
    locale_limit: float = 0.03
    min_locale_cases: int = 50  # locales with fewer are judged together
    language_limit: float = 0.1  # nats that a trunk's loss on held-out texts may rise


def guards_of(
    ours: Evaluation, theirs: Evaluation, cases: TestCases, options: GateOptions
) -> Iterator[GuardComparison]:
    """Yield the metrics beside the primary one, and the primary one by locale."""
    for name, values in ours.values.items():
        if name != ours.primary and name in theirs.values:
            yield guard(name, values, theirs.values[name], options.guard_limit)
    for name in sorted(ours.statistics.keys() & theirs.statistics.keys()):
        yield _statistic_guard(name, ours, theirs, len(cases), options.guard_limit)
    for locale, rows in _locales(cases, options.min_locale_cases):
        values, others = ours.values[ours.primary][rows], theirs.values[ours.primary][rows]
        yield guard(f"{ours.primary} of {locale}", values, others, options.locale_limit)


def guards_of_other_part(
    part: str, ours: Evaluation, theirs: Evaluation, cases: TestCases, options: GateOptions
) -> Iterator[GuardComparison]:
    """Yield all metrics of another part than the one that is judged: none of them may fall."""
    primary = ours.primary
    first = guard(primary, ours.values[primary], theirs.values[primary], options.guard_limit)
    for one in (first, *guards_of(ours, theirs, cases, options)):
        yield one.model_copy(update={"metric": f"{part} {one.metric}"})


def with_guards(
    decision: GateDecision, guards: Sequence[GuardComparison], faults: Sequence[str] = ()
) -> GateDecision:
    """Return a decision that holds these guards too, and is none in favour where one fails."""
    reasons = (*decision.reasons, *faults, *objections(guards))
    return decision.model_copy(
        update={
            "passed": not reasons,
            "reasons": reasons,
            "guards": (*decision.guards, *guards),
        }
    )


def objections(guards: Sequence[GuardComparison]) -> Iterator[str]:
    """Yield a sentence for each guard that falls beyond its limit."""
    for one in guards:
        if not one.passed:
            yield f"{one.metric} falls by {-one.difference.value:.4f}, limit {one.limit:g}"


def guard(
    name: str, values: Values | Sequence[float], others: Values | Sequence[float], limit: float
) -> GuardComparison:
    """Compare a metric by its value of each case (N,); greater is better."""
    return _compare(
        name,
        mean_estimate(values),
        mean_estimate(others),
        paired_difference(values, others),
        limit,
    )


def _statistic_guard(
    name: str, ours: Evaluation, theirs: Evaluation, count: int, limit: float
) -> GuardComparison:
    of_ours, of_theirs = ours.statistics[name], theirs.statistics[name]
    return _compare(
        name,
        statistic_estimate(of_ours, count),
        statistic_estimate(of_theirs, count),
        statistic_estimate(lambda rows: of_ours(rows) - of_theirs(rows), count),
        limit,
    )


def _compare(
    name: str, candidate: Estimate, current: Estimate, difference: Estimate, limit: float
) -> GuardComparison:
    return GuardComparison(
        metric=name,
        candidate=Figure.of(candidate),
        current=Figure.of(current),
        difference=Figure.of(difference),
        limit=limit,
        passed=difference.value >= -limit,
    )


def _locales(cases: TestCases, min_cases: int) -> Iterator[tuple[str, Rows]]:
    """Yield each locale with its rows, small ones together; nothing where there is but one."""
    names = np.array([locale or "unknown" for locale in cases.locales])
    found, counts = np.unique(names, return_counts=True)
    small = set(found[counts < min_cases].tolist())
    names = np.array(["other locales" if name in small else name for name in names.tolist()])
    groups = sorted(set(names.tolist()))
    for group in groups if len(groups) > 1 else ():
        yield group, np.flatnonzero(names == group)
