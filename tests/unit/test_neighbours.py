"""Weights between items: how they are fitted, kept, trusted, and what they add to scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.learnt import neighbours as neighbours_module
from models.learnt.history_batch import EVENT_KINDS, PURCHASE, UNKNOWN_ITEM, HistoryBatch
from models.learnt.neighbours import Neighbours, age_weights, kept_purchases
from models.recommender import RecommenderConfig, RecommenderNetwork
from training.recommender import neighbour_weights
from training.recommender.neighbour_weights import (
    add_neighbours,
    bought_together,
    choose_trust,
    ease_weights,
    fit_neighbours,
)
from training.recommender.options import RecommenderTraining
from training.recommender.sequences.event_sequences import EventSequences, from_purchases
from training.recommender.sequences.held_out import (
    HeldOut,
    hold_out_last,
    ndcg_and_hit_rate,
    ranks,
)

SEARCH, RETURN = EVENT_KINDS.index("search"), EVENT_KINDS.index("return")
ITEMS = 30


def of_walks(walks: list[list[int]], items: int = ITEMS) -> EventSequences:
    users = np.repeat(np.arange(len(walks)), [len(walk) for walk in walks])
    return from_purchases(users, np.concatenate(walks), [f"p{item}" for item in range(items)])


def tasteful(shoppers: int, share: float, seed: int = 0) -> EventSequences:
    """Return shoppers of one of three shelves of ten items each, bought in any order.

    This share of their purchases is of the shelf, the others are anything.
    """
    draw = np.random.default_rng(seed)
    walks = []
    for number in range(shoppers):
        shelf = [item for item in range(ITEMS) if item % 3 == number % 3]
        own = draw.permutation(shelf)[: round(8 * share)]
        rest = draw.permutation([i for i in range(ITEMS) if i not in own])[: 8 - len(own)]
        walks.append(draw.permutation([*own, *rest]).tolist())
    return of_walks(walks)


def fresh_network(**fields: int) -> RecommenderNetwork:
    torch.manual_seed(0)
    config = RecommenderConfig(items=ITEMS, width=8, blocks=1, hidden=8, max_events=20, **fields)
    return RecommenderNetwork(config).eval().requires_grad_(False)


def filled(kept: int = ITEMS, seed: int = 1) -> tuple[Neighbours, np.ndarray]:
    weights = np.random.default_rng(seed).normal(size=(ITEMS, ITEMS))
    neighbours = Neighbours(ITEMS, kept)
    neighbours.remember(np.arange(ITEMS), weights)
    return neighbours, weights


def histories(rows: list[list[int]]) -> HistoryBatch:
    count = sum(map(len, rows))
    return HistoryBatch(
        lengths=torch.tensor([len(one) for one in rows]),
        kinds=torch.full((count,), PURCHASE),
        item_rows=torch.tensor([item for one in rows for item in one], dtype=torch.int64),
        vectors=torch.zeros(count, 0),
        gaps_s=torch.zeros(count),
        stars=torch.zeros(count),
    )


def test_what_was_bought_and_kept_is_read_once_each() -> None:
    """Each item counts by its newest purchase; what was sent back after it and what lies before
    the newest events does not count, and ages count items."""
    kinds = [PURCHASE, PURCHASE, SEARCH, PURCHASE, RETURN, PURCHASE, PURCHASE]
    batch = replace(
        histories([[], [9, 3, 0, 4, 4, 3, 5], [4, 1]]),
        kinds=torch.tensor([*kinds, RETURN, PURCHASE]),
        item_rows=torch.tensor([9, 3, UNKNOWN_ITEM, 4, 4, 3, 5, 4, 1]),
    )
    bought = kept_purchases(batch, 6)
    assert bought.histories == 3
    assert bought.shoppers.tolist() == [1, 1, 2]
    assert bought.items.tolist() == [3, 5, 1]
    assert bought.events.tolist() == [5, 6, 8]
    assert bought.ages.tolist() == [1, 0, 0]
    whole = kept_purchases(batch, 7)
    assert whole.items.tolist() == [9, 3, 5, 1]
    assert whole.ages.tolist() == [2, 1, 0, 0]
    again = kept_purchases(replace(batch, kinds=torch.tensor([*kinds, PURCHASE, RETURN])), 7)
    assert again.items.tolist() == [9, 3, 5, 4]
    assert len(kept_purchases(histories([[], []]), 5).items) == 0


def test_sums_are_those_of_the_weights_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added is the trust times the bought items' weights, older purchases counting less."""
    monkeypatch.setattr(neighbours_module, "_PURCHASES_AT_ONCE", 3)
    neighbours, weights = filled()
    neighbours.trust.fill_(2.5)
    rows = [[4, 7, 1, 0], [], [5]]
    bonus = neighbours.bonus(neighbours.sums(kept_purchases(histories(rows), 20)))
    scores = bonus.add_to(torch.zeros(3, ITEMS))
    for history, found in zip(rows, scores, strict=True):
        ages = np.arange(len(history))[::-1]
        expected = 2.5 * (weights[history] * (1.0 + ages[:, None]) ** -0.2).sum(0)
        assert found.numpy() == pytest.approx(expected, abs=1e-2)


def test_only_the_strongest_weights_are_kept() -> None:
    """Of each item the strongest weights are kept, for and against, and the others add nothing."""
    neighbours, weights = filled(kept=4)
    neighbours.trust.fill_(1.0)
    found = neighbours.between(torch.arange(ITEMS), torch.arange(ITEMS)).numpy()
    for row in range(ITEMS):
        strong = np.argsort(-np.abs(weights[row]))[:4]
        assert set(np.flatnonzero(found[row])) == set(strong)
        assert found[row, strong] == pytest.approx(weights[row, strong], abs=1e-6)


