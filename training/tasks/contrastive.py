"""Search and answers as one task: a query finds its passage among all others (bi-encoder).

L_task is `training.losses.contrastive_loss`: the passages of a batch, and hard negatives (shown and
not bought; candidates that do not answer), are the ones to tell apart. Letters: Q queries of a
batch, P its passages, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.language.examples import pad_ids
from training.language.language_model import LanguageModel, TrainingPooling
from training.language.token_store import TokenStore
from training.loop.schedule import Draw
from training.losses import contrastive_loss
from training.tasks.pairs import PairSet

HARD_NEGATIVES = 2  # of a query in a batch: each costs as much as the positive


class ContrastiveTask:
    """L_task of a set of pairs."""

    def __init__(
        self,
        pairs: PairSet,
        rows: NDArray[np.int64],
        *,
        pad_id: int,
        pooling: TrainingPooling,
        temperature: float = 0.05,
        popularity: bool = True,
    ) -> None:
        """Learn from these rows of the pairs.

        Args:
            popularity: correct for popular passages standing among the negatives more often.
        """
        self.module = nn.Module()
        self._pairs = pairs
        self._rows = rows
        self._pad_id = pad_id
        self._pooling: TrainingPooling = pooling
        self._temperature = temperature
        # Which passage answers which query, whether drawn or not: sorted, for a look-up by number.
        self._known = np.unique(pairs.groups[rows] * len(pairs.keys) + pairs.positives[rows])
        counts = np.bincount(pairs.positives[rows], minlength=len(pairs.keys))
        self._log_shares = np.log(np.maximum(counts, 1) / len(rows)) if popularity else None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair: what the passage costs."""
        return np.asarray(self._pairs.passages.lengths[self._pairs.positives[self._rows]])

    def batch(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """Return the tensors of `loss` for the drawn pairs."""
        rows = [int(self._rows[draw.row]) for draw in draws]
        passages = dict.fromkeys(int(self._pairs.positives[row]) for row in rows)
        for draw, row in zip(draws, rows, strict=True):
            passages.update(dict.fromkeys(self._hard(draw, row)))
        columns = np.array(list(passages))  # (P)
        place = {passage: column for column, passage in enumerate(passages)}
        groups = self._pairs.groups[rows]  # (Q)
        numbers = groups[:, None] * len(self._pairs.keys) + columns[None, :]  # (Q, P)
        batch = {
            "queries": pad_ids([_ids(self._pairs.queries, row) for row in rows], self._pad_id),
            "passages": pad_ids([_ids(self._pairs.passages, row) for row in columns], self._pad_id),
            "positives": torch.tensor([place[int(self._pairs.positives[row])] for row in rows]),
            "excluded": torch.from_numpy(np.isin(numbers, self._known)),
            "weights": torch.from_numpy(self._pairs.weights[rows].astype(np.float32)),
        }
        if self._log_shares is not None:
            shares = self._log_shares[columns].astype(np.float32)
            batch["log_shares"] = torch.from_numpy(shares)
        return batch

    def loss(self, language_model: LanguageModel, batch: dict[str, Any]) -> Tensor:
        """Return the contrastive loss of a batch."""
        return contrastive_loss(
            language_model.vectors(batch["queries"], self._pooling),
            language_model.vectors(batch["passages"], self._pooling),
            batch["positives"],
            temperature=self._temperature,
            excluded=batch["excluded"],
            weights=batch["weights"],
            log_shares=batch.get("log_shares"),
        )

    def _hard(self, draw: Draw, row: int) -> list[int]:
        """Return a few hard negatives, the first of the list more likely than the later ones."""
        negatives = self._pairs.negatives_of(row)
        if len(negatives) <= HARD_NEGATIVES:
            return [int(negative) for negative in negatives]
        likely = 1 / np.arange(1, len(negatives) + 1)
        generator = draw.generator()
        chosen = generator.choice(
            len(negatives), HARD_NEGATIVES, replace=False, p=likely / likely.sum()
        )
        return [int(negatives[place]) for place in chosen]


def encode_store(
    model: LanguageModel,
    store: TokenStore,
    rows: Sequence[int],
    *,
    pooling: TrainingPooling,
    pad_id: int,
    batch_rows: int = 64,
) -> NDArray[np.float32]:
    """Return unit vectors (n, D) of rows of a store, long ones beside long ones."""
    lengths = store.lengths
    order = sorted(range(len(rows)), key=lambda place: lengths[rows[place]])
    vectors = np.zeros((len(rows), model.width), dtype=np.float32)
    for places in _chunks(order, batch_rows):
        batch = pad_ids([_ids(store, rows[place]) for place in places], pad_id)
        on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with torch.no_grad():
            vectors[places] = model.vectors(on_device, pooling).cpu().numpy()
    return vectors


def _chunks(places: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _ids(store: TokenStore, row: int) -> NDArray[np.int64]:
    return store[int(row)].ids.astype(np.int64)
