"""Which items go together in whole histories: a linear model beside the deep network.

The network sums a history up in D numbers and knows best what comes next; a weight for every pair
of items remembers what a long history says about any item. The weights are EASE's (Embarrassingly
Shallow Autoencoders, Steck 2019), the strongest of each item kept. Letters: B shoppers, N events,
n purchases of theirs, V items, M of them with weights, K weights kept of an item.

    added to the score of item j = trust · sum over bought items i of weight(i, j) / (1 + age(i))^p

An age counts the items that were bought later. Sums are of whole numbers, so that their bits depend
neither on the device nor on who else is in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.learnt.history_batch import EVENT_KINDS, PURCHASE, UNKNOWN_ITEM, HistoryBatch
from models.learnt.successors import Bonus

# the matrix to invert has so many rows: 288 MB; folders hold tables of this size, so another
# number here makes them unreadable
MOST_ITEMS = 6_000
AGE_POWER = 0.2
_RETURN = EVENT_KINDS.index("return")
_WEIGHT_ONE, _AGE_ONE = 2**20, 2**10  # whole numbers that stand for 1
_LIMIT = np.iinfo(np.int32).max
_PURCHASES_AT_ONCE, _ROWS_AT_ONCE = 16_384, 256


class KeptPurchases(NamedTuple):
    """The different items that B shoppers bought and kept, each by its newest purchase."""

    histories: int  # B
    shoppers: Tensor  # (n,) int64, ascending; oldest first within a shopper
    items: Tensor  # (n,) int64 item rows
    events: Tensor  # (n,) int64 places in the batch's events
    ages: Tensor  # (n,) int64, how many of the shopper's items are newer


def kept_purchases(batch: HistoryBatch, max_events: int) -> KeptPurchases:
    """Return what was bought, and not sent back after it, in the newest events of each shopper."""
    shoppers = torch.arange(len(batch.lengths), device=batch.lengths.device)
    owners = shoppers.repeat_interleave(batch.lengths)
    behind = batch.lengths.cumsum(0)[owners] - torch.arange(len(owners), device=owners.device)
    moves_item = (batch.kinds == PURCHASE) | (batch.kinds == _RETURN)
    events = (moves_item & (batch.item_rows >= 0) & (behind <= max_events)).nonzero().flatten()
    pairs = (owners[events] << 32) + batch.item_rows[events]
    different, which = torch.unique(pairs, return_inverse=True)
    newest = torch.full_like(different, -1).scatter_reduce(0, which, events, "amax")
    newest = newest[batch.kinds[newest] == PURCHASE].sort().values
    kept = owners[newest]
    ends = torch.bincount(kept, minlength=len(shoppers)).cumsum(0)
    ages = ends[kept] - 1 - torch.arange(len(kept), device=kept.device)
    return KeptPurchases(len(shoppers), kept, batch.item_rows[newest], newest, ages)


class Neighbours(nn.Module):
    """The weights between items, and how far they are trusted beside the network (0: not)."""

    items: Tensor  # (M,) int32 item rows, ascending
    places: Tensor  # (V,) int32 place of each item among the M, UNKNOWN_ITEM for the others
    near: Tensor  # (M, K) int32 places of the items that a bought one speaks for or against
    weights: Tensor  # (M, K) int32, in 2^-20
    trust: Tensor  # () float32

    def __init__(self, items: int, kept: int) -> None:
        """Know no weight yet, and trust none."""
        super().__init__()
        known = min(items, MOST_ITEMS)
        shape = (known, min(kept, known))
        self.register_buffer("items", torch.arange(known, dtype=torch.int32))
        self.register_buffer("places", torch.full((items,), UNKNOWN_ITEM, dtype=torch.int32))
        self.register_buffer("near", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("trust", torch.zeros(()))

    def remember(self, items: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Keep the strongest of the weights (M, M) of some items (M,), ascending: from row to
        column."""
        self.items.copy_(torch.from_numpy(items))
        self.places.fill_(UNKNOWN_ITEM)
        self.places[self.items.long()] = torch.arange(
            len(items), dtype=torch.int32, device=self.places.device
        )
        for start in range(0, len(items), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            strong = np.argsort(-np.abs(weights[part]), axis=1, kind="stable")
            strong = strong[:, : self.near.shape[1]]
            whole = np.rint(np.take_along_axis(weights[part], strong, 1) * _WEIGHT_ONE)
            self.near[part] = torch.from_numpy(strong)
            self.weights[part] = torch.from_numpy(whole.clip(-_LIMIT, _LIMIT))

    def sums(self, bought: KeptPurchases) -> Tensor:
        """Return what all that was bought says of the M items, before trust: (B, M) float32."""
        known = len(self.items)
        found = torch.zeros(bought.histories * known, dtype=torch.int64, device=bought.items.device)
        every = torch.arange(len(bought.items), device=found.device)
        for part in torch.split(every, _PURCHASES_AT_ONCE):
            places = self.places[bought.items[part]].long()
            part, places = part[places >= 0], places[places >= 0]
            columns = self.near[places] + (bought.shoppers[part] * known).unsqueeze(1)
            ages = (_AGE_ONE * age_weights(bought.ages[part])).long()
            values = self.weights[places] * ages.unsqueeze(1)
            found.index_add_(0, columns.flatten(), values.flatten())
        return (found.double() / (_WEIGHT_ONE * _AGE_ONE)).float().view(-1, known)

    def bonus(self, sums: Tensor, trust: Tensor | float | None = None) -> Bonus:
        """Return what sums (B, M) add to scores, at the module's trust or another."""
        trust = self.trust.float() if trust is None else trust
        return Bonus(self.items.long().expand(len(sums), -1), sums * trust)

    def between(self, bought: Tensor, others: Tensor) -> Tensor:
        """Return what bought items (b,) at age 0 add to the scores of others (n,): (b, n) float64.

        Both are item rows, the others different, UNKNOWN_ITEM among them allowed.
        """
        found = torch.zeros((len(bought), len(others)), dtype=torch.int32, device=bought.device)
        wanted = torch.where(others >= 0, self.places[others.clamp(min=0)], UNKNOWN_ITEM)
        columns = torch.full_like(self.items, -1)  # (M,) of the places that are asked for
        asked = (wanted >= 0).nonzero().flatten()
        columns[wanted[asked].long()] = asked.int()
        places = self.places[bought].long()
        rows = (places >= 0).nonzero().flatten()
        places = places[rows]
        columns = columns[self.near[places].long()]  # (b, K)
        row, near = (columns >= 0).nonzero(as_tuple=True)
        found[rows[row], columns[row, near].long()] = self.weights[places[row], near]
        return found.double() / _WEIGHT_ONE * float(self.trust)


def age_weights(ages: Tensor) -> Tensor:
    """Return how much purchases of these ages count, the newest 1: float64, whole 1024ths."""
    return (_AGE_ONE * (1.0 + ages.double()) ** -AGE_POWER).round() / _AGE_ONE
