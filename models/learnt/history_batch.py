"""The events of many shoppers as tensors, and their cut into length buckets.

A history is padded to its own length bucket and never to its neighbours, so that the same history
gives the same bits whatever stands beside it. Letters: B shoppers, N events of all of them, L
tokens of one history (start token and padding counted), W width of text vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# The types of events, in the order of their embeddings; the start token stands before every
# history, so that a shopper without one has a state too.
EVENT_KINDS = ("start", "purchase", "search", "return", "review", "question")
START, PURCHASE = EVENT_KINDS.index("start"), EVENT_KINDS.index("purchase")
UNKNOWN_ITEM = -1
BUCKET_TOKENS = 16
_MICRO_BATCH_TOKENS = 8_192
STARS = 6  # 0: none given, else rounded 1 to 5


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """The events of B shoppers one after the other, each shopper's oldest first, not padded.

    A purchase of several products is one event each. Searches and questions have no item.
    """

    lengths: Tensor  # (B,) int64, events of each shopper; 0 is a shopper without a history
    kinds: Tensor  # (N,) int64, index into EVENT_KINDS
    item_rows: Tensor  # (N,) int64, UNKNOWN_ITEM where there is none or training never met it
    vectors: Tensor  # (N, W) text vector of the query or the item, zeros where there is none
    gaps_s: Tensor  # (N,) float32, seconds since the shopper's event before; 0 for the first
    stars: Tensor  # (N,) float32, 1 to 5; 0 where none were given

    def to(self, device: torch.device) -> HistoryBatch:
        """Return the batch on a device."""
        return HistoryBatch(
            self.lengths.to(device),
            self.kinds.to(device),
            self.item_rows.to(device),
            self.vectors.to(device),
            self.gaps_s.to(device),
            self.stars.to(device),
        )


@dataclass(frozen=True, slots=True)
class PaddedEvents:
    """Histories of one length bucket, start token first, padding last; every field (B, L)."""

    event_rows: Tensor  # row of the event's input, -1 for the start token and padding
    kinds: Tensor
    gaps: Tensor  # bucket of the gap
    stars: Tensor  # rounded


def last_purchases(batch: HistoryBatch) -> Tensor:
    """Return the item row of each shopper's newest purchase of a known item: (B,)."""
    newest = last_purchase_events(batch)
    if not len(batch.item_rows):
        return newest
    return torch.where(newest >= 0, batch.item_rows[newest.clamp(min=0)], UNKNOWN_ITEM)


def last_purchase_events(batch: HistoryBatch) -> Tensor:
    """Return the places of those purchases among the batch's events, -1 for none: (B,)."""
    bought = ((batch.kinds == PURCHASE) & (batch.item_rows >= 0)).nonzero().flatten()
    shoppers = torch.arange(len(batch.lengths), device=batch.lengths.device)
    owners = shoppers.repeat_interleave(batch.lengths)[bought]
    return torch.full_like(shoppers, -1).scatter_reduce(0, owners, bought, "amax")


def last_purchases_at(events: PaddedEvents, items: int) -> Tensor:
    """Return for each token the item row of the newest purchase up to it: (B, L).

    Rows of events from `items` on are no items.
    """
    rows = events.event_rows
    bought = (events.kinds == PURCHASE) & (rows >= 0) & (rows < items)
    places = torch.arange(rows.shape[1], device=rows.device)
    newest = torch.where(bought, places, -1).cummax(1).values
    return torch.where(newest >= 0, rows.gather(1, newest.clamp(min=0)), UNKNOWN_ITEM)


def gap_bucket(gaps_s: Tensor, buckets: int) -> Tensor:
    """Return the log2 bucket of each gap, the last one open: int64, same shape."""
    found = torch.log2(gaps_s.clamp(min=0) + 1).long()
    return found.clamp(max=max(buckets - 1, 0))


def padded_buckets(
    batch: HistoryBatch, max_events: int, gap_buckets: int
) -> Iterator[tuple[Tensor, PaddedEvents]]:
    """Yield rows of one length bucket (b,) and their newest events, within a token budget.

    On a GPU, whose libraries choose kernels by the number of rows, a bucket always has the same
    number: rows of padding follow the `b` asked for.
    """
    kept = batch.lengths.clamp(max=max_events)
    firsts = batch.lengths.cumsum(0) - kept  # of the kept events
    buckets = (kept // BUCKET_TOKENS + 1) * BUCKET_TOKENS  # the start token counted
    for length in sorted(set(buckets.tolist())):
        size = max(1, _MICRO_BATCH_TOKENS // length)
        for rows in (buckets == length).nonzero().flatten().split(size):
            count = size if batch.lengths.device.type != "cpu" else len(rows)
            yield rows, _padded(batch, gap_buckets, firsts[rows], kept[rows], length, count)


def _padded(
    batch: HistoryBatch,
    gap_buckets: int,
    firsts: Tensor,
    kept: Tensor,
    length: int,
    count: int,
) -> PaddedEvents:
    places = torch.arange(length, device=kept.device)
    events = firsts.unsqueeze(1) + places - 1  # (b, L)
    events = events.masked_fill((places == 0) | (places > kept.unsqueeze(1)), -1)
    events = F.pad(events, (0, 0, 0, count - len(events)), value=-1)
    here, picked = events >= 0, events.clamp(min=0)

    def of(field: Tensor) -> Tensor:
        return field[picked] * here if len(field) else torch.zeros_like(events)

    return PaddedEvents(
        event_rows=events,
        kinds=of(batch.kinds),
        gaps=of(gap_bucket(batch.gaps_s, gap_buckets)),
        stars=of(batch.stars.round().clamp(0, STARS - 1).long()),
    )
