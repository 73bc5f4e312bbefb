"""Shoppers' histories as the recommender's network reads them, and which event each row came from.

The same reading as in training: a purchase of several products is one event each. Left out are
events that would say nothing to the network: searches whose vector is not at hand, and products
that training never met and that have no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.history_batch import EVENT_KINDS, UNKNOWN_ITEM, HistoryBatch
from models.product_index import ProductIndex
from models.recommendation.shopper import Shopper, ShopperEvent

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """One event as the network reads it: about a product or about a query."""

    event: ShopperEvent
    product_id: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class ReadHistories:
    """The histories of B shoppers; `events[b]` are the rows of shopper b, oldest first."""

    batch: HistoryBatch
    events: Sequence[Sequence[ReadEvent]]


def read_histories(
    shoppers: Sequence[Shopper],
    index: ProductIndex,
    item_rows: Mapping[str, int],
    text_width: int,
    max_events: int,
) -> ReadHistories:
    """Return the newest `max_events` of each shopper's events as tensors on the CPU.

    Args:
        shoppers: histories with the vectors of their queries.
        index: gives the products' text vectors.
        item_rows: product id -> row of the network's item table.
        text_width: of the network's text vectors; 0: it reads no texts.
        max_events: how many events the network reads.
    """
    met = dict.fromkeys(i for one in shoppers for e in one.events for i in e.product_ids)
    vectors, found = index.vectors_of(list(met))  # (m, W)
    texts = {i: vectors[row] for row, i in enumerate(met) if text_width and found[row]}
    known = item_rows.keys() | texts.keys()
    events = [_newest(shopper, known, text_width, max_events) for shopper in shoppers]
    rows = [one for history in events for one in history]
    matrix = np.zeros((len(rows), text_width), dtype=np.float32)  # (N, W)
    owners = (shopper for shopper, history in zip(shoppers, events, strict=True) for _ in history)
    for row, (one, shopper) in enumerate(zip(rows, owners, strict=True)):
        vector = texts.get(one.product_id) if one.product_id else None
        if one.query is not None:
            vector = shopper.query_vectors[one.query]
        if vector is not None:
            matrix[row] = vector
    return ReadHistories(_batch(events, rows, item_rows, matrix), events)


def _newest(shopper: Shopper, known: set[str], text_width: int, max_events: int) -> list[ReadEvent]:
    """Return the newest events the network can read, oldest first."""
    newest: list[ReadEvent] = []
    for event in sorted(shopper.events, key=lambda event: event.order, reverse=True):
        for one in reversed(list(_read(event, shopper, known, text_width))):
            if len(newest) == max_events:
                return newest[::-1]
            newest.append(one)
    return newest[::-1]


def _read(
    event: ShopperEvent, shopper: Shopper, known: set[str], text_width: int
) -> Iterator[ReadEvent]:
    if event.query is not None:
        if text_width and event.query in shopper.query_vectors:
            yield ReadEvent(event, query=event.query)
        return
    for product_id in event.product_ids:
        if product_id in known:
            yield ReadEvent(event, product_id)


def _batch(
    events: Sequence[Sequence[ReadEvent]],
    rows: Sequence[ReadEvent],
    item_rows: Mapping[str, int],
    vectors: Vector,
) -> HistoryBatch:
    items = [item_rows.get(one.product_id or "", UNKNOWN_ITEM) for one in rows]
    kinds = [EVENT_KINDS.index(one.event.kind) for one in rows]
    stars = [min(max(one.event.stars or 0.0, 0.0), 5.0) for one in rows]
    gaps = [gap for history in events for gap in _gaps_s(history)]
    return HistoryBatch(
        lengths=torch.tensor([len(history) for history in events], dtype=torch.int64),
        kinds=torch.tensor(kinds, dtype=torch.int64),
        item_rows=torch.tensor(items, dtype=torch.int64),
        vectors=torch.from_numpy(vectors),
        gaps_s=torch.tensor(gaps, dtype=torch.float32),
        stars=torch.tensor(stars, dtype=torch.float32),
    )


def _gaps_s(history: Sequence[ReadEvent]) -> Iterator[float]:
    before = None
    for one in history:
        now_ms = one.event.occurred_at_ms
        yield 0.0 if before is None else (now_ms - before) / 1000
        before = now_ms
