"""Splits without leaks: what a model trains on, what it is told and what it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.interaction_columns import InteractionsError
from training.data.interactions import Interactions, read_interactions
from training.data.splits import Cases, last_fraction_ms, leave_one_out, time_split


def read(tmp_path: Path, *lines: str) -> Interactions:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines))
    return read_interactions(path)


def named(interactions: Interactions, cases: Cases) -> dict[str, tuple[str, str]]:
    """Return user -> (history, targets) as text."""
    ids = interactions.item_ids
    return {
        interactions.user_ids[user]: (
            "".join(ids[item] for item in history),
            "".join(sorted(ids[item] for item in targets)),
        )
        for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True)
    }


def trained(interactions: Interactions, train: Interactions) -> dict[str, str]:
    return {
        user: "".join(interactions.item_ids[item] for item in rows)
        for user, rows in zip(train.user_ids, train.sequences(), strict=True)
    }


def test_leave_one_out_takes_the_last_two_items(tmp_path: Path) -> None:
    """The last item is the test, the second last the validation; the rest trains."""
    all_of_it = read(tmp_path, "u a", "v x", "u b", "u c", "v y", "u d", "w z")
    split = leave_one_out(all_of_it)
    assert trained(all_of_it, split.train) == {"u": "ab", "v": "x", "w": "z"}
    assert named(all_of_it, split.validation) == {"u": ("ab", "c")}
    assert named(all_of_it, split.test) == {"u": ("abc", "d"), "v": ("x", "y")}
    assert split.notes == (
        "users with one event, not tested (kept for training): 1",
        "users with two events, tested but not validated: 1",
    )


def test_a_test_history_holds_the_validation_item_and_never_the_test_item(tmp_path: Path) -> None:
    """At test the validation item is known (and so removed), the target is not; nor is it trained.

    Every user's items differ, so a target in a history or in training would be a leak.
    """
    lines = [f"u{user} i{user}-{place}" for place in range(6) for user in range(20)]
    split = leave_one_out(read(tmp_path, *lines))
    trained_items = set(split.train.items.tolist())
    by_user = dict(zip(split.validation.users, split.validation.targets, strict=True))
    for user, history, targets in zip(
        split.test.users, split.test.histories, split.test.targets, strict=True
    ):
        assert by_user[user][0] == history[-1]
        assert targets[0] not in history
        assert targets[0] not in trained_items
        assert by_user[user][0] not in trained_items


def test_leave_one_out_needs_two_events_of_a_user(tmp_path: Path) -> None:
    """Where every user has one event there is nothing to test, and it is said."""
    with pytest.raises(InteractionsError, match="no user has two events"):
        leave_one_out(read(tmp_path, "u a", "v b"))


def test_a_time_split_asks_for_the_first_basket_after_it(tmp_path: Path) -> None:
    """Targets are the different items of one moment; later baskets are neither asked nor told."""
    all_of_it = read(
        tmp_path, "u a 1", "u b 2", "u c 10", "u b 10", "u c 10", "u d 11", "gone a 3", "new a 10"
    )
    split = time_split(all_of_it, 10_000)
    assert named(all_of_it, split.test) == {"u": ("ab", "bc")}
    assert trained(all_of_it, split.train) == {"u": "ab", "gone": "a", "new": ""}
    assert split.test.asked_at_ms is not None
    assert split.test.asked_at_ms.tolist() == [10_000]
    assert split.notes == (
        "users first seen after the split, without a history, not tested: 1",
        "users without an event after the split, not tested: 1",
    )


def test_a_validation_by_time_ends_training_earlier(tmp_path: Path) -> None:
    """Training ends where the validation begins, and the test history holds the validation."""
    all_of_it = read(tmp_path, "u a 1", "u b 5", "u c 10", "v a 2", "v d 12")
    split = time_split(all_of_it, 10_000, 5_000)
    assert trained(all_of_it, split.train) == {"u": "a", "v": "a"}
    assert named(all_of_it, split.validation) == {"u": ("a", "b")}
    assert named(all_of_it, split.test) == {"u": ("ab", "c"), "v": ("a", "d")}


def test_a_time_split_needs_times_and_users_on_both_sides(tmp_path: Path) -> None:
    """Without times, or with nobody before and after, the split says so."""
    with pytest.raises(InteractionsError, match="has no times"):
        time_split(read(tmp_path, "u a", "u b"), 1)
    with pytest.raises(InteractionsError, match="both before and after"):
        time_split(read(tmp_path, "u a 1", "v b 5"), 2_000)
    with pytest.raises(InteractionsError, match="validation must begin before"):
        time_split(read(tmp_path, "u a 1", "u b 5"), 2_000, 2_000)


def test_the_newest_share_begins_at_a_moment(tmp_path: Path) -> None:
    """The newest fifth of ten interactions is the last two."""
    all_of_it = read(tmp_path, *(f"u i{n} {n}" for n in range(10)))
    assert last_fraction_ms(all_of_it, 0.2) == 8_000
