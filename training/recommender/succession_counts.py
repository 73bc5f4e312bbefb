"""How often each item was bought right after each other one: what `Successors` remembers."""

from __future__ import annotations

import numpy as np
import torch

from models.learnt.successors import Successors
from models.recommender import UNKNOWN_ITEM
from training.recommender.sequences.event_sequences import EventSequences

_LEAST = 2  # what happened once is one shopper's own affair, and tells nothing


def count_successors(
    successors: Successors, sequences: EventSequences, visits: bool, seed: int
) -> None:
    """Fill the module with the most frequent successors of each item.

    A succession is a purchase and what the network is trained to tell after it: the next one, or
    with `visits` one of the next moment, drawn by the seed.
    """
    items, kept = successors.items.shape
    after = sequences.targets(visits, np.random.default_rng(seed)).after
    known = sequences.is_label & (after >= 0)
    pairs, counts = np.unique(sequences.inputs[known] * items + after[known], return_counts=True)
    often = counts >= _LEAST
    pairs, counts = pairs[often], counts[often]
    order = np.lexsort((pairs, -counts, pairs // items))  # each item's most frequent first
    pairs, counts = pairs[order], counts[order]
    owners = pairs // items
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    first = places < kept
    table = np.full((items, kept), UNKNOWN_ITEM, dtype=np.int32)
    table[owners[first], places[first]] = pairs[first] % items
    counted = np.zeros((items, kept), dtype=np.int32)
    counted[owners[first], places[first]] = counts[first]
    # half a purchase for what was never bought: a share of nothing cannot be divided by
    bought = np.bincount(sequences.inputs[sequences.is_label], minlength=items) + 0.5
    share = (bought / bought.sum()).astype(np.float32)
    successors.remember(*(torch.from_numpy(part) for part in (table, counted, share)))
