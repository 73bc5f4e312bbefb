"""A recommender that reads texts: searches steer it, and products nobody bought are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.learnt.history_batch import EVENT_KINDS, UNKNOWN_ITEM, HistoryBatch
from models.recommender import RecommenderConfig, RecommenderNetwork
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.event_sequences import EventSequences, from_purchases
from training.recommender.sequences.held_out import hold_out_last
from training.recommender.train import RecommenderTraining, train_recommender

TASTES, ITEMS, WIDTH = 4, 40, 12  # item i is of taste i % 4
SEARCH = EVENT_KINDS.index("search")


def text_of(tastes: np.ndarray, seed: int) -> np.ndarray:
    """Unit vectors near their taste's: (n, W)."""
    found = 0.2 * np.random.default_rng(seed).standard_normal((len(tastes), WIDTH))
    found[np.arange(len(tastes)), tastes] += 1
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def shop() -> EventSequences:
    """Each of 150 shoppers searches for one taste, then buys five things of it."""
    draw = np.random.default_rng(0)
    tastes = draw.integers(TASTES, size=150)
    bought = draw.integers(ITEMS // TASTES, size=(150, 5)) * TASTES + tastes[:, None]
    inputs = np.concatenate([ITEMS + np.arange(150)[:, None], bought], axis=1)
    users = np.repeat(np.arange(150), 6)
    plain = from_purchases(users, inputs.flatten(), [str(row) for row in range(ITEMS)])
    is_search = plain.inputs >= ITEMS
    return replace(
        plain,
        kinds=np.where(is_search, SEARCH, plain.kinds),
        is_label=~is_search,
        text_vectors=text_of(np.arange(ITEMS) % TASTES, 1),
        query_vectors=text_of(tastes, 2),
    )


@pytest.fixture(scope="module", params=["softmax", "sampled-softmax"])
def network(request: pytest.FixtureRequest) -> RecommenderNetwork:
    train, held = hold_out_last(shop(), remove_seen=False)
    config = RecommenderConfig(
        items=ITEMS, text_width=WIDTH, width=16, blocks=1, heads=1, hidden=16, max_events=10,
        dropout=0.1, id_dropout=0.3,
    )  # fmt: skip
    options = RecommenderTraining(
        epochs=12, min_steps=0, max_tokens=150, learning_rate=1e-2, warmup_steps=5,
        average_decay=0.9, precision="fp32",
    )  # fmt: skip
    loss = LossOptions(loss=request.param, negatives=30)
    return train_recommender(config, train, held, options, loss).network.eval()


def histories(tastes: np.ndarray, kind: int, seed: int) -> HistoryBatch:
    """One event a shopper of this kind and taste, of an item that training never met."""
    n = len(tastes)
    return HistoryBatch(
        lengths=torch.ones(n, dtype=torch.int64),
        kinds=torch.full((n,), kind),
        item_rows=torch.full((n,), UNKNOWN_ITEM),
        vectors=torch.from_numpy(text_of(tastes, seed)),
        gaps_s=torch.zeros(n),
        stars=torch.zeros(n),
    )


@torch.no_grad()
def tops(network: RecommenderNetwork, batch: HistoryBatch, items: torch.Tensor) -> np.ndarray:
    found: np.ndarray = (network.encode_histories(batch) @ items.T).argmax(1).numpy()
    return found


@pytest.mark.parametrize("kind", [SEARCH, EVENT_KINDS.index("purchase")])
def test_one_event_of_unknown_things_is_understood_by_its_text(
    network: RecommenderNetwork, kind: int
) -> None:
    """After one search, or one purchase of a product that was never met, the taste is known."""
    tastes = np.arange(60) % TASTES
    texts = torch.from_numpy(text_of(np.arange(ITEMS) % TASTES, 1))
    items = network.encode_items(None, texts)
    best = tops(network, histories(tastes, kind, 5), items)
    assert (best % TASTES == tastes).mean() > 0.9


def test_products_that_nobody_bought_are_recommended_from_their_text(
    network: RecommenderNetwork,
) -> None:
    """Among products that training never met the one of the shopper's taste comes first."""
    tastes = np.arange(60) % TASTES
    unseen = torch.from_numpy(text_of(np.arange(TASTES), 9))
    items = network.encode_items(torch.full((TASTES,), UNKNOWN_ITEM), unseen)
    assert (tops(network, histories(tastes, SEARCH, 6), items) == tastes).mean() > 0.9


def test_an_unseen_product_competes_with_known_ones(network: RecommenderNetwork) -> None:
    """A new product of the right taste stands above every known product of another taste."""
    tastes = np.arange(60) % TASTES
    texts = torch.from_numpy(text_of(np.arange(ITEMS) % TASTES, 1))
    known = network.encode_items(None, texts)
    unseen = network.encode_items(
        torch.full((TASTES,), UNKNOWN_ITEM), torch.from_numpy(text_of(np.arange(TASTES), 9))
    )
    with torch.no_grad():
        shoppers = network.encode_histories(histories(tastes, SEARCH, 7))
        new = (shoppers @ unseen.T)[torch.arange(60), torch.from_numpy(tastes)]
        others = shoppers @ known.T
    of_taste = torch.from_numpy(np.arange(ITEMS) % TASTES) == torch.from_numpy(tastes)[:, None]
    assert (new > others.masked_fill(of_taste, -torch.inf).max(1).values).float().mean() > 0.9
