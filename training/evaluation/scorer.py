"""A trained recommender as a `Scorer`: its folder, bound to the items of some interactions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.learnt.files import CONFIG, LoadedRecommender, load_recommender
from models.learnt.history_batch import PURCHASE, UNKNOWN_ITEM, HistoryBatch
from models.learnt.successors import Bonus
from models.text_encoder import TextTrunk
from training.data.interactions import Interactions, Rows
from training.evaluation.evaluate_recommendations import EvaluationError
from training.evaluation.full_ranking import Scores
from training.recommender.job import add_texts
from training.recommender.sequences.event_sequences import from_purchases

Vectors = NDArray[np.float32]


def recommender_folder(release: Path) -> Path:
    """Return the recommender's folder: the one given, or `recommender` inside a release."""
    inside = release / "recommender"
    return inside if (inside / CONFIG).is_file() else release


def item_text_vectors(products: Path, train: Interactions, trunk: TextTrunk) -> Vectors:
    """Return the vectors of the products' texts, (V, W); zeros for items without a text."""
    items = from_purchases(train.users, train.items, train.item_ids)
    vectors = add_texts(items, products, [], trunk).text_vectors
    assert vectors is not None
    return vectors


class RecommenderScorer:
    """Scores as the worker does: vectors and what is added; items without a vector get -inf.

    An item that training never met has a vector only where the network reads texts. Events of
    items without a vector are left out of the histories.
    """

    def __init__(
        self,
        loaded: LoadedRecommender,
        item_ids: Sequence[str],
        *,
        name: str = "recommender",
        text_vectors: Vectors | None = None,
    ) -> None:
        """Bind a network to V items; `text_vectors` (V, W) where it was trained with texts.

        Raises:
            EvaluationError: it needs texts and got none, or knows none of the items.
        """
        self._network, self._name = loaded.network, name
        width = loaded.network.config.text_width
        if width and (text_vectors is None or text_vectors.shape != (len(item_ids), width)):
            raise EvaluationError(
                f"{name} was trained with product texts: name the products with --products, and the"
                " trunk they were encoded with"
            )
        rows = {item_id: row for row, item_id in enumerate(loaded.item_ids)}
        found = [rows.get(item_id, UNKNOWN_ITEM) for item_id in item_ids]
        self._rows = torch.tensor(found, dtype=torch.int64)
        self._texts = torch.zeros((len(item_ids), 0))
        if width and text_vectors is not None:
            self._texts = torch.from_numpy(text_vectors)
        self._has_vector = (self._rows >= 0) | (self._texts != 0).any(1)
        self.unknown_items = int((self._rows < 0).sum())
        if not self._has_vector.any():
            raise EvaluationError(
                f"{name} knows none of the {len(item_ids):,} items: was it trained on these"
                f" interactions? Its items look like {loaded.item_ids[0]!r}, these like"
                f" {item_ids[0]!r}"
            )
        device = self._network.device
        with torch.inference_mode():
            vectors = self._network.encode_items(
                self._rows.to(device), self._texts.to(device) if width else None
            )
        self._item_vectors = vectors.float()
        columns = torch.full((len(loaded.item_ids),), UNKNOWN_ITEM)
        columns[self._rows[self._rows >= 0]] = (self._rows >= 0).nonzero().flatten()
        self._columns = columns.to(device)  # of the network's items among the V

    @classmethod
    def load(
        cls, release: Path, item_ids: Sequence[str], text_vectors: Vectors | None = None
    ) -> RecommenderScorer:
        """Read a recommender folder, or a release with one inside. Raises ModelUnavailable."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = load_recommender(recommender_folder(release), device)
        return cls(loaded, item_ids, name=release.name, text_vectors=text_vectors)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._name

    @torch.inference_mode()
    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return the scores, (n, V)."""
        batch = self._batch(histories, times_ms).to(self._network.device)
        shoppers = self._network.encode_histories(batch)
        scores = shoppers @ self._item_vectors.T
        for bonus in self._network.bonuses(batch, shoppers):
            columns = self._columns[bonus.rows]
            Bonus(columns.clamp(min=0), bonus.values * (columns >= 0)).add_to(scores)
        scores[:, ~self._has_vector] = -torch.inf
        found: Scores = scores.float().cpu().numpy()
        return found

    def _batch(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> HistoryBatch:
        newest = self._network.config.max_events
        has_vector = self._has_vector.numpy()
        items: list[Rows] = []
        gaps: list[NDArray[np.float32]] = []
        for case, history in enumerate(histories):
            known = np.flatnonzero(has_vector[history])[-newest - 1 :]
            gap = np.zeros(len(known), np.float32)
            if times_ms is not None:
                gap[1:] = np.diff(times_ms[case][known]) / 1000
            items.append(history[known[-newest:]])
            gaps.append(gap[-newest:])
        events = torch.from_numpy(np.concatenate(items)) if items else torch.zeros(0).long()
        return HistoryBatch(
            lengths=torch.tensor([len(rows) for rows in items], dtype=torch.int64),
            kinds=torch.full((len(events),), PURCHASE),
            item_rows=self._rows[events],
            vectors=self._texts[events],
            gaps_s=torch.from_numpy(np.concatenate(gaps)) if gaps else torch.zeros(0),
            stars=torch.zeros(len(events)),
        )
