"""The arms of an A/B trial compared by what their shoppers did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.events.event import Item, Purchase, Return, Search
from worker.pipeline.privacy import pseudonym
from worker.pipeline.serving import arm_of
from worker.pipeline.times import milliseconds
from worker.topics.trial_outcomes import TrialOutcomes

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
KEY, CANDIDATE = b"key", "two-0123456789ab"
SHARE_OF_MOST = 0.99


def outcomes(share: float = 0.5) -> TrialOutcomes:
    return TrialOutcomes(CANDIDATE, share, key=KEY, since_ms=milliseconds(BEGAN), window_s=3_600.0)


def search(user: str, minute: float, *shown: str, number: int = 0) -> Search:
    return Search(
        event_id=f"s-{user}-{number}", occurred_at=BEGAN + timedelta(minutes=minute), user_id=user,
        query="tea", shown=list(shown),
    )  # fmt: skip


def purchase(user: str, minute: float, *products: str, number: int = 0) -> Purchase:
    return Purchase(
        event_id=f"b-{user}-{number}", occurred_at=BEGAN + timedelta(minutes=minute), user_id=user,
        order_id=f"o-{user}-{number}", items=[Item(product_id=one, price=2.0) for one in products],
    )  # fmt: skip


def is_drawn(user: str, share: float = 0.5) -> bool:
    return arm_of(pseudonym(user, KEY), CANDIDATE, share) == "candidate"


def test_a_planted_difference_is_found_with_its_interval() -> None:
    """Shoppers of the candidate buy twice as often: the interval excludes 0 and holds the truth."""
    trial = outcomes()
    arms = {True: 0, False: 0}
    for number in range(1_000):
        user = f"u{number}"
        trial.add(search(user, 1, "x", "tea"))
        drawn = is_drawn(user)
        arms[drawn] += 1
        if arms[drawn] % 5 < (2 if drawn else 1):
            trial.add(purchase(user, 5, "tea"))
    found = {one.metric: one for one in trial.compare()}
    assert found["buyers"].verdict == "better"
    assert found["buyers"].difference.low < 0.2 < found["buyers"].difference.high
    assert found["search_conversion"].current.value == pytest.approx(0.2, abs=0.03)
    assert found["search_mrr"].candidate.value == pytest.approx(0.2, abs=0.02)  # second place
    assert found["revenue"].candidate.value == pytest.approx(0.8, abs=0.02)
    assert not trial.sizes_are_odd


def test_arms_that_do_the_same_are_undecided() -> None:
    """Without a difference the interval holds zero."""
    trial = outcomes(0.3)
    for number in range(1_000):
        trial.add(search(f"u{number}", 1, "tea"))
        if number % 4 == 0:
            trial.add(purchase(f"u{number}", 5, "tea"))
    assert {one.verdict for one in trial.compare()} == {"undecided"}


def test_what_counts_and_what_does_not() -> None:
    """Before the trial, twice delivered, too late, not shown: none of that counts; returns do."""
    trial = outcomes(SHARE_OF_MOST)
    trial.add(search("u", -5, "tea"))
    trial.add(search("u", 1, "tea", "pot", number=1))
    trial.add(search("u", 2, "lamp", number=2))
    trial.add(search("u", 3, number=3))  # of unknown impressions
    for _ in range(2):
        trial.add(purchase("u", 10, "pot", "hat", number=1))
    trial.add(purchase("u", 120, "lamp", number=2))
    trial.add(
        Return(
            event_id="r", occurred_at=BEGAN + timedelta(minutes=200), user_id="u",
            order_id="o-u-2", items=[Item(product_id="lamp", price=2.0)],
        )
    )  # fmt: skip
    other = next(f"v{n}" for n in range(10_000) if not is_drawn(f"v{n}", SHARE_OF_MOST))
    trial.add(search(other, 1, "tea"))
    found = {one.metric: one.candidate.value for one in trial.compare()}
    assert found == {
        "buyers": 1.0, "orders": 2.0, "revenue": 4.0, "search_conversion": 0.5, "search_mrr": 0.25,
    }  # fmt: skip


def test_one_empty_arm_compares_nothing() -> None:
    """Before the candidate has a shopper there is no comparison, and no made-up number."""
    trial = outcomes(1e-9)
    trial.add(search("u", 1, "tea"))
    assert trial.compare() == []
    assert trial.shoppers("current") == 1


def test_sizes_that_do_not_fit_the_share_are_told() -> None:
    """A share that workers did not use shows in the arms' sizes."""
    trial = outcomes(0.1)
    drawn = [f"u{n}" for n in range(5_000) if is_drawn(f"u{n}", 0.1)]
    for user in drawn[:300]:
        trial.add(search(user, 1, "tea"))
    assert trial.sizes_are_odd
