"""What every recommender has to beat: popularity, personal frequency, item-kNN, first-order Markov.

Each is a `Scorer`, made from the training part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.interactions import Interactions, Rows
from training.evaluation.evaluate_recommendations import Scorer
from training.evaluation.full_ranking import Scores

_ROWS_AT_ONCE = 512


class PopularityScorer:
    """Everyone gets what most people chose."""

    name = "popularity"

    def __init__(self, train: Interactions) -> None:
        """Count the training part."""
        self._counts = np.bincount(train.items, minlength=train.item_count).astype(np.float32)

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return the counts, (n, V)."""
        return np.tile(self._counts, (len(histories), 1))


class PersonalFrequencyScorer:
    """What the user chose most often comes again; popularity ranks the rest (and breaks ties).

    The strongest simple rule for groceries (Li et al. 2023, "A next basket recommendation reality
    check").
    """

    name = "personal-frequency"

    def __init__(self, train: Interactions) -> None:
        """Count the training part."""
        counts = np.bincount(train.items, minlength=train.item_count)
        self._below_one = (counts / (counts.max() + 1)).astype(np.float32)

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return how often each user chose each item, (n, V)."""
        scores = np.tile(self._below_one, (len(histories), 1))
        for row, history in enumerate(histories):
            np.add.at(scores[row], history, 1)
        return scores


class ItemKnnScorer:
    """The items most alike those of the history, by the users they share (Sarwar et al. 2001).

    Alike is the cosine of two items' binary columns of users, shrunk by `shrinkage` for items with
    few users; each item knows its `neighbours` nearest. The score adds up over the different items
    of the history. Only the `most_chosen` items take part, which bounds the work on large
    catalogues (whose rare items share too few users to say anything).
    """

    name = "item-knn"

    def __init__(
        self,
        train: Interactions,
        neighbours: int = 200,
        shrinkage: float = 10.0,
        most_chosen: int = 20_000,
    ) -> None:
        """Find every item's neighbours, some rows of the table of pairs at a time."""
        self._items = train.item_count
        columns, known = _user_columns(train, most_chosen)  # (c, U), (c,)
        frequency = torch.sparse.sum(columns, 1).to_dense()  # (c,)
        nearest = min(neighbours, len(known))
        self._neighbours = np.zeros((self._items, nearest), np.int64)
        self._alike = np.zeros((self._items, nearest), np.float32)
        for start in range(0, len(known), _ROWS_AT_ONCE):
            rows = torch.arange(start, min(start + _ROWS_AT_ONCE, len(known)))
            some = columns.index_select(0, rows).to_dense()  # (r, U)
            alike = torch.sparse.mm(columns, some.T).T.contiguous()  # (r, c): users shared
            alike /= (frequency[rows].unsqueeze(1) * frequency).sqrt_().add_(shrinkage)
            alike[torch.arange(len(rows)), rows] = 0
            best = alike.topk(nearest, dim=1)
            self._neighbours[known[rows.numpy()]] = known[best.indices.numpy()]
            self._alike[known[rows.numpy()]] = best.values.numpy()

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return the summed likeness to each history, (n, V)."""
        scores = np.zeros((len(histories), self._items), np.float32)
        for row, history in enumerate(histories):
            different = np.unique(history)
            places, alike = self._neighbours[different].ravel(), self._alike[different].ravel()
            scores[row] = np.bincount(places, weights=alike, minlength=self._items)
        return scores


class MarkovScorer:
    """What most often came right after the user's last item; popularity where nothing did."""

    name = "markov"

    def __init__(self, train: Interactions) -> None:
        """Count neighbouring pairs of the training part."""
        self._items = train.item_count
        counts = np.bincount(train.items, minlength=self._items)
        self._below_one = (counts / (counts.max() + 1)).astype(np.float32)
        pairs = [part[:-1] * self._items + part[1:] for part in train.sequences() if len(part) > 1]
        keys = np.concatenate(pairs) if pairs else np.zeros(0, np.int64)
        different, self._counts = np.unique(keys, return_counts=True)
        before, self._after = different // self._items, different % self._items
        self._starts = np.searchsorted(before, np.arange(self._items + 1))

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return how often each item came after each history's last one, (n, V)."""
        scores = np.tile(self._below_one, (len(histories), 1))
        for row, history in enumerate(histories):
            if len(history):
                found = slice(self._starts[history[-1]], self._starts[history[-1] + 1])
                scores[row, self._after[found]] += self._counts[found]
        return scores


def _user_columns(train: Interactions, most_chosen: int) -> tuple[torch.Tensor, Rows]:
    """Return who chose each of the most chosen items, (c, U) sparse, and their rows (c,)."""
    keys: NDArray[np.int64] = np.unique(train.items * train.user_count + train.users)
    items, users = keys // train.user_count, keys % train.user_count
    counts = np.bincount(items, minlength=train.item_count)
    known = np.sort(np.argsort(-counts, kind="stable")[:most_chosen])
    known = known[counts[known] > 0]
    place = np.full(train.item_count, -1)
    place[known] = np.arange(len(known))
    kept = place[items] >= 0
    places = torch.from_numpy(np.stack([place[items[kept]], users[kept]]))
    columns = torch.sparse_coo_tensor(
        places,
        torch.ones(places.shape[1]),
        (len(known), train.user_count),
        is_coalesced=True,
        check_invariants=True,
    )
    return columns, known


BASELINES: Mapping[str, Callable[[Interactions], Scorer]] = {
    PopularityScorer.name: PopularityScorer,
    PersonalFrequencyScorer.name: PersonalFrequencyScorer,
    ItemKnnScorer.name: ItemKnnScorer,
    MarkovScorer.name: MarkovScorer,
}