def test_bits_of_sums_do_not_depend_on_who_else_is_in_the_batch() -> None:
    """A shopper's sums have the same bits alone, among others, and in any order of others."""
    neighbours, _ = filled(kept=12)
    draw = np.random.default_rng(3)
    rows = [draw.integers(ITEMS, size=size).tolist() for size in draw.integers(0, 40, size=50)]
    together = neighbours.sums(kept_purchases(histories(rows), 20))
    backwards = neighbours.sums(kept_purchases(histories(rows[::-1]), 20))
    assert torch.equal(together, backwards.flip(0))
    for row, history in enumerate(rows):
        alone = neighbours.sums(kept_purchases(histories([history]), 20))
        assert torch.equal(alone[0], together[row])


def test_items_without_weights_neither_give_nor_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a catalogue that is too large the most bought items have weights, and only they."""
    monkeypatch.setattr(neighbours_module, "MOST_ITEMS", 3)
    neighbours = Neighbours(ITEMS, 256)
    fit_neighbours(neighbours, of_walks([[20, 5, 9], [20, 5], [9, 5, 1], [1, 9], [20, 9, 2]]))
    neighbours.trust.fill_(1.0)
    assert neighbours.items.tolist() == [5, 9, 20]
    every = torch.arange(ITEMS)
    found = neighbours.between(every, torch.tensor([UNKNOWN_ITEM, *range(ITEMS)]))[:, 1:]
    inside = np.isin(np.arange(ITEMS), [5, 9, 20])
    assert (found.numpy()[~inside] == 0).all()
    assert (found.numpy()[:, ~inside] == 0).all()
    assert (found.numpy()[np.ix_(inside, inside)] != 0).sum() == 6
    sums = neighbours.sums(kept_purchases(histories([[5, 1]]), 20))
    assert float(age_weights(torch.tensor([1]))) * found[5, [5, 9, 20]].numpy() == pytest.approx(
        sums[0].numpy(), abs=1e-3
    )


@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_items_bought_together_are_counted_by_shoppers(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts are the product of the shoppers' item matrix with itself, in any portions."""
    monkeypatch.setattr(neighbour_weights, "_PAIRS_AT_ONCE", at_once)
    draw = np.random.default_rng(2)
    has = draw.random((40, 12)) < 0.3
    has[[3, 17]] = False
    shoppers, items = np.nonzero(has)
    assert np.array_equal(bought_together(shoppers, items, 12), has.T.astype(int) @ has)


def test_weights_are_those_of_ridge_regressions() -> None:
    """Each item's column is the ridge regression of who bought it on all the other items."""
    bought = (np.random.default_rng(4).random((60, 7)) < 0.4).astype(float)
    weights = ease_weights(bought.T @ bought, 5.0)
    for item in range(7):
        others = [i for i in range(7) if i != item]
        x = bought[:, others]
        expected = np.linalg.solve(x.T @ x + 5.0 * np.eye(6), x.T @ bought[:, item])
        assert weights[others, item] == pytest.approx(expected)
        assert weights[item, item] == 0


def test_neighbours_are_trusted_where_they_rank_held_out_purchases_better() -> None:
    """Where whole histories tell what will be bought the chosen trust lifts an unlearnt network's
    ranks, also of purchases that chose nothing; where they tell nothing there is none."""
    rest, test = hold_out_last(tasteful(300, 0.75), remove_seen=True)
    train, held = hold_out_last(rest, remove_seen=True)
    network = fresh_network()
    before = ndcg_and_hit_rate(ranks(network, test))[0]
    fit_neighbours(network.neighbours, train)
    told = choose_trust(network, held, seed=1)
    trust = float(network.neighbours.trust)
    assert trust > 0
    assert told.startswith(f"neighbours: trust {trust:g} of 0, ")
    assert ndcg_and_hit_rate(ranks(network, test))[0] > before + 0.1

    train, held = hold_out_last(tasteful(60, 0.0), remove_seen=True)
    network = fresh_network()
    add_neighbours(network, train, held, RecommenderTraining())
    assert float(network.neighbours.trust) == 0


def test_the_gains_of_trusts_are_those_of_the_ranks() -> None:
    """The choice measures each trust as ranking with it does."""
    train, held = hold_out_last(tasteful(80, 0.5), remove_seen=True)
    network = fresh_network()
    fit_neighbours(network.neighbours, train)
    trusts = (0.0, 2.0, 5.0)
    gains = neighbour_weights._ndcg_of(network, held, trusts)
    for trust, found in zip(trusts, gains, strict=True):
        network.neighbours.trust.fill_(trust)
        assert float(found.mean()) == pytest.approx(ndcg_and_hit_rate(ranks(network, held))[0])


@pytest.mark.parametrize(
    ("told", "validates", "trust"), [(3.5, True, 3.5), (3.5, False, 3.5), (None, False, 0.0)]
)
def test_a_trust_that_is_told_is_taken(told: float | None, validates: bool, trust: float) -> None:
    """A given trust is taken as it is; with none given and nothing held out there is none, told."""
    train, held = hold_out_last(tasteful(60, 0.75), remove_seen=True)
    network = fresh_network()
    chosen: HeldOut | None = held if validates else None
    options = RecommenderTraining(neighbour_trust=told)
    sentence = add_neighbours(network, train, chosen, options)
    assert float(network.neighbours.trust) == trust
    assert ("--neighbour-trust" in sentence) == (told is None)
    assert (network.neighbours.weights != 0).any()
