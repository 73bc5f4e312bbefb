"""Counted successors: what is counted, what it adds to scores, and what a loss learns of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.learnt.history_batch import (
    EVENT_KINDS,
    PURCHASE,
    HistoryBatch,
    PaddedEvents,
    last_purchases,
    last_purchases_at,
)
from models.learnt.successors import Bonus, Successors
from training.recommender import losses as recommender_losses
from training.recommender.losses import gbce_loss, sampled_softmax_loss, softmax_loss
from training.recommender.sequences.event_sequences import EventSequences, from_purchases
from training.recommender.succession_counts import count_successors

SEARCH = EVENT_KINDS.index("search")
WALKS = ([0, 1, 2], [0, 1, 3], [0, 1, 2], [0, 4, 2], [0, 4], [5, 0])


def sequences(walks: tuple[list[int], ...] = WALKS) -> EventSequences:
    users = np.repeat(np.arange(len(walks)), [len(walk) for walk in walks])
    return from_purchases(users, np.concatenate(walks), [f"p{item}" for item in range(6)])


def counted(found: EventSequences, kept: int = 3) -> Successors:
    torch.manual_seed(0)
    successors = Successors(found.items, kept, width=4)
    count_successors(successors, found, visits=False, seed=1)
    torch.nn.init.normal_(successors.trust.weight)
    return successors.requires_grad_(False)


def test_the_most_frequent_successors_are_kept_and_single_ones_are_not() -> None:
    """Successors stand by how many shoppers went on so; what one did alone is not kept."""
    successors = counted(sequences())
    assert successors.items[:3].tolist() == [[1, 4, -1], [2, -1, -1], [-1, -1, -1]]
    assert successors.counts[:2].tolist() == [[3, 2, 0], [2, 0, 0]]
    assert (successors.items[3:] == -1).all()
    often = counted(sequences((*WALKS, [5, 3, 5, 3, 5, 3, 0, 1, 0, 1])))
    assert often.items[5].tolist() == [-1, -1, -1]
    assert often.counts[0].tolist() == [4, 2, 0]
    assert counted(sequences(), kept=1).items[0].tolist() == [1]
    bought = np.bincount(np.concatenate(WALKS), minlength=6) + 0.5
    assert successors.share.numpy() == pytest.approx(bought / bought.sum())


def test_a_succession_in_training_does_not_count_itself() -> None:
    """With `own` the bonus is the one that counts without this shopper's succession would give."""
    states = torch.randn(1, 4)
    for walk, kept in (([0, 1], 3), ([2, 4], 3), ([0, 3], 1), ([0, 3], 2), ([0, 1], 1)):
        shoppers = (*WALKS, [2, 4], [0, 3], [0, 3])
        with_it, without = (
            counted(sequences((*shoppers, walk)), kept),
            counted(sequences(shoppers), kept),
        )
        without.share.copy_(with_it.share)
        last, target = torch.tensor(walk[:1]), torch.tensor(walk[1:])
        own, other = with_it(last, states, own=target), without(last, states)
        none = torch.zeros(1, 6)
        assert torch.equal(own.add_to(none.clone()), other.add_to(none.clone())), (walk, kept)
        assert with_it(last, states).of(target) >= own.of(target)


def test_training_leaves_out_a_share_of_the_bonuses() -> None:
    """Whole bonuses are dropped in training, about as many as asked for; serving drops none."""
    torch.manual_seed(0)
    successors = Successors(6, 3, width=4, dropout=0.3)
    count_successors(successors, sequences(), visits=False, seed=1)
    last, states = torch.zeros(2_000, dtype=torch.int64), torch.randn(2_000, 4)
    there = successors(last, states).values[:, :2] > 0
    assert torch.equal(there[:, 0], there[:, 1])
    assert 0.66 < float(there[:, 0].float().mean()) < 0.74
    assert (successors.eval()(last, states).values[:, :2] > 0).all()


def test_a_bonus_grows_with_the_count_beyond_what_is_expected() -> None:
    """The bonus is the trust times log(1 + count / expected); nothing follows an unknown item."""
    successors, states = counted(sequences()), torch.randn(3, 4)
    bonus = successors(torch.tensor([0, -1, 3]), states)
    trust = F.softplus(successors.trust(states))[:, 0]
    expected = 50.0 * successors.share
    assert bonus.rows[0].tolist() == [1, 4, 0]
    assert bonus.values[0, :2].tolist() == pytest.approx(
        [float(trust[0] * torch.log1p(3 / expected[1])),
         float(trust[0] * torch.log1p(2 / expected[4]))]
    )  # fmt: skip
    assert (bonus.values[1:] == 0).all()
    assert bonus.values[0, 2] == 0
    scores = bonus.add_to(torch.zeros(3, 6))
    assert torch.equal(scores[0, [1, 4]], bonus.values[0, :2])
    assert torch.equal(bonus.of(torch.tensor([4, 4, 0]))[:2], scores[:2, 4])


