"""The gate lets a better part pass, and nothing that is poisoned, unproven or learnt by heart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.metrics import Values
from models.releases.gate_record import GateDecision
from models.releases.shoppers import encode_samples
from training.evaluation.cases import Evaluation, TestCases, classification
from training.gate import Contender, GateOptions, decide, randomisation_p
from training.weights import weight_fault

CASES, TRIES = 160, 100
FIRST = "2025-03-01T00:00:00+00:00"


def cases(
    count: int = CASES, *, users: Sequence[str] | None = None, locales: Sequence[str] | None = None
) -> TestCases:
    names = [f"s{number}" for number in range(count)]
    return TestCases(names, users or names, locales or ["en"] * count, FIRST, None)


def contender(values: Values, name: str = "x", **more: Any) -> Contender:
    return Contender(name, Evaluation("accuracy", {"accuracy": values.astype(float)}), **more)


def draw(generator: np.random.Generator, rate: float, count: int = CASES) -> Values:
    return (generator.random(count) < rate).astype(float)


def judge(candidate: Values, current: Values, **more: Any) -> GateDecision:
    return decide("sentiment", contender(candidate, **more), contender(current), cases())


def test_a_better_candidate_passes() -> None:
    """A clear gain passes, and the record holds both figures, their difference and the p-value."""
    generator = np.random.default_rng(1)
    decision = judge(draw(generator, 0.9), draw(generator, 0.6))
    assert decision.passed
    assert decision.reasons == ()
    assert decision.primary is not None
    assert decision.primary.difference.low > 0
    assert decision.p_value is not None
    assert decision.p_value <= decision.false_pass_rate == 0.025
    assert decision.test_slice.cases == decision.primary.candidate.cases == CASES


@pytest.mark.parametrize("poison", ["labels flipped", "noise", "NaN", "test slice"])
def test_poisoned_candidates_are_refused(poison: str, tmp_path: Path) -> None:
    """100 of 100 are refused: labels flipped, weights noised, NaN, or trained on the test slice."""
    generator = np.random.default_rng(7)
    test, passed = cases(), 0
    for _ in range(TRIES):
        current = draw(generator, 0.8)
        match poison:
            case "labels flipped":
                ours = contender(1 - current)
            case "noise":  # from a little worse to a coin's toss
                kept = generator.random(CASES) < generator.uniform(0.0, 0.9)
                ours = contender(np.where(kept, current, draw(generator, 0.5)))
            case "NaN":
                probabilities = np.full((CASES, 3), np.nan)
                ours = Contender("x", classification([1] * CASES, probabilities))
            case _:
                learnt = generator.choice(CASES, int(generator.integers(1, CASES)), replace=False)
                samples = encode_samples([f"s{number}" for number in learnt])
                ours = contender(np.ones(CASES), samples=samples)
        passed += decide("sentiment", ours, contender(current), test).passed
    assert passed == 0


def test_a_null_candidate_passes_no_more_often_than_stated() -> None:
    """Of candidates that differ by luck alone at most the stated share passes."""
    generator = np.random.default_rng(11)
    rate, tries = GateOptions().false_pass_rate, 100
    for differing in (6, 40):
        passed = 0
        for _ in range(tries):
            current = draw(generator, 0.8)
            candidate = current.copy()
            moved = generator.choice(CASES, differing, replace=False)
            candidate[moved] = draw(generator, 0.5, differing)
            current[moved] = draw(generator, 0.5, differing)
            passed += judge(candidate, current).passed
        # four standard deviations above the rate: once in 30,000 runs by luck
        assert passed <= tries * rate + 4 * np.sqrt(tries * rate * (1 - rate))


def test_the_interval_alone_would_pass_four_lucky_cases() -> None:
    """Four cases won and none lost: the interval misses zero, the randomisation test (1/16) not."""
    current = np.zeros(CASES)
    candidate = current.copy()
    candidate[:4] = 1
    decision = judge(candidate, current)
    assert decision.primary is not None
    assert decision.primary.difference.low > 0
    assert decision.p_value == pytest.approx(1 / 16)
    assert not decision.passed


@pytest.mark.parametrize("differing", [8, 30, 5_000])
def test_the_randomisation_test_is_that_of_signs(differing: int) -> None:
    """Exact, sampled and normal p-values agree with the binomial law of equal differences."""
    wins = int(differing / 2 + 0.9 * np.sqrt(differing))
    values = np.array([1.0] * wins + [-1.0] * (differing - wins))
    tail = sum(np.exp(_log_binomial(differing, k)) for k in range(wins, differing + 1))
    assert randomisation_p(values) == pytest.approx(tail, abs=0.012)


def _log_binomial(n: int, k: int) -> float:
    from math import lgamma, log

    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)


def test_many_cases_of_one_shopper_are_one(tmp_path: Path) -> None:
    """A gain that one shopper's cases make alone does not pass, with as many shoppers it does."""
    current = np.zeros(CASES)
    candidate = current.copy()
    candidate[:40] = 1
    others = [f"u{number}" for number in range(CASES - 40)]
    one = cases(users=["anna"] * 40 + others)
    assert not decide("x", contender(candidate), contender(current), one).passed
    assert decide("x", contender(candidate), contender(current), cases()).passed


