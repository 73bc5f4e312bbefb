"""The item-item weights of EASE (Steck 2019), and how far they are trusted beside the network.

Letters: U shoppers, V items, M of them with weights, C held-out purchases.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.neighbours import Neighbours, kept_purchases
from models.recommender import RecommenderNetwork
from training.recommender.options import RecommenderTraining
from training.recommender.sequences.event_sequences import EventSequences, Rows
from training.recommender.sequences.held_out import (
    HeldOut,
    ndcg_of,
    places_of,
    scored,
)

Matrix = NDArray[np.float64]

TRUSTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_MOST_CASES = 10_000  # held-out purchases that choose the trust
_PAIRS_AT_ONCE = 1_000_000


def add_neighbours(
    network: RecommenderNetwork,
    sequences: EventSequences,
    held: HeldOut | None,
    options: RecommenderTraining,
) -> str:
    """Fit a trained network's neighbours, and trust them as told or as held-out purchases show.

    Returns what came of it, in a sentence.
    """
    fit_neighbours(network.neighbours, sequences)
    if options.neighbour_trust is not None:
        network.neighbours.trust.fill_(options.neighbour_trust)
        return f"neighbours: trust {options.neighbour_trust:g}, as told"
    if held is not None:
        return choose_trust(network, held, options.seed)
    return (
        "no held-out purchases choose how far the neighbours are trusted: they are not; give "
        "--neighbour-trust, as a training with validation has found it"
    )


def fit_neighbours(neighbours: Neighbours, sequences: EventSequences) -> None:
    """Fill the module with the weights between the items that most shoppers bought.

    The ridge is the mean number of shoppers of an item: between the .25 and 3.5 times that number
    which the paper found best for its three data sets.
    """
    shoppers, items = _bought(sequences)
    counts = np.bincount(items, minlength=sequences.items)
    known = np.argsort(-counts, kind="stable")[: len(neighbours.items)]
    known.sort()
    places = np.full(sequences.items, -1)
    places[known] = np.arange(len(known))
    inside = places[items] >= 0
    together = bought_together(shoppers[inside], places[items[inside]], len(known))
    ridge = max(1.0, float(np.diag(together).mean()))
    neighbours.remember(known, ease_weights(together, ridge))


def choose_trust(network: RecommenderNetwork, held: HeldOut, seed: int) -> str:
    """Trust the neighbours as far as held-out purchases are ranked best by NDCG@10.

    They are not trusted at all where the best gain is within one standard error of none.
    Returns what was chosen, in a sentence.
    """
    neighbours, held = network.neighbours, held.sample(_MOST_CASES, seed)
    neighbours.trust.zero_()
    gains = _ndcg_of(network, held, TRUSTS)  # (trusts, C)
    means = gains.mean(1)
    best = int(means.argmax())
    surplus = gains[best] - gains[0]
    if surplus.mean() <= surplus.std() / np.sqrt(len(surplus)):
        best = 0
    neighbours.trust.fill_(TRUSTS[best])
    return (
        f"neighbours: trust {TRUSTS[best]:g} of {', '.join(f'{trust:g}' for trust in TRUSTS)}; "
        f"NDCG@10 {means[best]:.4f}, without them {means[0]:.4f}"
    )


def bought_together(shoppers: Rows, items: Rows, count: int) -> Matrix:
    """Return how many shoppers bought both of two items: (count, count), symmetric.

    The pairs (shopper, item) are different and ordered by shopper; items lie below `count`.
    """
    found = torch.zeros(count * count, dtype=torch.float64)
    sizes = np.bincount(shoppers)
    sizes = sizes[sizes > 0]
    ends = sizes.cumsum()
    pairs = (sizes * sizes).cumsum()
    first = 0
    while first < len(sizes):
        before = pairs[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(pairs, before + _PAIRS_AT_ONCE, side="right")))
        size, start = sizes[first:last], ends[first] - sizes[first]
        part = items[start : ends[last - 1]]
        # each item of a shopper beside all of the same shopper
        others = np.repeat(size, size)
        owners = np.repeat(ends[first:last] - size - start, size)
        step = np.arange(others.sum()) - np.repeat(others.cumsum() - others, others)
        flat = np.repeat(part * count, others) + part[np.repeat(owners, others) + step]
        found.index_add_(0, torch.from_numpy(flat), torch.ones(len(flat), dtype=torch.float64))
        first = last
    return found.view(count, count).numpy()


def ease_weights(together: Matrix, ridge: float) -> Matrix:
    """Return the weights from row to column, zeros on the diagonal: EASE's closed form."""
    matrix = torch.from_numpy(together.copy())
    matrix.diagonal().add_(ridge)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix)).numpy()
    weights: Matrix = np.divide(inverse, -np.diag(inverse), out=inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _bought(sequences: EventSequences) -> tuple[Rows, Rows]:
    """Return the different pairs of shopper and kept item, ordered by shopper."""
    labels = sequences.is_label
    pairs = np.unique(sequences.owners[labels] * sequences.items + sequences.inputs[labels])
    return pairs // sequences.items, pairs % sequences.items


@torch.inference_mode()
def _ndcg_of(network: RecommenderNetwork, held: HeldOut, trusts: tuple[float, ...]) -> Matrix:
    """Return each held-out purchase's NDCG@10 at each of the trusts, the first one 0."""
    places = np.empty((len(trusts), len(held.targets)), dtype=np.int64)
    for rows, batch, scores in scored(network, held):
        bought = kept_purchases(batch, network.config.max_events)
        sums = network.neighbours.sums(bought)
        for row, (trust, before) in enumerate(zip(trusts, (0.0, *trusts), strict=False)):
            network.neighbours.bonus(sums, trust - before).add_to(scores)
            places[row, rows] = places_of(scores, held, rows).cpu().numpy()
    return ndcg_of(places)
