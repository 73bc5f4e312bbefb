"""The release gate: may a part that was trained anew replace the one that serves?

Both are judged on the same newest cases, which neither was trained on. The candidate passes when
the 95 % interval of the primary metric's difference (percentile bootstrap, paired, over shoppers)
lies above zero, a randomisation test agrees, and no guard falls beyond its limit.

The randomisation test keeps the stated false-pass rate where the bootstrap alone would not: with
few cases that differ, the interval of a lucky candidate misses zero too often. It flips the sign of
each shopper's difference, which under "no better" changes nothing (Fisher 1935; Pitman 1937).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from models.metrics import Values, mean_estimate
from models.releases.gate_record import Comparison, Figure, GateDecision, GuardComparison
from models.releases.gate_record import TestSlice as SliceRecord
from models.releases.shoppers import is_among
from training.evaluation.cases import Evaluation, TestCases
from training.guards import FALSE_PASS_RATE as FALSE_PASS_RATE
from training.guards import GateOptions as GateOptions
from training.guards import guards_of, objections

_FLIPS, _SEED = 9_999, 20_240_301
_EXACT_UP_TO, _NORMAL_FROM = 12, 4_000  # differing shoppers
_Z_95, _Z_POWER = 1.96, 0.84  # interval, and 80 % power


@dataclass(frozen=True, slots=True)
class Contender:
    """A part of a release as the gate sees it; `samples` lists what it was trained on."""

    name: str
    evaluation: Evaluation
    samples: bytes = b""  # as models.releases.shoppers.encode_samples
    trained_until: str | None = None  # occurred_at of its newest sample
    fault: str | None = None  # what is wrong with its weights


def decide(
    part: str,
    candidate: Contender,
    current: Contender,
    cases: TestCases,
    options: GateOptions | None = None,
) -> GateDecision:
    """Return whether the candidate may replace the current part, with all numbers.

    Cases that the current part was trained on are left out, for they would favour it. Every
    evaluation covers all `cases`, in their order.
    """
    options = options or GateOptions()
    fresh = np.flatnonzero(~is_among(cases.sample_ids, current.samples))
    judged = cases.take(fresh)
    ours, theirs = candidate.evaluation.take(fresh), current.evaluation.take(fresh)
    reasons = list(_faults(candidate, ours, judged, cases, options))
    primary: Comparison | None = None
    guards: tuple[GuardComparison, ...] = ()
    p_value: float | None = None
    if not reasons:
        primary = _primary(ours, theirs, judged)
        guards = tuple(guards_of(ours, theirs, judged, options))
        margin = options.margin if options.rule == "no-loss" else 0.0
        p_value = randomisation_p(_by_shopper(_gap(ours, theirs), judged) + margin)
        reasons = list(_objections(primary, guards, p_value, margin, options))
    return GateDecision(
        part=part,
        passed=not reasons,
        rule=options.rule,
        margin=options.margin if options.rule == "no-loss" else 0.0,
        reasons=tuple(reasons),
        candidate=candidate.name,
        current=current.name,
        primary=primary,
        p_value=p_value,
        needed_cases=_needed_cases(_gap(ours, theirs)) if primary and reasons else None,
        guards=guards,
        test_slice=SliceRecord(
            first=cases.first,
            last=cases.last,
            cases=len(judged),
            shoppers=len(set(judged.users)),
            seen_by_current=len(cases) - len(judged),
        ),
        false_pass_rate=options.false_pass_rate,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def randomisation_p(differences: Values) -> float:
    """Return the one-sided p-value of the mean of paired differences (N,) being above zero.

    Exact for few differing cases, by 9,999 seeded flips for more, by the normal limit for many.
    """
    moved = differences[differences != 0]
    if not len(moved) or moved.sum() <= 0:
        return 1.0
    total = float(moved.sum())
    if len(moved) >= _NORMAL_FROM:
        return 0.5 * math.erfc(total / math.sqrt(2 * float((moved**2).sum())))
    slack = 1e-9 * float(np.abs(moved).sum())  # ties are ties whatever the order of the sum
    if len(moved) <= _EXACT_UP_TO:
        numbers = np.arange(1 << len(moved))[:, None]
        signs = 1 - 2 * ((numbers >> np.arange(len(moved))) & 1)
        return float((signs @ moved >= total - slack).mean())
    generator = np.random.default_rng(_SEED)
    reached = 0
    for start in range(0, _FLIPS, 1_000):
        size = (min(1_000, _FLIPS - start), len(moved))
        signs = 1 - 2 * generator.integers(2, size=size, dtype=np.int8)
        reached += int((signs @ moved >= total - slack).sum())
    return (1 + reached) / (1 + _FLIPS)


def _faults(
    candidate: Contender,
    ours: Evaluation,
    judged: TestCases,
    cases: TestCases,
    options: GateOptions,
) -> Iterator[str]:
    """Yield why nothing may be compared at all."""
    if candidate.fault is not None:
        yield candidate.fault
    learnt = int(is_among(cases.sample_ids, candidate.samples).sum())
    if learnt:
        yield f"the candidate was trained on {learnt:,} of the {len(cases):,} test cases"
    if cases.first is not None and _is_after(candidate.trained_until, cases.first):
        yield (
            f"the candidate was trained on samples up to {candidate.trained_until}, but the test "
            f"begins at {cases.first}"
        )
    if len(judged) < options.min_cases:
        yield f"{len(judged):,} test cases are too few: {options.min_cases:,} are needed"
    bad = [name for name, values in ours.values.items() if not np.isfinite(values).all()]
    if bad:
        yield f"the candidate gives numbers that are none ({', '.join(bad)})"


def _objections(
    primary: Comparison,
    guards: tuple[GuardComparison, ...],
    p_value: float,
    margin: float,
    options: GateOptions,
) -> Iterator[str]:
    low = primary.difference.low
    if not low > -margin:
        bound = "0" if options.rule == "gain" else f"{-margin:g}"
        yield f"{primary.metric} {primary.difference}: the interval does not lie above {bound}"
    elif p_value > options.false_pass_rate:
        yield (
            f"{primary.metric}: the randomisation test gives p = {p_value:.4f}, above "
            f"{options.false_pass_rate:g}"
        )
    yield from objections(guards)


def _primary(ours: Evaluation, theirs: Evaluation, cases: TestCases) -> Comparison:
    name = ours.primary
    return Comparison(
        metric=name,
        candidate=Figure.of(mean_estimate(ours.values[name])),
        current=Figure.of(mean_estimate(theirs.values[name])),
        difference=Figure.of(mean_estimate(_by_shopper(_gap(ours, theirs), cases))),
    )


def _gap(ours: Evaluation, theirs: Evaluation) -> Values:
    return ours.values[ours.primary] - theirs.values[ours.primary]


def _by_shopper(gaps: Values, cases: TestCases) -> Values:
    """Return one value a shopper whose mean is the mean of all cases (C,).

    A shopper's cases resemble each other: to count them as independent would flatter the interval.
    """
    _, places = np.unique(np.array(cases.users), return_inverse=True)
    sums: Values = np.bincount(places, weights=gaps).astype(np.float64)
    return sums * np.float64(len(sums) / len(gaps))


def _needed_cases(gaps: Values) -> int | None:
    """Return how many cases would show a gain as large as this one; None where there is none."""
    mean = float(gaps.mean())
    if mean <= 0:
        return None
    return math.ceil(((_Z_95 + _Z_POWER) * float(gaps.std()) / mean) ** 2)


def _is_after(moment: str | None, other: str) -> bool:
    if moment is None:
        return False
    return datetime.fromisoformat(moment) >= datetime.fromisoformat(other)
