"""Purchases kept from training, and how high a network ranks them among all items.

Full ranking, never against sampled items; a tie counts against the network. Letters: C cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.learnt.history_batch import HistoryBatch
from models.recommender import RecommenderNetwork
from training.recommender.sequences.event_sequences import (
    EventSequences,
    Rows,
    UnfitTrainingData,
    ranges,
)

_CASES_AT_ONCE = 256
_REPEATED_SHARE = 0.01  # of purchases: above it, shoppers of this shop buy things again


@dataclass(frozen=True, slots=True)
class HeldOut:
    """C purchases: the events before each are `starts[c]` to `ends[c]` of `sequences`."""

    sequences: EventSequences
    starts: Rows
    ends: Rows
    targets: Rows  # item rows
    remove_seen: bool  # what a shopper has bought is no candidate

    def part(self, rank: int, world: int) -> HeldOut:
        """Return every `world`-th case from `rank` on."""
        return self._of(np.arange(rank, len(self.targets), world))

    def sample(self, cases: int, seed: int) -> HeldOut:
        """Return so many cases drawn by the seed; all of them where there are no more, or for 0."""
        if not 0 < cases < len(self.targets):
            return self
        draw = np.random.default_rng(seed)
        return self._of(np.sort(draw.choice(len(self.targets), cases, replace=False)))

    def _of(self, rows: Rows) -> HeldOut:
        return HeldOut(
            self.sequences, self.starts[rows], self.ends[rows], self.targets[rows], self.remove_seen
        )


def hold_out_last(sequences: EventSequences, remove_seen: bool) -> tuple[EventSequences, HeldOut]:
    """Take each shopper's last purchase, and what follows it, from training.

    Shoppers with a single purchase stay in training whole. Raises UnfitTrainingData.
    """
    purchases = np.flatnonzero(sequences.is_label)
    owners = np.searchsorted(sequences.offsets, purchases, side="right") - 1
    is_last = np.ones(len(purchases), dtype=bool)
    is_last[:-1] = owners[1:] != owners[:-1]
    counts = np.bincount(owners, minlength=sequences.shoppers)
    chosen = is_last & (counts[owners] > 1)
    return _cut(sequences, owners[chosen], purchases[chosen], remove_seen)


def hold_out_after(
    sequences: EventSequences, moment_s: float, remove_seen: bool
) -> tuple[EventSequences, HeldOut]:
    """Take every event from `moment_s` on from training; the first purchase then is the case.

    Raises UnfitTrainingData where there are no times or nothing is left on one side.
    """
    if sequences.times_s is None:
        raise UnfitTrainingData(
            "a split by time needs a timestamp for every interaction; "
            "add them or choose the split `last`"
        )
    late = sequences.times_s >= moment_s
    owners = sequences.owners
    wanted = np.flatnonzero(late & sequences.is_label)
    shoppers, first = np.unique(owners[wanted], return_index=True)
    _, held = _cut(sequences, shoppers, wanted[first], remove_seen)
    return _keep(sequences, ~late), held


def repeats_purchases(sequences: EventSequences) -> bool:
    """Return whether shoppers buy the same item again: seen items are then candidates."""
    owners = sequences.owners
    bought = sequences.is_label
    pairs = owners[bought] * sequences.items + sequences.inputs[bought]
    return len(np.unique(pairs)) < (1 - _REPEATED_SHARE) * len(pairs)


def _cut(
    sequences: EventSequences, shoppers: Rows, cuts: Rows, remove_seen: bool
) -> tuple[EventSequences, HeldOut]:
    """Keep of these shoppers what comes before their cut (an event), and hold the cut out."""
    if not len(cuts):
        raise UnfitTrainingData(
            "no purchase can be held out for validation: every shopper has but one; "
            "more history is needed"
        )
    targets = sequences.inputs[cuts]
    held = HeldOut(sequences, sequences.offsets[shoppers], cuts, targets, remove_seen)
    ends = sequences.offsets[1:].copy()
    ends[shoppers] = cuts
    keep = np.zeros(len(sequences.inputs), dtype=bool)
    keep[ranges(sequences.offsets[:-1], ends - sequences.offsets[:-1])] = True
    return _keep(sequences, keep), held


def _keep(sequences: EventSequences, keep: NDArray[np.bool_]) -> EventSequences:
    """Return the sequences of the kept events; shoppers without any are left out."""
    if not keep.any():
        raise UnfitTrainingData("no event is left to train on after the split; choose another")
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    counts = np.diff(kept_before[sequences.offsets])
    times = sequences.times_s
    return EventSequences(
        item_ids=sequences.item_ids,
        offsets=np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64),
        inputs=sequences.inputs[keep],
        kinds=sequences.kinds[keep],
        gaps_s=sequences.gaps_s[keep],
        stars=sequences.stars[keep],
        is_label=sequences.is_label[keep],
        times_s=None if times is None else times[keep],
        text_vectors=sequences.text_vectors,
        query_vectors=sequences.query_vectors,
    )


@torch.inference_mode()
def ranks(network: RecommenderNetwork, held: HeldOut, low_precision: bool = False) -> Rows:
    """Return the place of each case's item among all candidates, best 0: (C,).

    `low_precision` runs the network, not the scores, in bfloat16.
    """
    found = np.empty(len(held.targets), dtype=np.int64)
    for rows, _, scores in scored(network, held, low_precision):
        found[rows] = places_of(scores, held, rows).cpu().numpy()
    return found


@torch.inference_mode()
def scored(
    network: RecommenderNetwork, held: HeldOut, low_precision: bool = False
) -> Iterator[tuple[Rows, HistoryBatch, Tensor]]:
    """Yield a few cases after the other: their rows (c,), histories and scores (c, V)."""
    network.eval()
    device, sequences = network.device, held.sequences
    texts = sequences.text_vectors
    with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
        items = network.encode_items(
            None, None if texts is None else torch.from_numpy(texts).to(device)
        ).float()
    order = np.argsort(held.ends - held.starts, kind="stable")  # similar lengths together
    for start in range(0, len(order), _CASES_AT_ONCE):
        rows = order[start : start + _CASES_AT_ONCE]
        batch = sequences.history_batch(held.starts[rows], held.ends[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
            shoppers = network.encode_histories(batch)
        scores = shoppers @ items.T
        for bonus in network.bonuses(batch, shoppers):
            bonus.add_to(scores)
        yield rows, batch, scores


def places_of(scores: Tensor, held: HeldOut, rows: Rows) -> Tensor:
    """Return how many candidates stand at or above the target of each of these cases: (c,).

    The target itself is not counted. Scores (c, V) of what is no candidate become -inf in place.
    """
    targets = torch.from_numpy(held.targets[rows]).to(scores.device).unsqueeze(1)
    wanted = scores.gather(1, targets)
    if held.remove_seen:
        lengths = held.ends[rows] - held.starts[rows]
        seen = held.sequences.inputs[ranges(held.starts[rows], lengths)]
        cases = np.repeat(np.arange(len(rows)), lengths)
        is_item = (seen >= 0) & (seen < held.sequences.items)
        scores[cases[is_item], seen[is_item]] = -torch.inf
        scores.scatter_(1, targets, wanted)
    return (scores >= wanted).sum(1) - 1


def ndcg_and_hit_rate(places: Rows, k: int = 10) -> tuple[float, float]:
    """Return NDCG@k and HR@k of cases with one relevant item each."""
    return float(ndcg_of(places, k).mean()), float((places < k).mean())


def ndcg_of(places: Rows, k: int = 10) -> NDArray[np.float64]:
    """Return NDCG@k of each case, same shape."""
    return np.where(places < k, 1.0 / np.log2(places + 2.0), 0.0)
