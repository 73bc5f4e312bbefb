"""Train, validation and test parts of interactions, without leaks, and what was left out.

Two protocols: leave-one-out (each user's last item is the test, the second last the validation) and
by time (the first basket of each user after a moment is the test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.data.interaction_columns import InteractionsError
from training.data.interactions import Interactions, Rows

Protocol = Literal["leave-one-out", "time-split"]


@dataclass(frozen=True, slots=True)
class Cases:
    """n questions to a recommender: what will this user choose next?

    `histories[c]` holds all items before the target, oldest first (item rows), and
    `history_times_ms[c]` their times; `targets[c]` the item rows that count as right;
    `asked_at_ms[c]` the time of the targets. Times are None where the file has none.
    """

    users: Rows  # (n,)
    histories: Sequence[Rows]
    history_times_ms: Sequence[Rows] | None
    targets: Sequence[Rows]
    asked_at_ms: Rows | None  # (n,)

    def __len__(self) -> int:
        """Return n."""
        return len(self.users)


@dataclass(frozen=True, slots=True)
class Split:
    """One protocol's parts; all share the id tables of the interactions that were split.

    `train` holds neither a validation nor a test target. A test history does hold the validation
    target of its user; a validation history holds nothing of the test.
    """

    protocol: Protocol
    train: Interactions
    validation: Cases
    test: Cases
    notes: tuple[str, ...]  # what was left out and why, a sentence each


def leave_one_out(interactions: Interactions) -> Split:
    """Split as SASRec does (Kang & McAuley 2018): last item test, second last validation.

    A user with two events has no validation case, and one with a single event no case at all (it
    stays in the training part); both are counted in the notes.

    Raises:
        InteractionsError: no user has two events.
    """
    by_user = interactions.by_user()
    counts = np.array([len(places) for places in by_user])
    tested, validated = np.flatnonzero(counts >= 2), np.flatnonzero(counts >= 3)
    if not len(tested):
        raise InteractionsError(
            f"{interactions.report.source}: no user has two events, so leave-one-out tests nothing"
        )
    held_out = [by_user[user][-1:] for user in tested] + [
        by_user[user][-2:-1] for user in validated
    ]
    keep = np.ones(len(interactions), bool)
    keep[np.concatenate(held_out)] = False
    notes = []
    if single := int((counts == 1).sum()):
        notes.append(f"users with one event, not tested (kept for training): {single:,}")
    if len(tested) > len(validated):
        notes.append(
            f"users with two events, tested but not validated: {len(tested) - len(validated):,}"
        )
    return Split(
        "leave-one-out",
        interactions.take(np.flatnonzero(keep)),
        _cases(interactions, [(by_user[u][:-2], by_user[u][-2:-1]) for u in validated]),
        _cases(interactions, [(by_user[u][:-1], by_user[u][-1:]) for u in tested]),
        tuple(notes),
    )


def time_split(
    interactions: Interactions, test_from_ms: int, validation_from_ms: int | None = None
) -> Split:
    """Split at moments: train before, then each user's first basket from `test_from_ms` on.

    A basket is what a user chose at one and the same time; a case's targets are its items, once
    each. Its history is everything of the user before that moment. The validation is each user's
    first basket from `validation_from_ms` on (None: no validation), and training then ends there.

    Raises:
        InteractionsError: there are no times, or no user stands on both sides of the moment.
    """
    times = interactions.timestamps_ms
    if times is None:
        raise InteractionsError(
            f"{interactions.report.source} has no times: a split by time needs a time column"
        )
    if validation_from_ms is not None and validation_from_ms >= test_from_ms:
        raise InteractionsError("the validation must begin before the test")
    train_end_ms = test_from_ms if validation_from_ms is None else validation_from_ms
    test, new_users, gone = _first_baskets(interactions, test_from_ms, None)
    validation: list[tuple[Rows, Rows]] = []
    if validation_from_ms is not None:
        validation, _, _ = _first_baskets(interactions, validation_from_ms, test_from_ms)
    if not test:
        raise InteractionsError(
            f"{interactions.report.source}: no user has events both before and after the moment of"
            " the split"
        )
    notes = []
    if new_users:
        notes.append(
            f"users first seen after the split, without a history, not tested: {new_users:,}"
        )
    if gone:
        notes.append(f"users without an event after the split, not tested: {gone:,}")
    return Split(
        "time-split",
        interactions.take(np.flatnonzero(times < train_end_ms)),
        _cases(interactions, validation),
        _cases(interactions, test),
        tuple(notes),
    )


def last_fraction_ms(interactions: Interactions, share: float) -> int:
    """Return the moment from which on the newest `share` of the interactions happened.

    Raises:
        InteractionsError: there are no times.
    """
    if interactions.timestamps_ms is None:
        raise InteractionsError(
            f"{interactions.report.source} has no times: a split by time needs a time column"
        )
    place = min(len(interactions) - 1, round(len(interactions) * (1 - share)))
    return int(interactions.timestamps_ms[place])


def _first_baskets(
    interactions: Interactions, begin_ms: int, end_ms: int | None
) -> tuple[list[tuple[Rows, Rows]], int, int]:
    """Return (history, first basket of [begin, end)) a user, and count newcomers and users gone."""
    times = interactions.timestamps_ms
    assert times is not None
    found: list[tuple[Rows, Rows]] = []
    new_users = gone = 0
    for places in interactions.by_user():
        mine = times[places]
        start = int(np.searchsorted(mine, begin_ms))
        if start == len(mine) or (end_ms is not None and mine[start] >= end_ms):
            gone += len(mine) > 0
        elif start == 0:
            new_users += 1
        else:
            stop = int(np.searchsorted(mine, mine[start], side="right"))
            found.append((places[:start], places[start:stop]))
    return found, new_users, gone


def _cases(interactions: Interactions, parts: Sequence[tuple[Rows, Rows]]) -> Cases:
    times = interactions.timestamps_ms
    first = np.array([target[0] for _, target in parts], np.int64)
    return Cases(
        users=interactions.users[first],
        histories=[interactions.items[history] for history, _ in parts],
        history_times_ms=None if times is None else [times[history] for history, _ in parts],
        targets=[np.unique(interactions.items[target]) for _, target in parts],
        asked_at_ms=None if times is None else times[first],
    )
