"""What shoppers bought right after an item, counted: the wide part beside the deep network.

A network of width D tells which item follows which only as well as D numbers an item can; a count
remembers it exactly, and the network learns how far to trust it (Wide & Deep, Cheng et al. 2016;
the counts are a first-order Markov chain's). Letters: n shoppers or tokens, V items, K successors
kept of an item, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learnt.history_batch import UNKNOWN_ITEM

LEAST_SHOPPERS = 2  # what only one did is their own affair, and tells nothing
_SURPRISE = 50.0  # times an item's share of all purchases: the count that adds log 2
_TRUST_AT_FIRST = -2.25  # softplus of it is 0.1


class Bonus(NamedTuple):
    """What is added to the scores of some items; a place without a successor adds 0 to row 0."""

    rows: Tensor  # (n, K) int64 item rows
    values: Tensor  # (n, K)

    def add_to(self, scores: Tensor) -> Tensor:
        """Add it in place to scores (n, V) of all items in row order, and return them."""
        return scores.scatter_add_(1, self.rows, self.values.to(scores.dtype))

    def of(self, targets: Tensor) -> Tensor:
        """Return what it adds to one item of each row: (n,)."""
        return (self.values * (self.rows == targets.unsqueeze(1))).sum(1)

    def part(self, part: slice) -> Bonus:
        """Return some of the rows."""
        return Bonus(self.rows[part], self.values[part])


def no_bonus(rows: int, device: torch.device) -> Bonus:
    """Return what adds nothing, K = 0."""
    return Bonus(
        torch.zeros((rows, 0), dtype=torch.int64, device=device),
        torch.zeros((rows, 0), device=device),
    )


class Successors(nn.Module):
    """The counted successors of each item, and how far a shopper's state trusts them."""

    items: Tensor  # (V, K) int32, UNKNOWN_ITEM where there are fewer
    counts: Tensor  # (V, K) int32, shoppers who went on so
    least: Tensor  # (V,) int32, shoppers that the first successor left out has
    share: Tensor  # (V,) float32, of all purchases

    def __init__(self, items: int, kept: int, width: int, dropout: float = 0.0) -> None:
        """Know no successor yet; training leaves this share of the bonuses out."""
        super().__init__()
        self.dropout = dropout
        self.register_buffer("items", torch.full((items, kept), UNKNOWN_ITEM, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros((items, kept), dtype=torch.int32))
        self.register_buffer("least", torch.full((items,), LEAST_SHOPPERS, dtype=torch.int32))
        self.register_buffer("share", torch.ones(items) / items)
        self.trust = nn.Linear(width, 1)

    def reset(self) -> None:
        """Trust every count alike, and little."""
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, _TRUST_AT_FIRST)

    def remember(self, items: Tensor, counts: Tensor, least: Tensor, share: Tensor) -> None:
        """Set what was counted: (V, K), (V, K), (V,) and (V,)."""
        self.items.copy_(items)
        self.counts.copy_(counts)
        self.least.copy_(least)
        self.share.copy_(share)

    def forward(self, last: Tensor, states: Tensor, own: Tensor | None = None) -> Bonus:
        """Return what the successors of the last purchases (n,) add for the states (n, D).

        `own` (n,) are items whose count holds the shopper asked about, once: left out.
        """
        rows = last.clamp(min=0)
        items = self.items.index_select(0, rows).long()
        counts = self.counts.index_select(0, rows)
        known = (items >= 0) & (last >= 0).unsqueeze(1)
        if self.training and self.dropout:
            # so that the deep part learns what the counts know as well, and need not lean on them
            known = known & (torch.rand((len(last), 1), device=last.device) >= self.dropout)
        if own is not None:
            # what would not stand here without the shopper must not: to stand among so few, at
            # however low a count, would tell the network which item it is asked for
            counts = counts - (items == own.unsqueeze(1)).int()
            known = known & (counts >= self.least.index_select(0, rows).unsqueeze(1))
        items = items.clamp(min=0)
        expected = _SURPRISE * self.share.float()[items]
        surprise = torch.log1p(counts / expected) * known
        # in float64, and no matrix product: the bits must not depend on who else is in the batch
        weight, bias = self.trust.weight.double(), self.trust.bias.double()
        trust = F.softplus((states.double() * weight).sum(-1, keepdim=True) + bias).float()
        return Bonus(items * known, trust * surprise)
