"""What products gain beside the network's dot product, for a worker: how much, and from what.

Successors of the last purchase and neighbours of all that was bought. Letters: B shoppers, n
products, b purchases of one shopper, V items, M items with neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.learnt.history_batch import (
    UNKNOWN_ITEM,
    HistoryBatch,
    last_purchase_events,
    last_purchases,
)
from models.learnt.neighbours import Neighbours, age_weights, kept_purchases
from models.recommendation.signals import Scores
from models.recommender import RecommenderNetwork

Rows = NDArray[np.int64]

_CANDIDATES = 50  # neighbours that enter a list's choice; successors all do


@dataclass(frozen=True, slots=True)
class ScoreGains:
    """One shopper's gains."""

    rows: Mapping[str, int]  # product id -> item row
    following: Mapping[str, float]  # gain of each successor of the last purchase
    last: int  # that purchase's place in the history
    near: _Near | None  # None: neighbours are not trusted
    candidates: Collection[str]  # products that gain most

    def of(self, ids: Sequence[str]) -> Scores:
        """Return what the scores of products gain: (n,)."""
        gains = np.array([self.following.get(i, 0.0) for i in ids])
        return gains if self.near is None else gains + self.near.gains_of(self._rows_of(ids))

    def by_event(self, ids: Sequence[str], events: int) -> Scores:
        """Return what each of the history's events adds to the scores of products: (n, events)."""
        gains = np.zeros((len(ids), events))
        if self.following:
            gains[:, self.last] = [self.following.get(i, 0.0) for i in ids]
        if self.near is not None:
            gains[:, self.near.events] += self.near.by_purchase(self._rows_of(ids))
        return gains

    def _rows_of(self, ids: Sequence[str]) -> Rows:
        return np.array([self.rows.get(i, UNKNOWN_ITEM) for i in ids], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Near:
    """What a shopper's purchases say of the M items."""

    neighbours: Neighbours
    places: NDArray[np.int32]  # (V,) of each item among the M
    gains: Scores  # (M,)
    bought: Tensor  # (b,) item rows
    events: Rows  # (b,) their places in the history
    ages: Scores  # (b,) how much each counts

    def gains_of(self, rows: Rows) -> Scores:
        """Return the gains of items by their rows: (n,)."""
        places = np.where(rows >= 0, self.places[rows], UNKNOWN_ITEM)
        found: Scores = np.where(places >= 0, self.gains[places], 0.0)
        return found

    def by_purchase(self, rows: Rows) -> Scores:
        """Return what each purchase adds to items by their rows: (n, b)."""
        others = torch.from_numpy(rows).to(self.bought.device)
        weights: Scores = self.neighbours.between(self.bought, others).cpu().numpy()
        return weights.T * self.ages

    def best(self, barred: Rows) -> Rows:
        """Return the rows of the items that gain most, these left out."""
        gains, places = self.gains.copy(), self.places[barred]
        gains[places[places >= 0]] = 0.0
        best = np.argpartition(-gains, min(_CANDIDATES, len(gains) - 1))[:_CANDIDATES]
        items = self.neighbours.items.cpu().numpy()
        return items[best[gains[best] > 0]].astype(np.int64)


class GainReader:
    """Reads a network's gains for the shoppers of a batch."""

    def __init__(
        self, network: RecommenderNetwork, item_ids: Sequence[str], rows: Mapping[str, int]
    ) -> None:
        """Read from a network whose items have these ids, and these rows."""
        self._network, self._item_ids, self._rows = network, item_ids, rows

    @torch.inference_mode()
    def read(
        self, batch: HistoryBatch, vectors: Tensor, barred: Sequence[Collection[str]]
    ) -> list[ScoreGains]:
        """Return each shopper's gains; `vectors` (B, D), what is barred is no candidate."""
        bonus = self._network.bonus(last_purchases(batch), vectors)
        starts = batch.lengths.cumsum(0) - batch.lengths
        lasts = (last_purchase_events(batch) - starts).tolist()
        nears = self._nears(batch, starts)
        found = []
        for rows, values, last, near, out in zip(
            bonus.rows.tolist(), bonus.values.tolist(), lasts, nears, barred, strict=True
        ):
            pairs = zip(rows, values, strict=True)
            following = {self._item_ids[row]: value for row, value in pairs if value}
            candidates = dict.fromkeys(following)
            if near is not None:
                known = np.array([self._rows[i] for i in out if i in self._rows], dtype=np.int64)
                candidates |= dict.fromkeys(self._item_ids[row] for row in near.best(known))
            found.append(ScoreGains(self._rows, following, last, near, candidates.keys()))
        return found

    def _nears(self, batch: HistoryBatch, starts: Tensor) -> Iterator[_Near | None]:
        config, count = self._network.config, len(starts)
        if not config.neighbours or not float(self._network.neighbours.trust):
            yield from [None] * count
            return
        neighbours = self._network.neighbours
        bought = kept_purchases(batch, config.max_events)
        gains = neighbours.bonus(neighbours.sums(bought)).values.double().cpu().numpy()
        events = (bought.events - starts[bought.shoppers]).cpu().numpy()
        ages = age_weights(bought.ages).cpu().numpy()
        places = neighbours.places.cpu().numpy()
        owners = bought.shoppers.cpu().numpy()
        for row in range(count):
            part = slice(*np.searchsorted(owners, [row, row + 1]))
            yield _Near(
                neighbours, places, gains[row], bought.items[part], events[part], ages[part]
            )
