"""A small recommender trained on planted tastes: shoppers walk round one of two shelves.

On each shelf item n is followed by item n + 1; a search for a shelf's word is followed by its
first item. The vectors of texts point to their shelf.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.learnt.files import LoadedRecommender
from models.learnt.history_batch import EVENT_KINDS, PURCHASE
from models.product_index import IndexedProduct, ProductIndex
from models.recommender import RecommenderConfig
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.event_sequences import EventSequences
from training.recommender.sequences.held_out import hold_out_last
from training.recommender.train import RecommenderTraining, train_recommender

Vectors = NDArray[np.float32]

SHELVES = ("tea", "tool")
ITEMS_PER_SHELF = 8
TEXT_WIDTH = 8


def item_ids() -> list[str]:
    """Return the items that training meets: tea-0 … tea-7, tool-0 … tool-7."""
    return [f"{shelf}-{number}" for shelf in SHELVES for number in range(ITEMS_PER_SHELF)]


def text_vector(shelf: str, seed: int) -> NDArray[np.float32]:
    """Return a unit vector that points to a shelf, with a little of its own."""
    vector = 0.1 * np.random.default_rng(seed).standard_normal(TEXT_WIDTH)
    vector[SHELVES.index(shelf)] += 1.0
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def planted_sequences(texts: Vectors, queries: Vectors, shoppers: int = 300) -> EventSequences:
    """Return the shoppers' events: a search, then a walk along the shelf from its first item.

    `texts` (16, W) are the vectors of the items, `queries` (2, W) those of the shelves' words.
    """
    generator = np.random.default_rng(5)
    inputs: list[int] = []
    kinds: list[int] = []
    offsets = [0]
    count = ITEMS_PER_SHELF * len(SHELVES)
    for number in range(shoppers):
        shelf = number % len(SHELVES)
        start = 0
        if number % 4 < 2:
            inputs.append(count + shelf)
            kinds.append(EVENT_KINDS.index("search"))
        else:
            start = int(generator.integers(ITEMS_PER_SHELF))
        steps = int(generator.integers(3, 7))
        walk = [(start + step) % ITEMS_PER_SHELF for step in range(steps)]
        inputs.extend(shelf * ITEMS_PER_SHELF + place for place in walk)
        kinds.extend([PURCHASE] * steps)
        offsets.append(len(inputs))
    return EventSequences(
        item_ids=item_ids(),
        offsets=np.array(offsets, dtype=np.int64),
        inputs=np.array(inputs, dtype=np.int64),
        kinds=np.array(kinds, dtype=np.int64),
        is_label=np.array(kinds) == PURCHASE,
        gaps_s=np.full(len(inputs), 60.0, dtype=np.float32),
        stars=np.zeros(len(inputs), dtype=np.float32),
        text_vectors=texts,
        query_vectors=queries,
    )


@cache
def planted_recommender() -> LoadedRecommender:
    """Return the recommender of `text_vector`; made once a run, two seconds."""
    shelves = np.repeat(SHELVES, ITEMS_PER_SHELF).tolist()
    texts = np.stack([text_vector(shelf, 100 + row) for row, shelf in enumerate(shelves)])
    return trained_on(texts, np.stack([text_vector(shelf, 7) for shelf in SHELVES]))


def trained_on(texts: Vectors, queries: Vectors) -> LoadedRecommender:
    """Return a recommender trained on the planted walks, with these text vectors."""
    train, held = hold_out_last(planted_sequences(texts, queries), remove_seen=False)
    config = RecommenderConfig(
        items=ITEMS_PER_SHELF * len(SHELVES),
        text_width=texts.shape[1],
        width=32,
        blocks=1,
        hidden=32,
        max_events=32,
        dropout=0.0,
        id_dropout=0.2,
        temperature=0.1,
    )
    options = RecommenderTraining(
        epochs=10,
        max_tokens=400,
        learning_rate=2e-2,
        warmup_steps=10,
        precision="fp32",
        average_decay=0.0,
    )
    trained = train_recommender(config, train, held, options, LossOptions())
    network = trained.network.eval().requires_grad_(False)
    return LoadedRecommender(network, item_ids(), {"ndcg@10": trained.best})


def shelf_product(shelf: str, number: int, **fields: object) -> IndexedProduct:
    """Return a product of a shelf; numbers that training met have the text they had there."""
    row = SHELVES.index(shelf) * ITEMS_PER_SHELF + number
    known = {"title": f"{shelf} {number}", "vector": text_vector(shelf, 100 + row), **fields}
    return IndexedProduct(f"{shelf}-{number}", **known)  # type: ignore[arg-type]


def shelf_index(per_shelf: int = ITEMS_PER_SHELF) -> ProductIndex:
    """Return an index of both shelves."""
    index = ProductIndex(TEXT_WIDTH)
    index.apply([shelf_product(shelf, n) for shelf in SHELVES for n in range(per_shelf)])
    return index