def test_too_few_cases_are_refused_with_the_number_needed() -> None:
    """A slice below the least number says so; an unproven gain says how many would prove it."""
    few = cases(20)
    decision = decide("x", contender(np.ones(20)), contender(np.zeros(20)), few)
    assert decision.reasons == ("20 test cases are too few: 100 are needed",)
    current = np.array([0.0] * 8 + [1.0] * (CASES - 8))
    candidate = np.array([1.0] * 8 + [0.0] * 4 + [1.0] * (CASES - 12))  # 8 won, 4 lost
    decision = judge(candidate, current)
    assert not decision.passed
    assert decision.needed_cases is not None
    assert CASES < decision.needed_cases < 2_000


def test_a_locale_may_not_pay_for_another() -> None:
    """A gain in English that costs Chinese more than the limit is refused by name."""
    current = np.array([0.0] * 80 + [1.0] * 80)
    candidate = np.array([1.0] * 80 + [1.0] * 70 + [0.0] * 10)
    slices = cases(locales=["en"] * 80 + ["zh"] * 80)
    decision = decide("x", contender(candidate), contender(current), slices)
    assert decision.reasons == ("accuracy of zh falls by 0.1250, limit 0.03",)


def test_calibration_is_guarded() -> None:
    """A more accurate candidate that is always sure of itself is refused for its calibration."""
    generator = np.random.default_rng(3)
    truth = generator.integers(3, size=600)

    def predictions(right: float, sure: float) -> Evaluation:
        guesses = np.where(generator.random(600) < right, truth, (truth + 1) % 3)
        probabilities = np.full((600, 3), (1 - sure) / 2)
        probabilities[np.arange(600), guesses] = sure
        return classification(truth.tolist(), probabilities)

    honest, boastful = predictions(0.6, 0.6), predictions(0.75, 0.99)
    decision = decide("x", Contender("a", boastful), Contender("b", honest), cases(600))
    assert [reason.split()[0] for reason in decision.reasons] == ["calibration"]
    modest = predictions(0.75, 0.75)
    assert decide("x", Contender("a", modest), Contender("b", honest), cases(600)).passed


def test_cases_the_current_part_learnt_are_left_out() -> None:
    """What the current release was trained on is no test of it: left out, counted, then too few."""
    known = encode_samples([f"s{number}" for number in range(100)])
    current = contender(np.array([1.0] * 100 + [0.0] * 60), samples=known)
    options = GateOptions(min_cases=50)
    decision = decide("x", contender(np.ones(CASES)), current, cases(), options)
    assert decision.passed
    assert (decision.test_slice.cases, decision.test_slice.seen_by_current) == (60, 100)
    assert not decide("x", contender(np.ones(CASES)), current, cases()).passed


def test_training_up_to_the_test_is_refused() -> None:
    """A candidate whose samples reach into the time of the test is refused, whatever their ids."""
    ours = np.ones(CASES)
    late = "2025-03-01T03:00:00+02:00"  # an hour after the test begins
    assert "the test begins at" in judge(ours, 0 * ours, trained_until=late).reasons[0]
    assert judge(ours, 0 * ours, trained_until="2025-02-28T23:00:00+00:00").passed


def test_without_loss_is_enough_where_the_rule_says_so() -> None:
    """An equal candidate passes the rule no-loss but not the rule gain; a worse one neither."""
    generator = np.random.default_rng(5)
    current = draw(generator, 0.8, 1_000)
    slices, rule = cases(1_000), GateOptions(rule="no-loss", margin=0.02)
    same, worse = contender(current), contender(current * draw(generator, 0.9, 1_000))
    assert not decide("x", same, contender(current), slices).passed
    assert decide("x", same, contender(current), slices, rule).passed
    assert not decide("x", worse, contender(current), slices, rule).passed


def test_weights_that_are_no_numbers_are_found(tmp_path: Path) -> None:
    """One NaN in one tensor is named; whole weights have no fault; a cut file is said."""
    sound = {"a": torch.ones(3), "count": torch.ones(2, dtype=torch.int64)}
    save_file(sound, tmp_path / "model.safetensors")
    assert weight_fault(tmp_path) is None
    save_file({**sound, "b": torch.tensor([1.0, float("nan")])}, tmp_path / "model.safetensors")
    fault = weight_fault(tmp_path)
    assert fault == "b in model.safetensors holds numbers that are none (NaN, infinite)"
    ours = np.ones(CASES)
    assert judge(ours, 0 * ours, fault=fault).reasons == (fault,)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert "cannot be read" in str(weight_fault(tmp_path))


def test_a_decision_survives_json() -> None:
    """The record stands in the manifest as it was made, NaN too."""
    ours = np.full(CASES, np.nan)
    decision = judge(ours, np.ones(CASES))
    assert "numbers that are none (accuracy)" in decision.reasons[0]
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