def test_bits_of_a_bonus_do_not_depend_on_its_neighbours() -> None:
    """A shopper's bonus has the same bits alone and in a batch."""
    successors = counted(sequences())
    last, states = torch.randint(-1, 6, (97,)), torch.randn(97, 4)
    together = successors(last, states)
    for row in range(97):
        alone = successors(last[[row]], states[[row]])
        assert torch.equal(alone.values[0], together.values[row])


def test_the_newest_purchase_of_a_known_item_is_the_last() -> None:
    """Searches, returns and unknown items are passed over, in histories and at every token."""
    kinds = [PURCHASE, PURCHASE, SEARCH, PURCHASE, EVENT_KINDS.index("return")]
    batch = HistoryBatch(
        lengths=torch.tensor([5, 0, 1]),
        kinds=torch.tensor([*kinds, SEARCH]),
        item_rows=torch.tensor([3, 4, -1, -1, 2, -1]),
        vectors=torch.zeros(6, 0),
        gaps_s=torch.zeros(6),
        stars=torch.zeros(6),
    )
    assert last_purchases(batch).tolist() == [4, -1, -1]
    none = replace(batch, kinds=torch.full((6,), SEARCH))
    assert last_purchases(none).tolist() == [-1, -1, -1]
    rows = torch.tensor([[-1, 3, 4, 9, -1, 2]])  # start token first; from 6 on are queries
    tokens = PaddedEvents(rows, torch.tensor([[0, *kinds]]), rows, rows)
    assert last_purchases_at(tokens, 6).tolist() == [[-1, 3, 4, 4, 4, 4]]


def logits_and_bonus() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Bonus]:
    torch.manual_seed(0)
    states = torch.randn(37, 8, requires_grad=True)
    table = torch.randn(50, 8, requires_grad=True)
    rows = torch.stack([torch.randperm(50)[:5] for _ in range(37)])
    values = torch.rand(37, 5, requires_grad=True)
    return states, table, torch.randint(50, (37,)), Bonus(rows, values)


def test_the_softmax_learns_of_the_bonus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients, the bonus's too, are those of the cross-entropy of the sum."""
    monkeypatch.setattr(recommender_losses, "CHUNK_VALUES", 300)
    states, table, targets, bonus = logits_and_bonus()
    inputs = (states, table, bonus.values)
    loss = softmax_loss(states, table, targets, bonus)
    logits = (states @ table.T).scatter_add(1, bonus.rows, bonus.values)
    plain = F.cross_entropy(logits, targets, reduction="sum")
    assert torch.allclose(loss, plain, rtol=1e-5)
    found, expected = torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * plain, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_sampled_losses_learn_of_the_bonus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every item drawn once the sampled softmax is the whole one, bonus and gradients included;
    gBCE is the one of states and items that hold the bonus in their product."""
    monkeypatch.setattr(recommender_losses, "CHUNK_VALUES", 300)
    states, table, targets, bonus = logits_and_bonus()
    inputs, every = (states, table, bonus.values), torch.randperm(50)
    sampled = sampled_softmax_loss(
        states, table[targets], table[every], torch.zeros(50), every, targets, bonus
    )
    whole = softmax_loss(states, table, targets, bonus)
    assert torch.allclose(sampled, whole, rtol=1e-4)
    found, expected = torch.autograd.grad(sampled, inputs), torch.autograd.grad(whole, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)

    drawn = torch.randint(50, (20,))
    dense = torch.zeros(37, 50).scatter_add(1, bonus.rows, bonus.values.detach())
    wide_states, wide_table = torch.cat([states, dense], 1), torch.cat([table, torch.eye(50)], 1)
    ours = gbce_loss(states, table[targets], table[drawn], drawn, targets, 50, 0.75, bonus)
    plain = gbce_loss(wide_states, wide_table[targets], wide_table[drawn], drawn, targets, 50, 0.75)
    assert torch.allclose(ours, plain, rtol=1e-4)
