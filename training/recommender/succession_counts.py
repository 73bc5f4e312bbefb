"""How many shoppers bought an item right after another: what `Successors` remembers."""

from __future__ import annotations

import numpy as np
import torch

from models.learnt.successors import LEAST_SHOPPERS, Successors
from models.recommender import UNKNOWN_ITEM
from training.recommender.sequences.event_sequences import EventSequences, Rows


def count_successors(
    successors: Successors, sequences: EventSequences, visits: bool, seed: int
) -> None:
    """Fill the module with the most frequent successors of each item.

    A succession is a purchase and what the network is trained to tell after it: the next one, or
    with `visits` one of the next moment, drawn by the seed. However often a shopper does it, it
    counts once, so that in training one less is what all the others did.
    """
    items, kept = successors.items.shape
    pairs, counts = _shoppers_of_pairs(sequences, visits, seed)
    often = counts >= LEAST_SHOPPERS
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
    least = np.full(items, LEAST_SHOPPERS, dtype=np.int32)
    least[owners[places == kept]] = counts[places == kept]
    # half a purchase for what was never bought: a share of nothing cannot be divided by
    bought = np.bincount(sequences.inputs[sequences.is_label], minlength=items) + 0.5
    share = (bought / bought.sum()).astype(np.float32)
    successors.remember(*(torch.from_numpy(part) for part in (table, counted, least, share)))


def _shoppers_of_pairs(sequences: EventSequences, visits: bool, seed: int) -> tuple[Rows, Rows]:
    """Return the different successions, as item * V + successor, and how many shoppers did each."""
    after = sequences.targets(visits, np.random.default_rng(seed)).after
    known = np.flatnonzero(sequences.is_label & (after >= 0))
    pairs = sequences.inputs[known] * sequences.items + after[known]
    owners = sequences.owners[known]
    order = np.lexsort((owners, pairs))
    pairs, owners = pairs[order], owners[order]
    is_new = np.ones(len(pairs), dtype=bool)
    is_new[1:] = (pairs[1:] != pairs[:-1]) | (owners[1:] != owners[:-1])
    different, counts = np.unique(pairs[is_new], return_counts=True)
    return different, counts
