"""What recommender training reads: every shopper's events, oldest first, one array a field.

Letters: U shoppers, N events of all of them, V items, Q different queries, W width of text vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.history_batch import PURCHASE, UNKNOWN_ITEM, HistoryBatch

Rows = NDArray[np.int64]
Values = NDArray[np.float32]


class UnfitTrainingData(Exception):
    """The data cannot train a recommender; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Item rows that states are trained to tell; UNKNOWN_ITEM where nothing follows."""

    after: Rows  # (N,) of the state after each event
    first: Rows  # (U,) of the state before each shopper's first event


@dataclass(frozen=True, slots=True)
class EventSequences:
    """Shopper u's events are `offsets[u]` to `offsets[u + 1]` of every array of length N."""

    item_ids: Sequence[str]  # V
    offsets: Rows  # (U + 1,)
    inputs: Rows  # (N,) item row; V + q for query q; UNKNOWN_ITEM where there is neither
    kinds: Rows  # (N,) index into models.learnt.history_batch.EVENT_KINDS
    gaps_s: Values  # (N,) seconds since the shopper's event before; 0 for the first
    stars: Values  # (N,) 0 where none were given
    is_label: NDArray[np.bool_]  # (N,) purchases that were kept: what is learnt and tested
    times_s: NDArray[np.float64] | None = None  # (N,)
    text_vectors: Values | None = None  # (V, W)
    query_vectors: Values | None = None  # (Q, W)

    @property
    def items(self) -> int:
        """How many items there are (V)."""
        return len(self.item_ids)

    @property
    def shoppers(self) -> int:
        """How many shoppers there are (U)."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Rows:
        """How many events each shopper has: (U,)."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Rows:
        """The shopper of each event: (N,)."""
        return np.repeat(np.arange(self.shoppers), self.lengths)

    def targets(self, visits: bool, draw: np.random.Generator) -> Targets:
        """Return the item that each event's state is trained to tell.

        The next label, or with `visits` a drawn one of the next moment that has labels: what is
        bought together is bought at one moment, and a basket that is half known is never asked for.
        """
        events = len(self.inputs)
        owners = self.owners
        ends = self._visit_ends(owners) if visits else np.arange(1, events + 1)
        places = np.where(self.is_label, np.arange(events), events)
        following = np.append(np.minimum.accumulate(places[::-1])[::-1], events)  # at or after
        labels = np.append(np.cumsum(self.is_label) - self.is_label, self.is_label.sum())  # before
        where = np.flatnonzero(self.is_label)

        def pick(begin: Rows, shoppers: Rows) -> Rows:
            found = following[begin]
            known = found < self.offsets[1:][shoppers]
            if visits:
                found = np.where(known, found, 0)
                spare = labels[ends[found]] - labels[found]  # labels of that moment
                step = np.floor(draw.random(len(found)) * np.maximum(spare, 1)).astype(np.int64)
                found = where[np.minimum(labels[found] + step, len(where) - 1)]
            return np.where(known, self.inputs[np.where(known, found, 0)], UNKNOWN_ITEM)

        return Targets(
            after=pick(ends, owners), first=pick(self.offsets[:-1], np.arange(self.shoppers))
        )

    def _visit_ends(self, owners: Rows) -> Rows:
        """Return for each event the place of the first one of a later moment or shopper: (N,)."""
        if self.times_s is None:
            return np.arange(1, len(self.inputs) + 1)
        changes = (np.diff(owners) != 0) | (np.diff(self.times_s) != 0)
        ends = np.append(np.flatnonzero(changes) + 1, len(owners))
        lasting: Rows = np.repeat(ends, np.diff(ends, prepend=0))
        return lasting

    def history_batch(self, starts: Rows, ends: Rows) -> HistoryBatch:
        """Return the events `starts[b]` to `ends[b]` of B histories as the network reads them."""
        lengths = ends - starts
        events = ranges(starts, lengths)
        rows = self.inputs[events]
        item_rows = np.where(rows < self.items, rows, UNKNOWN_ITEM)
        return HistoryBatch(
            lengths=torch.from_numpy(lengths),
            kinds=torch.from_numpy(self.kinds[events]),
            item_rows=torch.from_numpy(item_rows),
            vectors=torch.from_numpy(self._vectors(rows)),
            gaps_s=torch.from_numpy(self.gaps_s[events]),
            stars=torch.from_numpy(self.stars[events]),
        )

    def _vectors(self, rows: Rows) -> Values:
        """Return the text or query vectors of input rows: (n, W), zeros where there is none."""
        if self.text_vectors is None:
            return np.zeros((len(rows), 0), dtype=np.float32)
        found = np.zeros((len(rows), self.text_vectors.shape[1]), dtype=np.float32)
        is_item = (rows >= 0) & (rows < self.items)
        found[is_item] = self.text_vectors[rows[is_item]]
        if self.query_vectors is not None and len(self.query_vectors):
            is_query = rows >= self.items
            found[is_query] = self.query_vectors[rows[is_query] - self.items]
        return found


def ranges(starts: Rows, lengths: Rows) -> Rows:
    """Return start, start + 1 … start + length - 1 of every pair, one after the other."""
    if not len(lengths):
        return np.empty(0, dtype=np.int64)
    firsts = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    places: Rows = firsts + np.arange(int(lengths.sum()))
    return places


def from_purchases(
    users: Rows, items: Rows, item_ids: Sequence[str], times_s: NDArray[np.float64] | None = None
) -> EventSequences:
    """Return plain item sequences: `users` and `items` (N,) rows, each user's events in order.

    `times_s` may be None: the order is then all that is known. Raises UnfitTrainingData.
    """
    if not len(users):
        raise UnfitTrainingData("there are no interactions to train on; check the file")
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    counts = np.unique(users, return_counts=True)[1]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    gaps = np.zeros(len(items), dtype=np.float32)
    if times_s is not None:
        times_s = times_s[order]
        gaps[1:] = np.clip(np.diff(times_s), 0, None)
        gaps[offsets[:-1]] = 0
    return EventSequences(
        item_ids=item_ids,
        offsets=offsets,
        inputs=items.astype(np.int64),
        kinds=np.full(len(items), PURCHASE, dtype=np.int64),
        gaps_s=gaps,
        stars=np.zeros(len(items), dtype=np.float32),
        is_label=np.ones(len(items), dtype=bool),
        times_s=times_s,
    )
